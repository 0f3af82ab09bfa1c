"""The edges of HTTP/1.1 over raw sockets, in the clear and with TLS."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from modelport.config.tls import self_signed, server_context

from .harness import KEY, Gateway, Upstream, ask, chunked, gateway, post, read_answer, upstream, whole

CONFIG = """
server: {{limits: {{body_bytes: 3000000, header_bytes: 8000, request_seconds: {request_seconds}}}}}
providers: {{up: {{type: openai_compatible, base_url: "http://127.0.0.1:{port}/v1"}}}}
deployments:
  chat: {{model: {{format: Custom, name: served}}, provider: up, default: true, limits: {{tokens_per_minute: null}}}}
"""
WHOLE = json.dumps(
    {
        "id": "c1",
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
    }
).encode()


def delta(text: str, **more: Any) -> bytes:
    return b"data: %b\n\n" % json.dumps({"choices": [{"index": 0, "delta": {"content": text}, **more}]}).encode()


STREAM = [delta("Hel"), delta("lo"), delta("", finish_reason="stop"), b"data: [DONE]\n\n"]
BODY = b'{"messages":[{"role":"user","content":"u"}],"max_tokens":9}'
STREAMED = b'{"messages":[{"role":"user","content":"u"}],"max_tokens":9,"stream":true}'
CHAT = "/v1/chat/completions"


@pytest.fixture(params=[False, True], ids=["clear", "tls"])
def tls(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext] | None:
    if not request.param:
        return None
    files = self_signed(tmp_path, "127.0.0.1", datetime.now(UTC))
    return server_context(files), ssl.create_default_context(cafile=str(files.authority))


@pytest.fixture
async def served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tls: tuple[ssl.SSLContext, ssl.SSLContext] | None
) -> AsyncIterator[tuple[Gateway, Upstream]]:
    async with serving(tmp_path, monkeypatch, tls) as pair:
        yield pair


@asynccontextmanager
async def serving(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None,
    request_seconds: float = 30,
) -> AsyncIterator[tuple[Gateway, Upstream]]:
    async with upstream() as above:
        above.pieces = whole(WHOLE)
        config = CONFIG.format(port=above.port, request_seconds=request_seconds)
        async with gateway(folder, config, monkeypatch, tls=tls) as found:
            yield found, above


def content(body: bytes) -> str:
    text: str = json.loads(body)["choices"][0]["message"]["content"]
    return text


async def settled(found: Gateway) -> dict[str, Any]:
    """The record of the only call."""
    for _ in range(2000):
        if found.seen.records:
            break
        await asyncio.sleep(0.01)
    (record,) = found.records()
    return record


async def test_a_java_clients_h2c_upgrade_is_a_plain_request(served: tuple[Gateway, Upstream]) -> None:
    found, _ = served
    java = (
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
    )
    answer = await ask(found, post(CHAT, BODY, *java))
    assert (answer.status, content(answer.body)) == (200, "Hello")
    request = post(CHAT, BODY, *java)
    cut = request.index(b"\r\n\r\n") + 4
    answer = await ask(found, request[:cut], request[cut : cut + 9], request[cut + 9 :], pause_seconds=0.02)
    assert (answer.status, content(answer.body)) == (200, "Hello")


async def test_expect_continue_is_answered_before_the_body(served: tuple[Gateway, Upstream]) -> None:
    found, _ = served
    reader, writer = await found.connect()
    head, _, _ = post(CHAT, BODY, "Expect: 100-continue").partition(b"\r\n\r\n")
    writer.write(head + b"\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(BODY)
    assert (await read_answer(reader)).status == 200
    writer.transport.abort()


async def test_pipelined_requests_are_answered_in_order(served: tuple[Gateway, Upstream]) -> None:
    found, above = served
    above.pause_seconds = 0.02
    info = post("/info", b"", method="GET")
    stream = post(CHAT, STREAMED)
    reader, writer = await found.connect()
    writer.write(post(CHAT, BODY) + info + post(CHAT, BODY) + post("/nowhere", b"{}") + post(CHAT, BODY) + stream)
    statuses, kinds = [], []
    data = b""
    while data.count(b"HTTP/1.1 ") < 6 or not data.endswith(b"0\r\n\r\n"):
        data += await asyncio.wait_for(reader.read(65536), 20)
    for part in data.split(b"HTTP/1.1 ")[1:]:
        statuses.append(int(part[:3]))
        kinds.append("model_name" if b"model_name" in part else "choices" if b"choices" in part else "other")
    assert statuses == [200, 200, 200, 404, 200, 200]
    assert kinds == ["choices", "model_name", "choices", "other", "choices", "choices"]
    writer.transport.abort()


async def test_a_connection_is_used_again_and_closed_when_asked(served: tuple[Gateway, Upstream]) -> None:
    found, _ = served
    reader, writer = await found.connect()
    for _ in range(3):
        writer.write(post(CHAT, BODY))
        assert (await read_answer(reader)).status == 200
    writer.write(post(CHAT, BODY, "Connection: close"))
    answer = await read_answer(reader)
    assert ("connection", "close") in answer.headers
    assert await asyncio.wait_for(reader.read(), 10) == b""
    writer.transport.abort()


async def test_chunked_bodies_with_extensions_and_trailers_are_read(served: tuple[Gateway, Upstream]) -> None:
    found, above = served
    head, _, _ = post(CHAT, b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked").partition(b"\r\n\r\n")
    first, second = BODY[:20], BODY[20:]
    pieces = [b"%x;ext=1\r\n%b\r\n" % (len(first), first), b"%x\r\n%b\r\n" % (len(second), second)]
    answer = await ask(found, head + b"\r\n\r\n", *pieces, b"0\r\nX-Trailer: 1\r\n\r\n", pause_seconds=0.01)
    assert (answer.status, content(answer.body)) == (200, "Hello")
    assert len(above.seen) == 1


async def test_a_body_byte_by_byte_is_one_request(served: tuple[Gateway, Upstream]) -> None:
    found, above = served
    request = post(CHAT, BODY)
    cut = request.index(b"\r\n\r\n") + 4
    pieces = [request[:30], request[30:cut], *(request[i : i + 4] for i in range(cut, len(request), 4))]
    assert (await ask(found, *pieces, pause_seconds=0.002)).status == 200
    assert len(above.seen) == 1


async def test_a_body_that_arrives_slowly_is_awaited(served: tuple[Gateway, Upstream]) -> None:
    found, above = served
    request = post(CHAT, BODY)
    assert (await ask(found, request[:-20], request[-20:-10], request[-10:], pause_seconds=0.9)).status == 200
    assert len(above.seen) == 1


async def test_large_bodies_both_ways(served: tuple[Gateway, Upstream]) -> None:
    found, above = served
    text = "ü" * 400_000
    above.pieces = whole(WHOLE.replace(b"Hello", text.encode()))
    body = json.dumps({"messages": [{"role": "user", "content": text}], "max_tokens": 9}, ensure_ascii=False).encode()
    answer = await ask(found, post(CHAT, body))
    assert content(answer.body) == text
    assert text.encode() in above.seen[0]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (post(CHAT, BODY, "X-Big: " + "a" * 9000), 431),
        (post(CHAT, BODY, *(f"X-{i}: 1" for i in range(120))), 431),
        (post(CHAT + "?" + "a" * 9000, BODY), 431),
        (post(CHAT, BODY, "Transfer-Encoding: chunked"), 400),
        (post(CHAT, BODY, "Content-Length: 3"), 400),
        (post(CHAT, BODY).replace(b"\r\n", b"\n"), 400),
        (post(CHAT, BODY, "X: 1\r\n folded"), 400),
        (post(CHAT, BODY, "X\0: 1"), 400),
        (post(CHAT, b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked") + b"zz\r\n", 400),
        (b"SSH-2.0-x\r\n\r\n", 400),
        (post(CHAT, b"x" * 3_000_001), 413),
        (post(CHAT, b"{}", "Expect: 100-continue", key="wrong"), 401),
        (post(CHAT, BODY, method="PUT"), 405),
    ],
)
async def test_what_is_refused(served: tuple[Gateway, Upstream], request_: bytes, status: int) -> None:
    found, above = served
    answer = await ask(found, request_)
    assert answer.status == status
    assert json.loads(answer.body)["error"]["message"]
    assert not above.seen


async def test_a_client_that_hangs_up_stops_the_work(served: tuple[Gateway, Upstream]) -> None:
    found, above = served
    above.pieces, above.ends = [], "waits"
    _, writer = await found.connect()
    writer.write(post(CHAT, BODY))
    while not above.seen:
        await asyncio.sleep(0.01)
    writer.transport.abort()
    assert above.gone is not None
    await asyncio.wait_for(above.gone.wait(), 10)
    record = await settled(found)
    # The target may have made what it was asked for.
    assert (record["ending"], record["status"], record["usage"]["output"]) == ("cancelled", 499, 9)
    assert record["usage_source"] == "estimated"


@pytest.mark.parametrize("tls", [False], indirect=True, ids=["clear"])  # TLS has no half-closed connections
async def test_a_half_closed_client_counts_as_gone(served: tuple[Gateway, Upstream]) -> None:
    found, above = served
    above.pieces, above.ends = [], "waits"
    _, writer = await found.connect()
    writer.write(post(CHAT, BODY))
    while not above.seen:
        await asyncio.sleep(0.01)
    writer.write_eof()
    assert above.gone is not None
    await asyncio.wait_for(above.gone.wait(), 10)
    assert (await settled(found))["ending"] == "cancelled"
    writer.transport.abort()


async def test_a_hang_up_in_a_stream_is_metered_as_far_as_it_came(served: tuple[Gateway, Upstream]) -> None:
    found, above = served
    above.pieces, above.ends = chunked(b"".join(STREAM[:2]), len(STREAM[0]))[:-1], "waits"
    reader, writer = await found.connect()
    writer.write(post(CHAT, STREAMED))
    await reader.readuntil(b'"lo"')
    writer.transport.abort()
    assert above.gone is not None
    await asyncio.wait_for(above.gone.wait(), 10)
    record = await settled(found)
    assert (record["ending"], record["usage"]["output"], record["usage_source"]) == ("cancelled", 2, "counted")


async def test_a_stream_that_breaks_ends_in_an_error_and_no_end(served: tuple[Gateway, Upstream]) -> None:
    found, above = served
    above.pieces, above.ends = chunked(b"".join(STREAM[:2]), len(STREAM[0]))[:-1], "closes"
    answer = await ask(found, post(CHAT, STREAMED))
    assert not answer.is_complete
    last = json.loads(answer.body.rstrip().rsplit(b"data: ", 1)[1])
    assert last["error"]["message"] == "The upstream broke its answer off."
    assert b"[DONE]" not in answer.body
    assert (await settled(found))["ending"] == "failed"


async def test_draining_turns_new_calls_away_and_ends_running_ones_well(served: tuple[Gateway, Upstream]) -> None:
    found, above = served
    above.pieces, above.pause_seconds = chunked(b"".join(STREAM), len(STREAM[0])), 0.1
    reader, writer = await found.connect()
    writer.write(post(CHAT, STREAMED))
    await reader.readuntil(b'"Hel"')
    found.application.gateway.draining = True
    refused = await ask(found, post(CHAT, BODY))
    assert (refused.status, ("connection", "close") in refused.headers) == (503, True)
    assert (await reader.readuntil(b"[DONE]\n\n\r\n0\r\n\r\n")).endswith(b"0\r\n\r\n")
    writer.transport.abort()


async def test_a_client_that_does_not_read_slows_the_upstream(served: tuple[Gateway, Upstream]) -> None:
    found, above = served
    piece = chunked(delta("x" * 60_000))[1]
    above.pieces = [chunked(b"x")[0], *[piece] * 600, *chunked(b"".join(STREAM[2:]))[1:]]
    reader, writer = await found.connect()
    reader._transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(post(CHAT, STREAMED))
    for _ in range(2000):
        if found.application.gateway.running:
            break
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.5)
    assert found.application.gateway.running == 1  # 36 MB have not gone anywhere
    reader._transport.resume_reading()  # type: ignore[attr-defined]
    length = 0
    while data := await asyncio.wait_for(reader.read(1 << 20), 20):
        length += len(data)
        if data.endswith(b"0\r\n\r\n"):
            break
    assert length > 36_000_000
    writer.transport.abort()


async def test_an_answer_that_outlasts_the_requests_limit_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path, monkeypatch, request_seconds=1) as (found, above):
        above.pieces, above.ends = [], "waits"
        answer = await ask(found, post(CHAT, BODY))
        assert answer.status == 504
        assert (await settled(found))["status"] == 504
        found.seen.records.clear()
        above.pieces, above.ends = chunked(b"".join(STREAM[:1]))[:-1], "waits"
        answer = await ask(found, post(CHAT, STREAMED))
        assert (answer.status, answer.is_complete) == (200, False)
        assert b"longer than the server allows" in answer.body
        assert (await settled(found))["ending"] == "failed"


async def test_a_stale_upstream_connection_is_not_the_callers_problem(served: tuple[Gateway, Upstream]) -> None:
    found, above = served
    assert (await ask(found, post(CHAT, BODY))).status == 200
    above.ends = "closes"
    assert (await ask(found, post(CHAT, BODY))).status == 200
    above.ends = "keeps"
    assert (await ask(found, post(CHAT, BODY))).status == 200
    assert len(above.seen) == 3


async def test_the_key_of_nobody_is_told_while_the_body_is_still_coming(served: tuple[Gateway, Upstream]) -> None:
    found, _ = served
    request = post(CHAT, BODY, key=KEY + "x")
    assert (await ask(found, request[:-10], request[-10:], pause_seconds=0.05)).status == 401
