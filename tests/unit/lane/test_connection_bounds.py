"""What one connection can make the server do and keep: requests at once, bytes, fields, time."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest

from modelport.lane.connection import LARGEST_READ_BYTES, PIPELINED_BYTES, HttpConnection
from raw_http import WAIT_SECONDS, echo, exchange, serving

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
CHUNKED = b"POST /chunked HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
UPGRADING = b"GET /up HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: %b\r\n\r\n"


class Counted:
    """The echo, which notes how many requests it has and has had."""

    def __init__(self) -> None:
        self.now = self.most = self.all = 0
        self.scopes: list[dict[str, Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.all += 1
        self.now += 1
        self.most = max(self.most, self.now)
        self.scopes.append(scope)
        try:
            await asyncio.sleep(0)
            await echo(scope, receive, send)
        finally:
            self.now -= 1


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[HttpConnection]:
    """All that are made."""
    made: list[HttpConnection] = []
    real = HttpConnection.connection_made

    def noted(self: HttpConnection, transport: Any) -> None:
        made.append(self)
        real(self, transport)

    monkeypatch.setattr(HttpConnection, "connection_made", noted)
    return made


@pytest.mark.parametrize(
    "request_",
    [
        GET,
        UPGRADING % b"h2c",
        UPGRADING % b"websocket",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nGET / HTT",
        CHUNKED + b"8\r\n HTTP/1.\r\n0\r\nA: b\r\n\r\n",
    ],
    ids=["without a body", "h2c", "websocket", "with a length", "chunked"],
)
async def test_a_thousand_requests_in_one_piece_are_begun_one_by_one_and_all_answered(request_: bytes) -> None:
    application = Counted()
    async with serving(application=application) as port:
        answer = await exchange(port, request_ * 1000 + LAST)
    assert answer.count(b"HTTP/1.1 200 ") == 1001
    assert b'"/last"' in answer
    assert application.most == 1


async def test_a_client_that_does_not_read_is_not_read_from_and_is_let_go(connections: list[HttpConnection]) -> None:
    application = Counted()
    async with serving(application=application, idle_seconds=1) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        kept = 0
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(GET * 10_000)
                await writer.drain()
                kept = max([kept, *(len(one._unparsed) for one in connections)])
                assert application.now <= 1
        assert 0 < kept <= LARGEST_READ_BYTES + PIPELINED_BYTES
        writer.transport.abort()


@contextlib.asynccontextmanager
async def one_answer(port: int) -> Any:
    """A connection that has had one answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GET)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split()[0])
    await reader.readexactly(length)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def drip(writer: asyncio.StreamWriter, piece: bytes) -> None:
    """A piece again and again."""
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("stray", [b"", b"\r\n", b"\n"], ids=["nothing", "an empty line", "a line feed"])
async def test_a_connection_without_a_request_is_closed_whatever_comes_between(stray: bytes) -> None:
    async with serving(keep_alive_seconds=1) as port, one_answer(port) as (reader, writer):
        dripping = asyncio.create_task(drip(writer, stray))
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), WAIT_SECONDS) == b""
        dripping.cancel()


@pytest.mark.parametrize("begin", [b"", b"\r\n", b"G", b"GET / HTTP/1.1\r\nX: "])
async def test_a_head_that_never_ends_is_408_even_if_it_grows(begin: bytes) -> None:
    async with serving(header_seconds=1) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(begin)
        dripping = asyncio.create_task(drip(writer, begin[-1:]))
        with contextlib.suppress(ConnectionError):
            assert (await asyncio.wait_for(reader.read(), WAIT_SECONDS))[:13] in (b"HTTP/1.1 408 ", b"HTTP/1.1 400 ")
        dripping.cancel()
        writer.transport.abort()


async def test_a_second_head_that_never_ends_is_408() -> None:
    async with serving(header_seconds=1) as port, one_answer(port) as (reader, writer):
        writer.write(GET[:-3])
        assert (await asyncio.wait_for(reader.read(), WAIT_SECONDS)).startswith(b"HTTP/1.1 408 ")


async def test_a_head_that_begins_behind_a_request_has_its_time_from_the_answer_on() -> None:
    async with serving(header_seconds=1) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET + GET[:-3])
        answer = await asyncio.wait_for(reader.read(), WAIT_SECONDS)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"}HTTP/1.1 408 " in answer
        writer.transport.abort()


async def endless(port: int, begin: bytes, piece: bytes) -> bytes:
    """Sends until the server has had enough; what it said."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(begin)

    async def send() -> None:
        with contextlib.suppress(ConnectionError):
            for _ in range(64 * 1024 * 1024 // len(piece)):
                writer.write(piece)
                await writer.drain()

    sending = asyncio.create_task(send())
    answer = b""
    with contextlib.suppress(ConnectionError):
        while data := await asyncio.wait_for(reader.read(65536), WAIT_SECONDS):
            answer += data
    sending.cancel()
    writer.transport.abort()
    return answer


ENDLESS = {
    "trailer fields": (CHUNKED + b"0\r\n", b"X: y\r\n" * 4000),
    "one trailer field": (CHUNKED + b"0\r\nX: ", b"y" * 40_000),
    "a chunk's extension": (CHUNKED + b"1;a=", b"b" * 40_000),
    "a chunk's size": (CHUNKED, b"0" * 40_000),
    "chunks of one byte with extensions": (CHUNKED, b"1;abcdefghijklmnopqrstuvwxyz\r\na\r\n" * 1000),
    "empty lines": (b"", b"\r\n" * 20_000),
    "a field": (GET[:-2] + b"X: ", b"y" * 40_000),
    "fields": (GET[:-2], b"X: y\r\n" * 8000),
    "a target": (b"GET /", b"y" * 40_000),
    "a method": (b"", b"A" * 40_000),
}


@pytest.mark.parametrize(("begin", "piece"), ENDLESS.values(), ids=ENDLESS)
async def test_what_has_no_end_is_refused(begin: bytes, piece: bytes, connections: list[HttpConnection]) -> None:
    async with serving() as port:
        answer = await endless(port, begin, piece)
        (connection,) = connections
        assert len(connection.headers or ()) < 60_000
    assert answer[:13] in (b"HTTP/1.1 431 ", b"HTTP/1.1 400 ", b"")


LARGE_FRAMES = {
    "trailers": b"1\r\na\r\n0\r\n" + b"X: " + b"y" * 5000 + b"\r\n\r\n",
    "many trailers": b"1\r\na\r\n0\r\n" + b"X: y\r\n" * 101 + b"\r\n",
    "an extension": b"1;a=" + b"b" * 5000 + b"\r\na\r\n0\r\n\r\n",
    "zeros": b"0" * 5000 + b"1\r\na\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("body", LARGE_FRAMES.values(), ids=LARGE_FRAMES)
@pytest.mark.parametrize("cut", [False, True], ids=["at once", "in pieces"])
async def test_the_heads_limits_hold_for_what_frames_a_body(body: bytes, cut: bool) -> None:
    request_ = CHUNKED + body
    pieces = [request_[i : i + 900] for i in range(0, len(request_), 900)] if cut else [request_]
    async with serving(header_bytes=4096) as port:
        answer = await exchange(port, *pieces, pause=0.005)
    assert answer.startswith(b"HTTP/1.1 431 ")


async def test_small_chunks_and_small_trailers_are_no_fault() -> None:
    body = b"".join(b"1\r\n%c\r\n" % (97 + number % 26) for number in range(500)) + b"0\r\nA: b\r\nC: d\r\n\r\n"
    async with serving(header_bytes=4096) as port:
        answer = await exchange(port, CHUNKED + body + LAST)
    assert json.loads(answer.partition(b"\r\n\r\n")[2].partition(b"HTTP/1.1 ")[0])["body"][:5] == "abcde"
    assert b'"/last"' in answer


@pytest.mark.parametrize("cut", [False, True], ids=["at once", "in pieces"])
async def test_trailers_never_become_fields_of_the_request(cut: bool) -> None:
    application = Counted()
    trailers = b"0\r\napi-key: secret\r\nHost: other\r\nContent-Type: text/plain\r\n\r\n"
    pieces = [CHUNKED, b"2\r\nhi\r\n", trailers, LAST] if cut else [CHUNKED + b"2\r\nhi\r\n" + trailers + LAST]
    async with serving(application=application) as port:
        answer = await exchange(port, *pieces, pause=0.02)
    assert answer.count(b"HTTP/1.1 200 ") == 2
    assert [name for name, _ in application.scopes[0]["headers"]] == [b"host", b"transfer-encoding"]


async def test_a_large_body_does_not_count_as_head_of_the_next_request() -> None:
    large = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1_000_000
    async with serving() as port:
        answer = await exchange(port, large + LAST[:20], LAST[20:], pause=0.05)
    assert answer.count(b"HTTP/1.1 200 ") == 2


async def test_what_is_no_request_is_refused_after_the_answer_before_it() -> None:
    async with serving() as port:
        answer = await exchange(port, GET + b"\0\0\0")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"}HTTP/1.1 400 " in answer


async def test_a_process_has_a_limit_of_connections() -> None:
    async with serving(connections=3) as port:
        writers = []
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(GET)
            assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
            writers.append(writer)
        refused = await exchange(port)
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nretry-after: 1\r\n" in refused
        assert b"server.limits.connections" in refused
        writers.pop().transport.abort()
        for _ in range(100):
            answer = await exchange(port, LAST)
            if answer.startswith(b"HTTP/1.1 200 "):
                break
            await asyncio.sleep(0.05)
        assert answer.startswith(b"HTTP/1.1 200 ")
        for writer in writers:
            writer.transport.abort()


async def answer_in_pieces(scope: Any, receive: Any, send: Any) -> None:
    """Three pieces without a length. `/broken` ends after two."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    for piece in (b"one ", b"two "):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    if scope["path"] != "/broken":
        await send({"type": "http.response.body", "body": b"three"})


async def read_raw(port: int, request_: bytes) -> tuple[bytes, bool]:
    """Everything until the connection ends, and whether it was reset."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request_)
    received, was_reset = b"", False
    try:
        while data := await asyncio.wait_for(reader.read(65536), WAIT_SECONDS):
            received += data
    except ConnectionResetError:
        was_reset = True
    writer.transport.abort()
    return received, was_reset


@pytest.mark.parametrize("fields", [b"", b"Host: x\r\n", b"Connection: keep-alive\r\n"])
async def test_http_1_0_gets_the_bytes_and_the_end_of_the_connection(fields: bytes) -> None:
    async with serving(application=answer_in_pieces) as port:
        answer, was_reset = await read_raw(port, b"GET / HTTP/1.0\r\n" + fields + b"\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert body == b"one two three"
    assert b"transfer-encoding" not in head
    assert b"\r\nconnection: close" in head
    assert not was_reset


async def test_a_broken_answer_to_http_1_0_is_a_reset() -> None:
    async with serving(application=answer_in_pieces) as port:
        answer, was_reset = await read_raw(port, b"GET /broken HTTP/1.0\r\n\r\n")
    assert was_reset
    assert b"three" not in answer


async def test_http_1_0_behind_http_1_1_on_one_connection_gets_no_chunks() -> None:
    async with serving(application=answer_in_pieces) as port:
        answer = await exchange(port, GET + b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")
    assert answer.count(b"transfer-encoding: chunked") == 1
    assert answer.endswith(b"\r\n\r\none two three")
