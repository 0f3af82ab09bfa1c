"""The lane's client against real sockets: pooling, time-outs, hang-ups, and every way in which an answer can end."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from modelport.config.tls import self_signed, server_context
from modelport.core.catalog import Timeouts
from modelport.core.errors import ModelportError, Unavailable, UpstreamFailed, UpstreamTimedOut
from modelport.core.ports.providers import Address, UpstreamRequest
from modelport.upstream.wire import Connection, Pool, Wire
from modelport.upstream.wire_connection import IDLE_CONNECTION_SECONDS

PATIENT = Timeouts(connect=5, first_event=20, between_events=20, whole=40)
ASK = UpstreamRequest(path="/chat/completions", body=b'{"a":1}', headers=(("Content-Type", "application/json"),))
ASK_STREAM = UpstreamRequest(path="/chat/completions", body=b"{}", streamed=True)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Request-Id: r1\r\n\r\nhi"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    made = Wire()
    yield made
    made.close()


class Answer:
    """A receiver that keeps what it hears."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.pieces: list[bytes] = []
        self.grown = asyncio.Event()
        self.over: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def answer_began(self, status, headers):
        self.status = status
        self.headers = {name.lower().decode(): value.decode() for name, value in headers()}

    def answer_whole(self, body):
        self.answer_began(200, list)
        if body:
            self.answer_grew(body)
        self.answer_ended()

    def answer_grew(self, data):
        self.pieces.append(data)
        self.grown.set()

    def answer_ended(self):
        self.over.set_result(b"".join(self.pieces))

    def answer_failed(self, error: ModelportError):
        self.over.set_exception(error)


async def whole(wire, address, request=ASK, timeouts=PATIENT) -> tuple[int, dict[str, str], bytes]:
    answer = Answer()
    wire.pool(address).send(request, timeouts, answer)
    body = await asyncio.wait_for(answer.over, 20)
    return answer.status, answer.headers, body


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def test_request_arrives_as_encoded_and_the_answer_comes_back(wire, serving):
    seen = []

    async def script(connection):
        seen.append(await connection.request())
        await connection.send(OK)

    async with serving(script) as server:
        status, headers, body = await whole(wire, Address(server.base_url))
    assert (status, headers["x-request-id"], body) == (200, "r1", b"hi")
    host = server.base_url.removeprefix("http://").removesuffix("/v1").encode()
    assert seen[0] == (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: " + host + b"\r\nAccept-Encoding: identity\r\n"
        b'User-Agent: modelport\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n{"a":1}'
    )


async def test_the_operators_header_replaces_ours(wire, serving):
    seen = []

    async def script(connection):
        seen.append(await connection.request())
        await connection.send(OK)

    async with serving(script) as server:
        request = UpstreamRequest(path="/x", body=b"", headers=(("user-agent", "theirs"),))
        await whole(wire, Address(server.base_url), request)
    assert b"user-agent: theirs\r\n" in seen[0]
    assert b"modelport" not in seen[0]


@pytest.mark.parametrize("header", [("a", "b\r\nc: d"), ("a\n", "b"), ("a", "\0")])
async def test_a_header_that_would_split_the_request_is_not_sent(wire, serving, header):
    async def script(connection):
        await connection.request()

    async with serving(script) as server:
        with pytest.raises(UpstreamFailed, match="set up wrongly"):
            wire.pool(Address(server.base_url)).send(UpstreamRequest("/x", b"", (header,)), PATIENT, Answer())
        assert not server.connections


async def test_connection_used_last_is_used_first(wire, serving):
    release = asyncio.Event()

    async def script(connection):
        while await connection.request():
            await release.wait()
            await connection.send(OK)

    async with serving(script) as server:
        answers = [Answer() for _ in range(3)]
        for answer in answers:
            wire.pool(Address(server.base_url)).send(ASK, PATIENT, answer)
        await asyncio.sleep(0.05)
        release.set()
        await asyncio.gather(*(answer.over for answer in answers))
        for _ in range(5):
            await whole(wire, Address(server.base_url))
        assert len(server.connections) == 3


async def test_unix_socket_is_asked_with_the_path_of_the_base_url(wire, serving, tmp_path):
    seen = []

    async def script(connection):
        seen.append(await connection.request())
        await connection.send(OK)

    place = str(tmp_path / "engine.sock")
    async with serving(script, place) as server:
        assert (await whole(wire, Address(server.base_url, unix_socket=place)))[0] == 200
    assert seen[0].startswith(b"POST /v1/chat/completions HTTP/1.1\r\nHost: engine\r\n")


async def test_a_large_body_arrives_whole_and_one_is_given_back_in_pieces(wire, serving):
    sent = bytes(range(256)) * 4096

    async def script(connection):
        request = await connection.request()
        body = request.partition(b"\r\n\r\n")[2]
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body), body)

    async with serving(script) as server:
        request = UpstreamRequest(path="/x", body=sent)
        assert (await whole(wire, Address(server.base_url), request))[2] == sent


async def test_stale_connection_is_replaced_once_without_the_caller_noticing(wire, serving):
    async def script(connection):
        await connection.request()
        if connection.number == 0:
            await connection.send(OK)
            await connection.request()  # taken from the kept connection, and then nothing but its end
            return
        await connection.send(OK)

    async with serving(script) as server:
        await whole(wire, Address(server.base_url))
        assert (await whole(wire, Address(server.base_url)))[2] == b"hi"
        assert len(server.connections) == 2


async def test_fresh_connection_that_closes_is_not_tried_again(wire, serving):
    async def script(connection):
        await connection.request()

    async with serving(script) as server:
        with pytest.raises(UpstreamFailed, match="closed the connection before it answered"):
            await whole(wire, Address(server.base_url))
        assert len(server.connections) == 1


@pytest.mark.parametrize("part", [b"HTT", STREAM_HEAD, STREAM_HEAD + chunk(b"part")])
async def test_kept_connection_that_has_begun_to_answer_is_not_tried_again(wire, serving, part):
    async def script(connection):
        await connection.request()
        await connection.send(OK)
        await connection.request()
        await connection.send(part)

    async with serving(script) as server:
        await whole(wire, Address(server.base_url))
        with pytest.raises(UpstreamFailed, match=r"broke its answer off|before it answered"):
            await whole(wire, Address(server.base_url))
        assert len(server.connections) == 1


async def test_upstream_that_is_not_there_is_a_failure_without_its_address(wire, unused_tcp_port):
    with pytest.raises(UpstreamFailed) as caught:
        await whole(wire, Address(f"http://127.0.0.1:{unused_tcp_port}/v1"))
    assert caught.value.message == "The upstream could not be reached."


@pytest.mark.parametrize(
    ("request_", "limits", "message"),
    [
        (ASK_STREAM, Timeouts(first_event=0.05), "did not answer in time"),
        (ASK, Timeouts(whole=0.05), "did not answer in time"),
    ],
)
async def test_silent_upstream_is_a_time_out_and_sees_the_hang_up(wire, serving, request_, limits, message):
    gone = asyncio.Event()

    async def script(connection):
        await connection.request()
        await connection.watch()
        gone.set()

    async with serving(script) as server:
        with pytest.raises(UpstreamTimedOut, match=message):
            await whole(wire, Address(server.base_url), request_, limits)
        await asyncio.wait_for(gone.wait(), 20)


@pytest.mark.parametrize("streamed", [True, False])
async def test_times_of_a_queued_target_begin_with_the_head_of_its_answer(wire, serving, streamed):
    async def script(connection):
        await connection.request()
        await asyncio.sleep(1.5)
        await connection.send(STREAM_HEAD, chunk(b"one"), b"0\r\n\r\n")
        await connection.watch()

    request = UpstreamRequest(path="/x", body=b"{}", streamed=streamed, queued=True)
    limits = Timeouts(first_event=0.9, whole=0.9, queue=20)
    async with serving(script) as server:
        assert (await whole(wire, Address(server.base_url), request, limits))[2] == b"one"


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_queue_that_is_too_long_is_told_as_such_and_left(wire, serving, streamed):
    gone = asyncio.Event()

    async def script(connection):
        await connection.request()
        await connection.watch()
        gone.set()

    request = UpstreamRequest(path="/x", body=b"{}", streamed=streamed, queued=True)
    async with serving(script) as server:
        with pytest.raises(Unavailable, match="waited in its queue") as caught:
            await whole(wire, Address(server.base_url), request, Timeouts(first_event=20, queue=0.1))
        await asyncio.wait_for(gone.wait(), 20)
    assert (caught.value.status, caught.value.code, caught.value.retry_after) == (503, "NoCapacity", 10)


@pytest.mark.parametrize(
    ("streamed", "limits"), [(True, Timeouts(first_event=0.1, queue=20)), (False, Timeouts(whole=0.1, queue=20))]
)
async def test_a_queued_target_that_has_begun_and_says_nothing_is_a_time_out(wire, serving, streamed, limits):
    async def script(connection):
        await connection.request()
        await connection.send(STREAM_HEAD)
        await connection.watch()

    request = UpstreamRequest(path="/x", body=b"{}", streamed=streamed, queued=True)
    async with serving(script) as server:
        with pytest.raises(UpstreamTimedOut):
            await whole(wire, Address(server.base_url), request, limits)


async def test_stream_that_stops_in_the_middle_is_a_time_out_and_aborted(wire, serving):
    gone = asyncio.Event()

    async def script(connection):
        await connection.request()
        await connection.send(STREAM_HEAD, chunk(b"one"))
        await connection.watch()
        gone.set()

    answer = Answer()
    async with serving(script) as server:
        limits = Timeouts(first_event=20, between_events=0.05)
        wire.pool(Address(server.base_url)).send(ASK_STREAM, limits, answer)
        with pytest.raises(UpstreamTimedOut, match="stopped sending"):
            await answer.over
        await asyncio.wait_for(gone.wait(), 20)
    assert answer.pieces == [b"one"]


async def test_a_receiver_that_pauses_is_not_the_upstreams_fault_and_loses_nothing(wire, serving):
    async def script(connection):
        await connection.request()
        await connection.send(STREAM_HEAD, chunk(b"one"))
        await asyncio.sleep(0.1)
        await connection.send(chunk(b"two"), b"0\r\n\r\n")
        await connection.watch()

    answer = Answer()
    async with serving(script) as server:
        exchange = wire.pool(Address(server.base_url)).send(ASK_STREAM, Timeouts(between_events=0.3), answer)
        await answer.grown.wait()
        exchange.pause()
        await asyncio.sleep(1.2)
        assert answer.pieces == [b"one"]
        exchange.resume()
        assert await answer.over == b"onetwo"


async def test_while_the_receiver_pauses_the_whole_answer_has_its_time_still(wire, serving):
    async def script(connection):
        await connection.request()
        await connection.send(STREAM_HEAD, chunk(b"one"))
        await asyncio.sleep(3.5)
        await connection.send(chunk(b"two"), b"0\r\n\r\n")
        await connection.watch()

    answer = Answer()
    async with serving(script) as server:
        exchange = wire.pool(Address(server.base_url)).send(ASK_STREAM, Timeouts(between_events=20, whole=2), answer)
        await answer.grown.wait()
        exchange.pause()
        await asyncio.sleep(3)
        exchange.resume()
        assert await answer.over == b"onetwo"


async def test_aborting_is_seen_by_the_upstream_and_heard_by_nobody(wire, serving):
    gone = asyncio.Event()

    async def script(connection):
        await connection.request()
        await connection.send(STREAM_HEAD, chunk(b"one"))
        await connection.watch()
        gone.set()

    answer = Answer()
    async with serving(script) as server:
        exchange = wire.pool(Address(server.base_url)).send(ASK_STREAM, PATIENT, answer)
        await answer.grown.wait()
        exchange.abort()
        await asyncio.wait_for(gone.wait(), 20)
    assert not answer.over.done()


async def test_aborting_while_it_connects_ends_quietly(wire, serving):
    async def script(connection):
        await connection.request()

    answer = Answer()
    async with serving(script) as server:
        wire.pool(Address(server.base_url)).send(ASK, PATIENT, answer).abort()
        await asyncio.sleep(0.05)
    assert not answer.over.done()


@pytest.mark.parametrize(
    "answer",
    [
        STREAM_HEAD + chunk(b"part"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Encoding: br\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Encoding: gzip\r\n\r\nhi",
    ],
)
async def test_cut_or_unreadable_body_is_a_failure(wire, serving, answer):
    async def script(connection):
        await connection.request()
        await connection.send(answer)

    async with serving(script) as server:
        with pytest.raises(UpstreamFailed, match="broke its answer off"):
            await whole(wire, Address(server.base_url))


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n\r\nall of it",
        b"HTTP/1.0 200 OK\r\n\r\nall of it",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 9\r\n\r\nall of it",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nall of it",
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + STREAM_HEAD + chunk(b"all ") + chunk(b"of it") + b"0\r\n\r\n",
    ],
)
async def test_every_way_to_delimit_a_body(wire, serving, answer):
    async def script(connection):
        await connection.request()
        await connection.send(answer)

    async with serving(script) as server:
        assert (await whole(wire, Address(server.base_url)))[2] == b"all of it"


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        (b"gzip", gzip.compress(b"all of it", mtime=0)),
        (b"deflate", zlib.compress(b"all of it")),
        (b"identity", b"all of it"),
    ],
)
async def test_what_comes_packed_all_the_same_is_unpacked(wire, serving, encoding, body):
    async def script(connection):
        await connection.request()
        head = b"HTTP/1.1 200 OK\r\nContent-Encoding: %b\r\nContent-Length: %d\r\n\r\n" % (encoding, len(body))
        await connection.send(head, body)

    async with serving(script) as server:
        assert (await whole(wire, Address(server.base_url)))[2] == b"all of it"


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000,
    ],
)
async def test_answer_that_is_not_http_is_a_failure(wire, serving, answer):
    async def script(connection):
        await connection.request()
        await connection.send(answer)
        await connection.watch()

    async with serving(script) as server:
        with pytest.raises(UpstreamFailed, match="no HTTP answer"):
            await whole(wire, Address(server.base_url))


@pytest.mark.parametrize("surplus", [b"more", OK])
async def test_a_connection_that_says_more_than_it_was_asked_is_not_used_again(wire, serving, surplus):
    async def script(connection):
        await connection.request()
        await connection.send(OK + surplus)
        await connection.watch()

    async with serving(script) as server:
        assert (await whole(wire, Address(server.base_url)))[2] == b"hi"
        assert (await whole(wire, Address(server.base_url)))[2] == b"hi"
        assert len(server.connections) == 2


async def test_closing_breaks_what_is_under_way_and_refuses_what_comes(wire, serving):
    asked, gone = asyncio.Event(), asyncio.Event()

    async def script(connection):
        await connection.request()
        asked.set()
        await connection.watch()
        gone.set()

    async with serving(script) as server:
        wire.pool(Address(server.base_url)).send(ASK, PATIENT, Answer())
        await asyncio.wait_for(asked.wait(), 20)
        wire.close()
        await asyncio.wait_for(gone.wait(), 20)
        with pytest.raises(UpstreamFailed, match="shutting down"):
            wire.pool(Address(server.base_url)).send(ASK, PATIENT, Answer())


async def test_tls_is_verified_against_the_ca_file_or_not_at_all(wire, tmp_path: Path):
    files = self_signed(tmp_path, ["127.0.0.1"], datetime.now(UTC))

    async def accept(reader, writer):
        await reader.readuntil(b'{"a":1}')
        writer.write(OK)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=server_context(files))
    async with server:
        base_url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        assert (await whole(wire, Address(base_url, ca_file=str(files.authority))))[2] == b"hi"
        assert (await whole(wire, Address(base_url, verify_tls=False)))[2] == b"hi"
        with pytest.raises(UpstreamFailed, match="No trusted connection"):
            await whole(wire, Address(base_url))
        with pytest.raises(UpstreamFailed, match="CA file cannot be read"):
            await whole(wire, Address(base_url, ca_file=str(tmp_path / "absent.pem")))


@pytest.mark.parametrize(
    ("address", "reached"),
    [
        (Address("http://a/v1"), True),
        (Address("https://a:444/v1/"), True),
        (Address("http://engine/v1", unix_socket="/x"), True),
        (Address("http://a/v1", proxy="http://p"), False),
        (Address("http://user:word@a/v1"), False),
        (Address("ftp://a/v1"), False),
        (Address("http://ä/v1"), False),
        (Address("http:///v1"), False),
    ],
)
def test_what_it_reaches(address, reached):
    assert Wire.reaches(address) is reached


async def test_a_sweep_before_the_first_request_does_not_close_a_fresh_connection(wire):
    """Between the connect and the request there may be a turn of the loop, and a sweep in it."""
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        gone.set()

    async with await asyncio.start_server(wait, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        pool = Pool(wire, Address(base_url=f"http://127.0.0.1:{port}"))
        transport, connection = await loop.create_connection(lambda: Connection(pool), "127.0.0.1", port)
        connection.sweep(loop.time())
        assert not transport.is_closing()
        connection.sweep(loop.time() + IDLE_CONNECTION_SECONDS + 1)
        assert transport.is_closing()
        await asyncio.wait_for(gone.wait(), 10)


async def test_an_address_that_is_released_has_no_connection_left_but_those_under_way(wire, serving):
    closed, asked, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def script(connection):
        request = await connection.request()
        if b"slow" in request:
            asked.set()
            await go_on.wait()
            await connection.send(OK)
        else:
            await connection.send(OK)
            await connection.request()
            closed.set()

    async with serving(script) as server:
        address = Address(server.base_url)
        slow = asyncio.create_task(whole(wire, address, UpstreamRequest(path="/slow", body=b"")))
        await asked.wait()
        await whole(wire, address)
        wire.release(address)
        assert address not in wire.addresses
        await closed.wait()
        go_on.set()
        assert (await slow)[0] == 200
