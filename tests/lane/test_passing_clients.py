"""What passes through, as the openai package sees it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pydantic
import pytest

from .harness import KEY, whole
from .shared import Client, Scenario, Shared, player, shared
from .test_passing import CONFIG, DETAILS, SIGNED, delta, events, message, sent

HELLO: Any = [{"role": "user", "content": "Hello"}]
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": ""}, "extra_content": SIGNED}


class Verdict(pydantic.BaseModel):
    """What is asked for."""

    is_good: bool


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    with shared(tmp_path_factory.mktemp("passing-clients"), CONFIG) as found:
        yield found


@pytest.fixture
def play(server: Shared) -> Callable[[Scenario], None]:
    return player(server)


def sdk(server: Shared) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{server.gateway.port}/v1", api_key=KEY, max_retries=0)


def test_parse_shows_a_refusal(play: Callable[[Scenario], None]) -> None:
    async def scenario(server: Shared, _: Client) -> None:
        server.upstream.pieces = whole(json.dumps(message(content=None, refusal="I will not.")).encode())
        async with sdk(server) as client:
            answer = await client.chat.completions.parse(model="served", messages=HELLO, response_format=Verdict)
        assert (answer.choices[0].message.refusal, answer.choices[0].message.parsed) == ("I will not.", None)

    play(scenario)


def test_a_streamed_refusal_is_one_in_the_end(play: Callable[[Scenario], None]) -> None:
    async def scenario(server: Shared, _: Client) -> None:
        server.upstream.pieces = events(
            delta(role="assistant", content=None), delta(refusal="I will"), delta(refusal=" not."), delta(finish="stop")
        )
        async with (
            sdk(server) as client,
            client.chat.completions.stream(model="served", messages=HELLO, response_format=Verdict) as stream,
        ):
            answer = await stream.get_final_completion()
        assert (answer.choices[0].message.refusal, answer.choices[0].message.parsed) == ("I will not.", None)

    play(scenario)


def test_an_answer_that_is_sent_back_keeps_what_was_signed(play: Callable[[Scenario], None]) -> None:
    async def scenario(server: Shared, _: Client) -> None:
        said = message("tool_calls", content=None, tool_calls=[CALL], reasoning_details=DETAILS)
        server.upstream.pieces = whole(json.dumps(said).encode())
        async with sdk(server) as client:
            answer = await client.chat.completions.create(model="served", messages=HELLO)
            turn: Any = answer.choices[0].message
            result: Any = {"role": "tool", "tool_call_id": "c", "content": "4"}
            await client.chat.completions.create(model="served", messages=[*HELLO, turn, result])
        assert json.loads(turn.tool_calls[0].function.arguments) == {}
        back = sent(server)["messages"][1]
        assert back["tool_calls"] == [{**CALL, "function": {"name": "f", "arguments": "{}"}}]
        assert back["reasoning_details"] == DETAILS

    play(scenario)
