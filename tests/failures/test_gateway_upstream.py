"""Upstreams that cut, stall or talk nonsense: each becomes the right error of ours, and never a clean end."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from served import Served, eventually, until

DELTA = (
    b'data: {"id":"u","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":%s}]}\n\n'
)
FIRST = DELTA % b'{"role":"assistant","content":"Hel"}'
OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
ANSWER = (
    b'{"id":"u","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"finish_reason":"stop",'
    b'"message":{"role":"assistant","content":"Hello"}}],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}'
)


class Upstream:
    """A server of one's own that answers each connection with what `answer` holds, byte for byte, and then hangs up."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.answer: bytes | None = b""
        """None: no answer, and no hang-up before the caller's."""
        self.requests: list[bytes] = []
        self.left = 0
        """Callers that hung up on an answer that never came."""
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}/v1"

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(30)
                self.requests.append(self._read(connection))
                if self.answer is not None:
                    connection.sendall(self.answer)
                    continue
                connection.sendall(OK + FIRST)
                while connection.recv(1024):
                    pass
                self.left += 1

    def _read(self, connection: socket.socket) -> bytes:
        head = until(connection, b"\r\n\r\n")
        head, _, body = head.partition(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        while len(body) < length:
            body += connection.recv(65536)
        return head + b"\r\n\r\n" + body

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self._thread.join()


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    upstream = Upstream()
    yield upstream
    upstream.close()


@pytest.fixture(scope="module")
def served(serve_module: Callable[..., Served], upstream: Upstream) -> Served:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    model = {"format": "Custom", "name": "far", "version": "1"}
    short = {"first_event": 0.3, "between_events": 0.3}
    return serve_module(
        {
            "providers": {
                "far": {"type": "openai_compatible", "base_url": upstream.url, "api_key": "env:UPSTREAM_KEY"},
                "gone": {"type": "openai_compatible", "base_url": f"http://127.0.0.1:{port}/v1"},
            },
            "deployments": {
                "far": {"model": model, "provider": "far", "timeouts": {"first_event": 5, "between_events": 5}},
                "gone": {"model": model, "provider": "gone"},
                "impatient": {
                    "model": model,
                    "provider": "far",
                    "timeouts": short,
                },
            },
        },
        UPSTREAM_KEY="the-upstreams-key",
    )


def asked(model: str = "far", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Hi"}], **fields}


PATHS = ["/models/chat/completions", "/v1/chat/completions"]
every_path = pytest.mark.parametrize("path", PATHS)
BROKEN_BEFORE = {
    "hangs up without a word": b"",
    "hangs up in the head": b"HTTP/1.1 200 OK\r\ncontent-ty",
    "hangs up before the first event": OK,
    "hangs up in the first event": OK + FIRST[:40],
    "is no HTTP": b"\x00\x01\x02\x03\r\n\r\n",
    "is HTML with a 200": JSON % 27 + b"<html>It works!</html>     ",
    "is half a JSON object": JSON % len(ANSWER) + ANSWER[:50],
    "is an empty object": JSON % 2 + b"{}",
    "fails": b"HTTP/1.1 500 Oops\r\nconnection: close\r\ncontent-length: 4\r\n\r\nOops",
    "is a gateway that fails": b"HTTP/1.1 502 Bad Gateway\r\nconnection: close\r\ncontent-length: 3\r\n\r\n<p>",
    "does not know the gateway": b"HTTP/1.1 401 No\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}",
    "does not know the model": b"HTTP/1.1 404 No\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}",
}


@every_path
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("answer", BROKEN_BEFORE.values(), ids=BROKEN_BEFORE)
def test_an_upstream_that_breaks_at_first_is_a_503_that_says_when_to_retry(
    served: Served, upstream: Upstream, path: str, streamed: bool, answer: bytes
) -> None:
    upstream.answer = answer
    got = served.call("POST", path, asked(stream=streamed))
    assert got.status == 503, got.body
    assert int(got.headers["retry-after"]) >= 1
    assert got.json["error"]["code"]
    assert b"127.0.0.1" not in got.body
    record = served.journal()[-1]
    assert (record.ending, record.status, record.usage.total) == ("failed", 503, 0)


BROKEN_MIDWAY = {
    "hangs up": OK + FIRST,
    "hangs up in an event": OK + FIRST + FIRST[:60],
    "ends without an end": OK + FIRST + DELTA % b'{"content":"lo"}',
    "says an error": OK + FIRST + b'data: {"error":{"message":"out of memory","type":"server_error"}}\n\n',
    "says no JSON": OK + FIRST + b"data: {nonsense\n\n",
    "says a number": OK + FIRST + b"data: 7\n\ndata: [DONE]\n\n",
}


@every_path
@pytest.mark.parametrize("answer", BROKEN_MIDWAY.values(), ids=BROKEN_MIDWAY)
def test_an_upstream_that_breaks_midway_is_an_error_chunk_and_a_broken_connection(
    served: Served, upstream: Upstream, path: str, answer: bytes
) -> None:
    upstream.answer = answer
    got = served.call("POST", path, asked(stream=True))
    assert got.status == 200
    assert not got.is_whole
    assert b"[DONE]" not in got.body
    assert got.chunks[0]["choices"]
    assert got.chunks[-1]["choices"] == []
    assert got.chunks[-1]["error"]["code"]
    record = served.journal()[-1]
    assert (record.ending, record.status) == ("failed", 200)
    assert record.error_code is not None
    assert record.usage.output > 0


@every_path
def test_an_upstream_that_is_not_there_is_a_503(served: Served, path: str) -> None:
    got = served.call("POST", path, asked("gone"))
    assert got.status == 503
    assert int(got.headers["retry-after"]) >= 1


@every_path
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_an_upstream_that_stalls_is_a_time_out_and_is_hung_up_on(
    served: Served, upstream: Upstream, path: str, streamed: bool
) -> None:
    upstream.answer, left = None, upstream.left
    got = served.call("POST", path, asked("impatient", stream=streamed))
    if streamed:
        assert got.status == 200
        assert not got.is_whole
        assert got.chunks[-1]["error"]["code"] == "Timeout"
    else:
        assert got.status in (503, 504)
    eventually(lambda: upstream.left == left + 1, "the upstream is hung up on")
    assert served.journal()[-1].ending == "failed"


def test_a_caller_that_leaves_is_hung_up_on_upstream(served: Served, upstream: Upstream) -> None:
    upstream.answer, left = None, upstream.left
    with served.connect() as connection:
        connection.sendall(served.request(PATHS[0], asked(stream=True)))
        until(connection, b'"Hel"')
    eventually(lambda: upstream.left == left + 1, "the upstream is hung up on")
    eventually(lambda: served.journal()[-1].ending == "cancelled", "the record")
    assert served.journal()[-1].usage.output > 0


def test_a_redirect_is_not_followed(served: Served, upstream: Upstream) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.settimeout(0.2)
        place = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/v1/chat/completions"
        upstream.answer = (
            b"HTTP/1.1 307 No\r\nlocation: %s\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % place.encode()
        )
        got = served.call("POST", PATHS[0], asked())
        assert got.status == 503
        with pytest.raises(TimeoutError):
            elsewhere.accept()


def test_the_caller_never_sees_the_upstreams_key_and_the_upstream_never_the_callers(
    served: Served, upstream: Upstream
) -> None:
    upstream.answer = b"HTTP/1.1 401 No\r\nconnection: close\r\ncontent-length: 60\r\n\r\n" + json.dumps(
        {"error": {"message": "bad key the-upstreams-key"}}
    ).encode().ljust(60)
    got = served.call("POST", PATHS[0], asked())
    assert b"the-upstreams-key" not in got.body
    assert served.key.encode() not in upstream.requests[-1]
    assert b"Bearer the-upstreams-key" in upstream.requests[-1]
    assert "the-upstreams-key" not in served.stderr()
