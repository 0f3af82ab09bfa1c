"""No parameter is ignored with a 200: each that the API documents is carried out, refused, or named as dropped, on
every surface, for every kind of provider."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from modelport.core.catalog import Target
from modelport.core.content import Message
from modelport.core.requests import ChatRequest
from modelport.dialects.openai_chat.requests import decode_chat, decode_completions
from modelport.dialects.openai_chat.upstream import UpstreamCodec, UpstreamFacts
from modelport.engine.service import HEEDED_EXTRAS, EngineProvider

from .harness import post, whole
from .shared import Client, Scenario, Shared, player, shared
from .test_passing import TARGETS

CONFIG = """
providers:
  up: {{type: openai_compatible, base_url: "http://127.0.0.1:{port}/v1"}}
  script: {{type: scripted}}
deployments:
  up:
    model: {{format: Custom, name: up}}
    provider: up
    limits: {{tokens_per_minute: null, requests_per_minute: null}}
  script:
    model: {{format: Custom, name: script}}
    provider: script
    limits: {{tokens_per_minute: null, requests_per_minute: null}}
"""
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
SAMPLING: dict[str, Any] = {
    "frequency_penalty": 0.5,
    "presence_penalty": 0.5,
    "temperature": 0.5,
    "top_p": 0.5,
    "max_tokens": 5,
    "stop": ["x"],
    "seed": 3,
    "n": 2,
    "user": "u",
}
FIELDS: dict[str, dict[str, Any]] = {
    "chat/completions": {
        **SAMPLING,
        "max_completion_tokens": 5,
        "response_format": {"type": "json_object"},
        "tools": [TOOL],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "modalities": ["text"],
        "user_security_context": {"application_name": "a"},
        "logprobs": True,
        "top_logprobs": 2,
        "logit_bias": {"1": 1},
        "reasoning_effort": "low",
        "metadata": {"a": "b"},
        "store": False,
        "prediction": {"type": "content", "content": "x"},
        "service_tier": "auto",
        "data_sources": [{"type": "x"}],
        "verbosity": "low",
        "top_k": 4,
    },
    "completions": {**SAMPLING, "best_of": 3, "echo": True, "suffix": "s", "logprobs": 1},
    "embeddings": {"dimensions": 8, "encoding_format": "base64", "input_type": "query", "user": "u"},
}
OTHER_NAMES = {"max_completion_tokens": "max_tokens"}
"""A parameter that may be sent by another of its names."""
CARRIED_OUT_BY_SCRIPTS = {
    *("max_tokens", "max_completion_tokens", "stop", "n", "response_format", "tools", "tool_choice", "echo"),
    *("parallel_tool_calls", "logprobs", "top_logprobs", "dimensions", "encoding_format"),
}
CASES = [
    (operation, name, base)
    for operation, fields in FIELDS.items()
    for name in fields
    for base in TARGETS
    if not (base == "models" and operation == "completions" and name == "user")
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    with shared(tmp_path_factory.mktemp("parameters"), CONFIG) as found:
        yield found


@pytest.fixture
def play(server: Shared) -> Callable[[Scenario], None]:
    return player(server)


def asked(base: str, deployment: str, operation: str, name: str) -> bytes:
    """A request with this parameter, and with those without which it means nothing."""
    given: dict[str, Any] = {"model": deployment, name: FIELDS[operation][name]}
    beside = {
        "top_logprobs": {"logprobs": True},
        "tool_choice": {"tools": [TOOL]},
        "parallel_tool_calls": {"tools": [TOOL]},
    }
    given |= beside.get(name, {})
    input = {"chat/completions": {"messages": [{"role": "user", "content": "x"}]}, "completions": {"prompt": "x"}}
    given |= input.get(operation, {"input": "x"})
    target = TARGETS[base].replace("/served/", f"/{deployment}/").format(operation=operation)
    return post(target, json.dumps(given).encode(), "extra-parameters: pass-through")


def answered(operation: str, choices: int) -> bytes:
    """What an upstream says to it."""
    if operation == "embeddings":
        return b'{"data":[{"index":0,"embedding":[0.5]}],"usage":{"prompt_tokens":1,"total_tokens":1}}'
    said = {"message": {"role": "assistant", "content": "a"}} if operation != "completions" else {"text": "a"}
    made = [{"index": index, "finish_reason": "stop", **said} for index in range(choices)]
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return json.dumps({"choices": made, "usage": usage}).encode()


def named(headers: list[tuple[str, str]]) -> list[str]:
    return dict(headers).get("x-modelport-dropped-parameters", "").split(", ")


@pytest.mark.parametrize(("operation", "name", "base"), CASES)
def test_an_upstream_gets_it_or_the_caller_is_told(
    play: Callable[[Scenario], None], operation: str, name: str, base: str
) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        server.upstream.pieces = whole(answered(operation, 2 if name == "n" else 1))
        answer = await client.ask(asked(base, "up", operation, name))
        if answer.status in (400, 422):
            assert name in json.loads(answer.body)["error"]["message"]
            return
        assert answer.status == 200, answer.body
        sent = json.loads(server.upstream.seen[-1].partition(b"\r\n\r\n")[2])
        if name in sent:
            assert sent[name] == FIELDS[operation][name]
        else:
            other = OTHER_NAMES.get(name)
            assert name in named(answer.headers) or (other and sent[other] == FIELDS[operation][name])

    play(scenario)


@pytest.mark.parametrize(("operation", "name", "base"), CASES)
def test_a_script_carries_it_out_or_the_caller_is_told(
    play: Callable[[Scenario], None], operation: str, name: str, base: str
) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        answer = await client.ask(asked(base, "script", operation, name))
        if answer.status in (400, 422):
            assert name in json.loads(answer.body)["error"]["message"]
            return
        assert answer.status == 200, answer.body
        assert (name in named(answer.headers)) is (name not in CARRIED_OUT_BY_SCRIPTS)

    play(scenario)


@pytest.mark.parametrize(("operation", "name"), sorted({case[:2] for case in CASES if case[0] != "embeddings"}))
def test_a_worker_gets_it_or_the_caller_is_told(operation: str, name: str) -> None:
    """What a worker gets it carries out or refuses; what it would pass over is named."""
    body = asked("v1", "up", operation, name).partition(b"\r\n\r\n")[2]
    request = decode_chat(body) if operation == "chat/completions" else decode_completions(body)
    worker: Any = SimpleNamespace(address=SimpleNamespace(socket_path="/x", secret="s"))
    provider = EngineProvider(worker)
    sent = json.loads(provider.encode(request, Target("e", "m")).body)
    reaches_worker = name in sent or OTHER_NAMES.get(name, name) in sent
    is_named = name in provider.ignored(request)
    assert reaches_worker or is_named
    assert is_named is ((name in request.extra and name not in HEEDED_EXTRAS) or name == "user_security_context")


def test_earlier_thoughts_that_a_host_does_not_take_are_named() -> None:

    request = ChatRequest(messages=(Message("assistant", "a", reasoning_content="hm"), Message("user", "b")))
    assert UpstreamCodec(UpstreamFacts(takes_reasoning=False)).ignored(request) == ("messages.reasoning_content",)
    assert UpstreamCodec().ignored(request) == ()
