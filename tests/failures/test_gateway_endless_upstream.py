"""An upstream's answer without an end costs the gateway a bounded amount of memory and time, in every path; each end of
such a call is counted once, and nothing of it is kept."""

from __future__ import annotations

import socket
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from endless import CHUNKED, HEAD, STREAM, TEXT, Endless, chunk, event
from served import Served, eventually, serve, until

CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"
GROWTH_BYTES = 700 * 1024 * 1024
"""Far above the limit of one answer, far below what an upstream can send in a minute."""
BRIEF = {"first_event": 2, "between_events": 2, "whole": 2}
UNLIMITED = {"tokens_per_minute": None}
MODEL = {"format": "Custom", "name": "far", "version": "1"}


def config(upstream: Endless, **server: Any) -> dict[str, Any]:
    return {
        "providers": {"far": {"type": "openai_compatible", "base_url": upstream.url}},
        "deployments": {
            "far": {"model": MODEL, "provider": "far", "limits": UNLIMITED, "default": True},
            "brief": {"model": MODEL, "provider": "far", "limits": UNLIMITED, "timeouts": BRIEF},
        },
        "server": server,
    }


@pytest.fixture(scope="module")
def upstream() -> Iterator[Endless]:
    with Endless() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def served(serve_module: Callable[..., Served], upstream: Endless) -> Served:
    return serve_module(config(upstream))


def memory_bytes(served: Served, name: str = "VmRSS") -> int:
    """What the process occupies: now, or at most until now (VmHWM)."""
    lines = Path(f"/proc/{served.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def asked(**fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "Hi"}], **fields}


VECTOR = b'{"index":0,"embedding":[0.1,0.2]},'
WHOLE: dict[str, tuple[bytes, bytes]] = {
    "a text": (CHUNKED + chunk(b'{"choices":[{"message":{"content":"'), chunk(b"x" * 65536)),
    "until it closes": (HEAD + b'connection: close\r\n\r\n{"choices":"', b"x" * 65536),
    "white space": (CHUNKED, chunk(b" " * 65536)),
    "events": (STREAM, TEXT),
    "an event": (STREAM + b"data: ", b"x" * 65536),
    "small extensions of chunks": (CHUNKED, b"1;%b\r\n \r\n" % (b"x" * 8192)),
    "a field of the head": (HEAD + b"x-a: ", b"x" * 65536),
    "fields of the head": (HEAD, b"x-a: %b\r\n" % (b"x" * 4096)),
    "heads of 1xx": (b"", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"),
    "an error": (b"HTTP/1.1 500 No\r\ncontent-type: text/plain\r\n\r\n", b"x" * 65536),
}


@pytest.mark.parametrize("answer", WHOLE.values(), ids=WHOLE)
def test_a_whole_answer_without_an_end_is_broken_off(
    served: Served, upstream: Endless, answer: tuple[bytes, bytes]
) -> None:
    served.call("GET", "/health/live", key=None)
    before, known = memory_bytes(served), len(served.journal())
    upstream.says(*answer)
    got = served.call("POST", CHAT, asked(model="brief"))
    assert got.status in (503, 504)
    assert upstream.left.acquire(timeout=60)
    assert memory_bytes(served, "VmHWM") - before < GROWTH_BYTES
    (record,) = served.journal()[known:]
    assert (record.ending, record.status) == ("failed", got.status)


def test_vectors_without_an_end_are_broken_off(served: Served, upstream: Endless) -> None:
    before = memory_bytes(served)
    upstream.says(CHUNKED + chunk(b'{"data":['), chunk(VECTOR * 2048))
    got = served.call("POST", EMBEDDINGS, {"model": "brief", "input": "a"})
    assert got.status in (503, 504)
    assert memory_bytes(served, "VmHWM") - before < GROWTH_BYTES


CALL = b'{"tool_calls":[{"index":%d,"function":{"arguments":"%b"}}]}'
STREAMED: dict[str, tuple[bytes, bytes]] = {
    "a line": (STREAM + b"data: ", b"x" * 65536),
    "an event of many lines": (STREAM, b"data: xxxxxxxx\n"),
    "white space": (STREAM, b" " * 65536),
    "trailer fields": (CHUNKED + chunk(event(b'{"content":"a"}')) + b"0\r\n", b"x-a: %b\r\n" % (b"x" * 4096)),
    "arguments without a name": (STREAM, event(CALL % (0, b"1" * 65536))),
    "a call that waits for another": (
        STREAM + event(b'{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{"}}]}'),
        event(b'{"tool_calls":[{"index":1,"id":"b","function":{"name":"g","arguments":"%b"}}]}' % (b"1" * 65536)),
    ),
}


@pytest.mark.parametrize("answer", STREAMED.values(), ids=STREAMED)
def test_a_stream_whose_part_never_ends_is_broken_off(
    served: Served, upstream: Endless, answer: tuple[bytes, bytes]
) -> None:
    before, known = memory_bytes(served), len(served.journal())
    upstream.says(*answer)
    got = served.call("POST", CHAT, asked(model="brief", stream=True))
    assert not got.is_whole or got.status in (503, 504)
    assert upstream.left.acquire(timeout=60)
    assert memory_bytes(served, "VmHWM") - before < GROWTH_BYTES
    (record,) = served.journal()[known:]
    assert record.ending == "failed"


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("block", [b": still here\n\n", event(b"{}")], ids=["comments", "empty events"])
def test_a_stream_of_nothing_lasts_as_long_as_an_answer_may(
    served: Served, upstream: Endless, streamed: bool, block: bytes
) -> None:
    upstream.says(STREAM, block, pause_seconds=0.05)
    got = served.call("POST", CHAT, asked(model="brief", stream=streamed))
    assert got.status == 504
    assert upstream.left.acquire(timeout=60)


def has_sent(upstream: Endless, count: int) -> bool:
    return upstream.sent_bytes > count


STATES: dict[str, tuple[bytes, bytes, dict[str, Any]]] = {
    "whole": (*WHOLE["a text"], {}),
    "whole, as events": (*WHOLE["events"], {}),
    "streamed": (STREAM, TEXT, {"stream": True}),
    "in the head": (HEAD, b"x", {}),
}


def test_clients_that_leave_in_the_middle_are_counted_once_and_nothing_is_kept(
    upstream: Endless, data_dir: Path
) -> None:
    with serve(config(upstream), data_dir) as served:
        served.call("GET", "/health/live", key=None)
        before = memory_bytes(served)
        for begin, block, fields in STATES.values():
            upstream.says(begin, block, pause_seconds=0.01)
            with served.connect() as connection:
                connection.sendall(served.request(CHAT, asked(**fields)))
                if fields.get("stream"):
                    until(connection, b"word")
                eventually(partial(has_sent, upstream, 20 * len(block)), "the answer grows")
            assert upstream.left.acquire(timeout=60)
        eventually(lambda: len(served.journal()) == len(STATES), "a record of each")
        assert {record.ending for record in served.journal()} == {"cancelled"}
        assert served.metric("modelport_calls_in_flight") == 0
        assert memory_bytes(served) - before < GROWTH_BYTES
        served.terminate()
        assert served.ended() == 0


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
def test_a_server_asked_to_stop_ends_in_each_of_these_states(
    upstream: Endless, data_dir: Path, state: tuple[bytes, bytes, dict[str, Any]]
) -> None:
    begin, block, fields = state
    upstream.says(begin, block, pause_seconds=0.05)
    with (
        serve(config(upstream, limits={"request_seconds": 1}), data_dir) as served,
        served.connect() as connection,
    ):
        connection.sendall(served.request(CHAT, asked(**fields)))
        eventually(lambda: upstream.sent_bytes > 0, "the answer has begun")
        served.terminate()
        assert served.ended() == 0
        (record,) = served.journal()
        assert record.ending == "failed"
    assert upstream.left.acquire(timeout=60)


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """A megabyte and a half that grows a thousandfold: to twice what the gateway may grow by."""
    packed = zlib.compressobj(9, zlib.DEFLATED, 31)
    part = b" " * (64 * 1024 * 1024)
    first = packed.compress(part) + packed.flush(zlib.Z_FULL_FLUSH)
    again = packed.compress(part) + packed.flush(zlib.Z_FULL_FLUSH)  # it leans on nothing before it
    times = 2 * GROWTH_BYTES // len(part)
    assert zlib.decompressobj(31).decompress(first + again, 3 * len(part)) == 2 * part
    return first + times * again


def test_a_packed_answer_that_grows_without_an_end_is_broken_off(
    served: Served, upstream: Endless, bomb: bytes
) -> None:
    before = memory_bytes(served)
    upstream.says(HEAD + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(bomb) + bomb, b"x", 0.1)
    got = served.call("POST", CHAT, asked(model="far"))
    assert got.status == 503
    assert memory_bytes(served, "VmHWM") - before < GROWTH_BYTES


def test_the_bound_is_not_met_by_an_answer_that_only_is_long(served: Served, upstream: Endless) -> None:
    text = b"word " * (2 * 1024 * 1024)
    body = b'{"choices":[{"message":{"content":"%b"},"finish_reason":"stop"}]}' % text
    upstream.says(HEAD + b"content-length: %d\r\n\r\n%b" % (len(body), body), b" ", 0.1)
    got = served.call("POST", CHAT, asked())
    assert got.status == 200
    assert len(got.json["choices"][0]["message"]["content"]) == len(text)
    with socket.create_connection(served.address):
        pass
