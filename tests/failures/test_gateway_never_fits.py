"""A call that can never fit is refused at once, whatever keeps the limits, and is not told to come again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from served import Answer, Served

TEAM_KEY = "the-key-of-a-team-5d20"


def deployment(**fields: Any) -> dict[str, Any]:
    return {"model": {"format": "Custom", "name": "m"}, "provider": {"type": "scripted"}, **fields}


TIGHT = {"tokens_per_minute": 400, "wait_seconds": 3600}
CONFIG: dict[str, Any] = {
    "keys": {"team": {"key1": "env:TEAM_KEY", "limits": {"tokens_per_minute": 300}}},
    "deployments": {
        "tight": deployment(limits=TIGHT, default=True),
        "spills": deployment(limits=TIGHT, spillover="roomy"),
        "spills-in-vain": deployment(limits=TIGHT, spillover="tight"),
        "roomy": deployment(),
        "short": deployment(profile={"context": 100}, limits={"tokens_per_minute": None}, spillover="roomy"),
        "saved": deployment(budget={"tokens": 200, "per": "day"}),
    },
}
STORES = {
    "memory": {},
    "workers": {"server": {"workers": 2}},
    "sqlite": {"quota": {"store": "sqlite"}},
}


@pytest.fixture(scope="module", params=STORES)
def served(request: pytest.FixtureRequest, serve_module: Callable[..., Served]) -> Served:
    return serve_module({**CONFIG, **STORES[request.param]}, TEAM_KEY=TEAM_KEY)


def refused(answer: Answer, code: str) -> None:
    """At once, for good, and in words that name a way out."""
    assert (answer.status, answer.headers["x-ms-error-code"], answer.json["error"]["code"]) == (400, code, code)
    assert not {"retry-after", "retry-after-ms", "x-should-retry"} & answer.headers.keys()
    assert "Please reduce" in answer.json["error"]["message"]


CHAT = {"messages": [{"role": "user", "content": "Hi"}]}
PATHS = {
    "/models/chat/completions": CHAT,
    "/chat/completions": CHAT,
    "/openai/deployments/{deployment}/chat/completions?api-version=2024-10-21": CHAT,
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"prompt": "Hi"},
    "/models/completions": {"prompt": "Hi"},
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", PATHS)
def test_more_than_the_whole_limit_is_400_on_every_surface(served: Served, path: str, stream: bool) -> None:
    for _ in range(2):
        body = {**PATHS[path], "model": "tight", "max_tokens": 500, "stream": stream}
        refused(served.call("POST", path.format(deployment="tight"), body), "tokens_limit_reached")


def test_a_prompt_alone_can_be_too_much_for_a_limit(served: Served) -> None:
    refused(served.chat("word " * 1000, model="tight"), "tokens_limit_reached")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/models/chat/completions", "/v1/chat/completions"])
def test_more_than_the_context_is_400_and_stays_where_it_was_asked(served: Served, path: str, stream: bool) -> None:
    for fields in (
        {"max_tokens": 101},
        {"max_tokens": 10**9},
        {"messages": [{"role": "user", "content": "x" * 26_000}]},
    ):
        answer = served.call("POST", path, {**CHAT, "model": "short", "stream": stream, **fields})
        refused(answer, "context_length_exceeded")
    assert served.call("POST", path, {**CHAT, "model": "short", "max_tokens": 100}).status == 200


def test_a_deployment_s_limit_spills_over_to_one_that_is_larger(served: Served) -> None:
    answer = served.chat(model="spills", max_tokens=500)
    assert (answer.status, answer.headers["x-ms-deployment-name"]) == (200, "roomy")
    refused(served.chat(model="spills-in-vain", max_tokens=500), "tokens_limit_reached")


def test_a_key_s_limit_goes_with_it(served: Served) -> None:
    body = {**CHAT, "model": "spills", "max_tokens": 500}
    refused(served.call("POST", "/models/chat/completions", body, key=TEAM_KEY), "tokens_limit_reached")


def test_a_whole_budget_is_a_limit_too(served: Served) -> None:
    refused(served.chat(model="saved", max_tokens=300), "tokens_limit_reached")
    assert served.chat(model="saved", max_tokens=20).status == 200
