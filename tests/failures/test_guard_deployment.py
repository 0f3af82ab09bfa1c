"""A guard model behind a deployment of the same server: it is asked as a caller of its own, whose calls are recorded
and never filtered, and its outage follows the policy."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from scripted_upstream import ScriptedUpstream, document
from served import Served

MODEL = {"format": "Custom", "name": "any", "version": "1"}


@pytest.fixture(scope="module")
def guard() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def served(serve_module: Callable[..., Served], guard: ScriptedUpstream) -> Served:
    policy = {"filters": ["guard_model"], "prompt": {"jailbreak": "off"}}
    return serve_module(
        {
            "providers": {
                "guards": {"type": "openai_compatible", "base_url": guard.url},
                "scripted": {"type": "scripted"},
            },
            "content_safety": {"guard": {"deployment": "guard", "form": "llama_guard", "timeout_seconds": 5}},
            "content_filters": {"lenient": policy, "strict": {**policy, "on_outage": "refuse"}},
            "deployments": {
                "guard": {"model": MODEL, "provider": "guards", "content_filter": "lenient"},
                "lenient": {"model": MODEL, "provider": "scripted", "content_filter": "lenient"},
                "strict": {"model": MODEL, "provider": "scripted", "content_filter": "strict"},
            },
        }
    )


def says(guard: ScriptedUpstream, text: str) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}
    guard.says(document({"id": "x", "object": "chat.completion", "model": "any", "choices": [choice], "usage": usage}))


def test_what_the_guard_calls_unsafe_is_blocked_and_its_calls_are_recorded(
    served: Served, guard: ScriptedUpstream
) -> None:
    says(guard, "unsafe\nS1")
    refused = served.chat("Hello!", model="strict")
    assert refused.status == 400
    assert refused.json["error"]["code"] == "content_filter"
    asked = [record for record in served.journal() if record.deployment == "guard"]
    assert [record.principal for record in asked] == ["content-filter"]
    assert asked[0].surface == "content_filter"


def test_what_it_calls_safe_passes_and_the_guard_is_not_guarded(served: Served, guard: ScriptedUpstream) -> None:
    says(guard, "safe")
    answer = served.chat("Hello!", model="lenient")
    assert answer.status == 200
    before = len(served.journal())
    direct = served.chat("Hello!", model="guard")  # for its callers it is a deployment like any other
    assert direct.status == 200
    assert len(served.journal()) - before == 3  # the call itself, its prompt and its completion judged


def test_without_an_answer_the_policy_decides(served: Served, guard: ScriptedUpstream) -> None:
    guard.says(b"HTTP/1.1 500 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    assert served.chat("Hello!", model="lenient").status == 200
    assert served.chat("Hello!", model="strict").status == 503
