"""Tokens made are charged however a call ends and however its answer was asked for, at a real server before a scripted
upstream: one record each, with the same figures in quota and record."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modelport.core.usage import TokenUsage, UsageRecord
from scripted_upstream import STREAM_HEAD, ScriptedUpstream, document, events
from served import Served, eventually, serve, until, until_closed

CHAT, TEXTS, VECTORS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
MODEL = {"format": "Custom", "name": "far", "version": "1"}
LIMITS = {"tokens_per_minute": 1_000_000}
SHORT = {"first_event": 1, "between_events": 1, "whole": 2}
PROMPT = 5
"""Tokens of the prompt by its length."""
MOST = 40


def config(upstream: ScriptedUpstream, **more: Any) -> dict[str, Any]:
    return {
        "providers": {"far": {"type": "openai_compatible", "base_url": upstream.url}},
        "deployments": {
            "far": {"model": MODEL, "provider": "far", "limits": LIMITS, "default": True},
            "brief": {"model": MODEL, "provider": "far", "limits": LIMITS, "timeouts": SHORT},
        },
        **more,
    }


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def served(serve_module: Callable[..., Served], upstream: ScriptedUpstream) -> Served:
    return serve_module(config(upstream))


def asked(model: str = "far", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": MOST, **fields}


def delta(content: dict[str, Any], reason: str | None = None, **more: Any) -> dict[str, Any]:
    return {"id": "u", "model": "m", "choices": [{"index": 0, "delta": content, "finish_reason": reason}], **more}


WORDS = [delta({"content": "word "}) for _ in range(6)]
USED = {"usage": {"prompt_tokens": 9, "completion_tokens": 6, "total_tokens": 15}}
THOUGHTS = [delta({"reasoning_content": "hm "}) for _ in range(4)]
CALL = {"index": 0, "id": "c", "type": "function", "function": {"name": "sum", "arguments": '{"a":'}}
HALF = document({"id": "u", "choices": []})[:-4]
UNSEEN = (b"", {}, TokenUsage(input=PROMPT, output=MOST), "estimated")
SEEN = TokenUsage(input=PROMPT, output=6)
UNDER_WAY: dict[str, tuple[bytes, dict[str, Any], TokenUsage, str]] = {
    "whole": UNSEEN,
    "whole, half of it": (HALF, {}, TokenUsage(input=PROMPT, output=MOST), "estimated"),
    "whole, several": (b"", {"n": 3}, TokenUsage(input=PROMPT, output=3 * MOST), "estimated"),
    "whole, as events": (events(*WORDS, is_done=False), {}, SEEN, "counted"),
    "streamed, nothing yet": (b"", {"stream": True}, TokenUsage(input=PROMPT), "estimated"),
    "streamed, a head": (STREAM_HEAD, {"stream": True}, TokenUsage(input=PROMPT), "estimated"),
    "streamed": (events(*WORDS, is_done=False), {"stream": True}, SEEN, "counted"),
    "streamed, with counts": (
        events(*WORDS[1:], {**WORDS[0], **USED}, is_done=False),
        {"stream": True},
        TokenUsage(input=9, output=6),
        "reported",
    ),
    "streamed, counts of before": (
        events({**WORDS[0], "usage": {"prompt_tokens": 9, "completion_tokens": 1}}, *WORDS[1:], is_done=False),
        {"stream": True},
        TokenUsage(input=9, output=6),
        "estimated",
    ),
    "thoughts": (
        events(*THOUGHTS, is_done=False),
        {"stream": True},
        TokenUsage(input=PROMPT, reasoning=4),
        "counted",
    ),
    "a tool": (
        events(delta({"tool_calls": [CALL]}), is_done=False),
        {"stream": True},
        TokenUsage(input=PROMPT, output=1),
        "counted",
    ),
}


def record_of(served: Served, known: int) -> UsageRecord:
    eventually(lambda: len(served.journal()) > known, "the record")
    (record,) = served.journal()[known:]
    return record


@pytest.mark.parametrize(("answer", "fields", "expected", "source"), UNDER_WAY.values(), ids=UNDER_WAY)
def test_a_caller_that_leaves_is_charged(
    served: Served,
    upstream: ScriptedUpstream,
    answer: bytes,
    fields: dict[str, Any],
    expected: TokenUsage,
    source: str,
) -> None:
    upstream.says(answer, waits=True)
    known = len(served.journal())
    with served.connect() as connection:
        connection.sendall(served.request(CHAT, asked(**fields)))
        assert upstream.asked.acquire(timeout=60)
        if fields.get("stream") and b"data:" in answer:
            last = answer.count(b"data:") if b"tool" not in answer else 1
            received = b""
            while received.count(b"data:") < last:
                received += connection.recv(65536)
        else:
            settled(served)
    assert upstream.left.acquire(timeout=60)
    record = record_of(served, known)
    assert (record.ending, record.usage, record.usage_source) == ("cancelled", expected, source)


def settled(served: Served) -> None:
    """What the upstream has written is read: later requests have been answered meanwhile."""
    for _ in range(20):
        served.call("GET", "/health/live", key=None)


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        (TEXTS, {"model": "far", "prompt": ["abcd", "abcd"], "max_tokens": MOST}, TokenUsage(input=2, output=2 * MOST)),
        (VECTORS, {"model": "far", "input": ["abcdefgh"]}, TokenUsage(input=2)),
    ],
    ids=["completions", "embeddings"],
)
def test_so_is_every_operation(
    served: Served, upstream: ScriptedUpstream, path: str, body: dict[str, Any], expected: TokenUsage
) -> None:
    upstream.says(b"", waits=True)
    known = len(served.journal())
    with served.connect() as connection:
        connection.sendall(served.request(path, body))
        assert upstream.asked.acquire(timeout=60)
    assert upstream.left.acquire(timeout=60)
    record = record_of(served, known)
    assert (record.ending, record.usage, record.usage_source) == ("cancelled", expected, "estimated")


@pytest.mark.parametrize(("answer", "fields", "expected", "source"), UNDER_WAY.values(), ids=UNDER_WAY)
def test_a_call_that_the_gateway_gives_up_is_charged(
    served: Served,
    upstream: ScriptedUpstream,
    answer: bytes,
    fields: dict[str, Any],
    expected: TokenUsage,
    source: str,
) -> None:
    upstream.says(answer, waits=True)
    known = len(served.journal())
    got = served.call("POST", CHAT, asked("brief", **fields))
    assert got.status == 504 or not got.is_whole
    record = record_of(served, known)
    assert (record.ending, record.usage, record.usage_source) == ("failed", expected, source)
    assert upstream.left.acquire(timeout=60)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_an_upstream_that_breaks_midway_is_paid_for_what_came(
    served: Served, upstream: ScriptedUpstream, streamed: bool
) -> None:
    upstream.says(events(*WORDS, is_done=False))
    known = len(served.journal())
    got = served.call("POST", CHAT, asked(stream=streamed))
    assert got.status == (200 if streamed else 503)
    record = record_of(served, known)
    assert (record.ending, record.usage, record.usage_source) == ("failed", SEEN, "counted")


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 500 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", document({"error": {"message": "no"}})],
    ids=["hangs up", "fails", "says an error"],
)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_an_upstream_that_fails_is_paid_nothing(
    served: Served, upstream: ScriptedUpstream, streamed: bool, answer: bytes
) -> None:
    upstream.says(answer)
    known = len(served.journal())
    assert served.call("POST", CHAT, asked(stream=streamed)).status == 503
    record = record_of(served, known)
    assert (record.usage.total, record.usage_source) == (0, "none")


def test_what_a_call_is_charged_counts_in_its_quota(upstream: ScriptedUpstream, data_dir: Path) -> None:
    choice = {"index": 0, "message": {"content": "word"}, "finish_reason": "stop"}
    answer = document({"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 1}})
    with serve(config(upstream), data_dir) as served:

        def left() -> int:
            upstream.says(answer)
            return int(served.call("POST", CHAT, asked()).headers["x-ratelimit-remaining-tokens"])

        before = left()
        upstream.says(b"", waits=True)
        with served.connect() as connection:
            connection.sendall(served.request(CHAT, asked()))
            assert upstream.asked.acquire(timeout=60)
        record = record_of(served, 1)
        assert record.usage.total == PROMPT + MOST
        assert left() == before - record.usage.total - 4


@pytest.mark.parametrize("name", ["whole", "whole, as events", "streamed"])
def test_a_server_that_stops_charges_what_it_cuts(upstream: ScriptedUpstream, data_dir: Path, name: str) -> None:
    answer, fields, expected, source = UNDER_WAY[name]
    limits = {"server": {"limits": {"request_seconds": 1}}}
    with serve(config(upstream, **limits), data_dir) as served, served.connect() as connection:
        upstream.says(answer, waits=True)
        connection.sendall(served.request(CHAT, asked(**fields)))
        assert upstream.asked.acquire(timeout=60)
        if fields:
            until(connection, b"word")
        settled(served)
        served.terminate()
        until_closed(connection)
        assert served.ended() == 0
        (record,) = served.journal()
        assert (record.ending, record.usage, record.usage_source) == ("failed", expected, source)


def test_a_caller_that_leaves_before_the_request_is_sent_is_charged_nothing(data_dir: Path) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(address)
        provider = {"far": {"type": "openai_compatible", "base_url": f"http://127.0.0.1:{address[1]}/v1"}}
        deployments = {"far": {"model": MODEL, "provider": "far", "default": True}}
        with serve({"providers": provider, "deployments": deployments}, data_dir) as served:
            with served.connect() as connection:
                connection.sendall(served.request(CHAT, asked()))
                eventually(lambda: served.metric("modelport_journal_open_calls") == 1, "the call is under way")
            record = record_of(served, 0)
            assert (record.ending, record.usage.total) == ("cancelled", 0)
        for each in waiting:
            each.close()
