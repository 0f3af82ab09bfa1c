"""Calls in the dialect of `functions`, and refusals of an upstream: what the caller gets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .harness import post, whole
from .shared import Client, Scenario, Shared, player, shared
from .test_passing import CONFIG, TARGETS, asked, chunks_of, delta, events, message, object_of, sent

FUNCTION = {"name": "look", "parameters": {"type": "object"}}
ARGUMENTS = '{"at":"it"}'
OPENAI = [base for base in TARGETS if base != "models"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    with shared(tmp_path_factory.mktemp("older"), CONFIG) as found:
        yield found


@pytest.fixture
def play(server: Shared) -> Callable[[Scenario], None]:
    return player(server)


def answered(dialect: str, *, stream: bool) -> list[bytes]:
    """A call of an upstream that speaks this dialect."""
    function = {"name": "look", "arguments": ARGUMENTS}
    call = {"id": "c", "type": "function", "function": function}
    older = dialect == "functions"
    finish = "function_call" if older else "tool_calls"
    if not stream:
        said = {"function_call": function} if older else {"tool_calls": [call]}
        return whole(json.dumps(message(finish, content=None, **said)).encode())
    first, second = {"name": "look", "arguments": ARGUMENTS[:4]}, {"arguments": ARGUMENTS[4:]}
    if older:
        return events(delta(function_call=first), delta(function_call=second), delta(finish=finish))
    calls = [{"index": 0, "id": "c", "type": "function", "function": first}], [{"index": 0, "function": second}]
    return events(delta(tool_calls=calls[0]), delta(tool_calls=calls[1]), delta(finish=finish))


def called(answer: Any, key: str, *, stream: bool) -> tuple[list[Any], set[str], str]:
    """What the answer has under `key`, all keys of its message or deltas, and its reason."""
    if not stream:
        choice = object_of(answer)["choices"][0]
        return [choice["message"].get(key)], set(choice["message"]), choice["finish_reason"]
    choices = [chunk["choices"][0] for chunk in chunks_of(answer) if chunk["choices"]]
    found = [choice["delta"][key] for choice in choices if key in choice["delta"]]
    reason = next(choice["finish_reason"] for choice in choices if choice["finish_reason"])
    return found, {name for choice in choices for name in choice["delta"]}, reason


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("dialect", ["functions", "tools"])
@pytest.mark.parametrize("base", OPENAI)
def test_functions_are_answered_as_they_were_asked(
    play: Callable[[Scenario], None], base: str, dialect: str, stream: bool
) -> None:
    turns = [
        {"role": "user", "content": "Look"},
        {"role": "assistant", "content": None, "function_call": {"name": "look", "arguments": "{}"}},
        {"role": "function", "name": "look", "content": "nothing"},
    ]

    async def scenario(server: Shared, client: Client) -> None:
        server.upstream.pieces = answered(dialect, stream=stream)
        fields = {"functions": [FUNCTION], "function_call": {"name": "look"}, "messages": turns}
        found, names, reason = called(
            await client.ask(asked(base, stream=stream, **fields)), "function_call", stream=stream
        )
        assert "".join(call["arguments"] for call in found) == ARGUMENTS
        assert [call["name"] for call in found if "name" in call] == ["look"]
        assert (reason, "tool_calls" in names) == ("function_call", False)
        asked_for = sent(server)
        assert asked_for["tools"][0]["function"]["name"] == "look"
        assert asked_for["tool_choice"] == {"type": "function", "function": {"name": "look"}}
        assert not {"functions", "function_call"} & asked_for.keys()
        call, result = asked_for["messages"][1:]
        assert call["tool_calls"][0]["id"] == result["tool_call_id"]
        assert result["role"] == "tool"

    play(scenario)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("dialect", ["functions", "tools"])
def test_tools_are_answered_as_tools(play: Callable[[Scenario], None], dialect: str, stream: bool) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        server.upstream.pieces = answered(dialect, stream=stream)
        request = asked("v1", stream=stream, tools=[{"type": "function", "function": FUNCTION}])
        found, names, reason = called(await client.ask(request), "tool_calls", stream=stream)
        assert "".join(calls[0]["function"]["arguments"] for calls in found) == ARGUMENTS
        assert (reason, "function_call" in names) == ("tool_calls", False)

    play(scenario)


@pytest.mark.parametrize("base", TARGETS)
@pytest.mark.parametrize(
    "refusal",
    [
        {"error": {"code": "x", "message": "No.", "details": [{"loc": ["body", "seed"], "msg": "odd", "input": 7}]}},
        {"status": 422, "message": "odd", "detail": {"loc": ["body", "seed"]}},
        {"detail": [{"type": "int_type", "loc": ["body", "seed"], "msg": "odd"}]},
        {"error": {"message": "odd", "param": "seed", "code": "parameter_not_supported"}},
    ],
)
def test_a_422_of_the_upstream_shows_place_words_and_value(
    play: Callable[[Scenario], None], base: str, refusal: dict[str, Any]
) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        body = json.dumps(refusal).encode()
        head = b"HTTP/1.1 422 No\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        server.upstream.pieces = [head + body]
        target = TARGETS[base].format(operation="chat/completions")
        fields = {"model": "served", "messages": [{"role": "user", "content": "Say"}], "seed": 7}
        answer = await client.ask(post(target, json.dumps(fields).encode()))
        assert answer.status == 422
        [offence] = json.loads(answer.body)["detail"]
        assert (offence["loc"], offence["msg"], offence["input"]) == (["body", "seed"], "odd", 7)

    play(scenario)
