"""With `x-modelport-explain: true` it is said what a call would do, and nothing is asked, taken or recorded."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from .harness import post
from .shared import CHAT, MESSAGES, Client, Shared, shared

CONFIG = """
providers: {{up: {{type: openai_compatible, base_url: "http://127.0.0.1:{port}/v1"}}}}
deployments:
  chat:
    model: {{format: OpenAI, name: gpt-4o}}
    targets: [{{provider: up, model: a}}, {{provider: up, model: b, priority: 1}}]
    limits: {{tokens_per_minute: 5000, requests_per_minute: 7}}
    default: true
  mistral: {{model: {{format: Mistral AI, name: Mistral-large}}, provider: up}}
keys:
  team: {{key1: env:TEAM, explain: true, limits: {{tokens_per_minute: 900}}, budget: {{per: day, tokens: 10000}}}}
  other: {{key1: env:OTHER}}
"""
TEAM, OTHER = "team-key-0123456789abcdef", "other-key-0123456789abcdef"
EXPLAIN = "x-modelport-explain: true"
PATHS = (CHAT, "/openai/v1/chat/completions", "/models/chat/completions", "/openai/deployments/chat/chat/completions")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    with shared(tmp_path_factory.mktemp("explain"), CONFIG, TEAM=TEAM, OTHER=OTHER) as found:
        yield found


Explain = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def explained(server: Shared) -> Explain:
    """Status and body of one explanation, after which nothing has happened."""

    def ask(path: str = CHAT, *headers: str, key: str | None = None, **fields: Any) -> tuple[int, dict[str, Any]]:
        found: list[tuple[int, dict[str, Any]]] = []

        async def play() -> None:
            server.again()
            client = await Client.of(server.gateway)
            body = json.dumps({"messages": MESSAGES, **fields}).encode()
            given = {} if key is None else {"key": key}
            for _ in range(2):  # the second head is known again
                answer = await client.ask(post(path, body, EXPLAIN, *headers, **given))
                found.append((answer.status, json.loads(answer.body)))
            client.go()
            gateway = server.gateway.application.gateway
            assert not server.upstream.seen
            assert not server.gateway.records()
            assert not server.gateway.seen.started
            assert gateway.running == 0
            accounts = gateway.pipeline.quota.quota._accounts
            assert all(account.running == account.held_tokens == 0 for account in accounts.values())

        coroutine: Coroutine[Any, Any, None] = play()
        server.run(coroutine)
        assert found[0] == found[1]
        return found[0]

    return ask


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [False, True])
def test_what_the_call_would_do_is_said(explained: Explain, path: str, stream: bool) -> None:
    status, found = explained(path, max_tokens=20, temperature=0.5, stream=stream)
    assert status == 200
    assert found["object"] == "modelport.explanation"
    assert found["deployment"]["name"] == "chat"
    assert found["deployment"]["named_by"] == ("path" if "deployments" in path else "default")
    assert [(target["model"], target["state"]) for target in found["targets"]] == [("a", "ready"), ("b", "ready")]
    assert "only if those before it fail" in found["targets"][1]["why"]
    assert set(found["parameters"]["kept"]) == {"temperature", "max_tokens"}
    assert found["tokens"]["completion"] == 20
    assert found["tokens"]["is_bounded"]
    assert found["limits"][0]["limit_tokens"] == found["limits"][0]["remaining_tokens"] == 5000
    assert found["refused"] is None


def test_a_caller_that_may_sees_its_own_limits_and_budget(explained: Explain) -> None:
    status, found = explained(key=TEAM)
    assert (status, found["caller"]) == (200, "team")
    assert [item["of"] for item in found["limits"]] == ["chat", "key:team"]
    assert [(item["of"], item["remaining_tokens"]) for item in found["budgets"]] == [("key:team", 10000)]
    assert not found["tokens"]["is_bounded"]


def test_others_are_told_nothing(explained: Explain) -> None:
    status, found = explained(key=OTHER)
    assert (status, found["error"]["code"]) == (401, "PermissionDenied")
    assert "targets" not in json.dumps(found)


def test_what_is_dropped_and_what_is_refused_is_named(explained: Explain) -> None:
    _, found = explained("/models/chat/completions", "extra-parameters: drop", top_k=3, model="mistral")
    assert found["parameters"]["dropped"] == ["top_k"]
    status, found = explained("/models/chat/completions", top_k=3, model="mistral")
    assert (status, found["refused"]["status"]) == (200, 400)
    assert [item["name"] for item in found["refused"]["parameters"]] == ["top_k"]


def test_a_model_that_is_not_there_and_a_wrong_body_are_refused_as_ever(explained: Explain) -> None:
    assert explained(model="nobody")[0] == 404
    assert explained(temperature="hot")[0] in (400, 422)


def test_a_limit_without_room_is_seen(explained: Explain) -> None:
    _, found = explained(key=TEAM, max_tokens=950)
    assert [item["has_room"] for item in found["limits"]] == [True, False]
