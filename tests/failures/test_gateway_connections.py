"""What connections can cost a real server: pipelined requests, trailers, handshakes, compressed bodies, HTTP/1.0."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from served import KEY, Served, eventually, until, until_closed
from served import serve as serve_process

UNREAD_CONNECTIONS = 20
MEGABYTES = 64
"""More than the server may grow by while so much is sent to it: it was 2,100."""
CONFIG: dict[str, Any] = {
    "server": {"limits": {"idle_seconds": 3, "header_seconds": 3, "connections": 400}},
    "providers": {
        "up": {"type": "openai_compatible", "base_url": "http://127.0.0.1:9/v1"},
        "script": {"type": "scripted"},
    },
    "deployments": {
        "script": {
            "model": {"format": "Custom", "name": "script", "version": "1"},
            "limits": {"tokens_per_minute": None, "requests_per_minute": None},
            "provider": "script",
            "default": True,
        },
        "remote": {"model": {"format": "Custom", "name": "remote", "version": "1"}, "provider": "up"},
    },
}
CHAT = {"messages": [{"role": "user", "content": "Hello!"}]}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve_process(CONFIG, tmp_path_factory.mktemp("connections") / "data") as found:
        found.ready()
        yield found


def memory_mb(served: Served) -> float:
    """What the process has of its own."""
    lines = Path(f"/proc/{served.process.pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty")) / 1024


def send_all(connection: socket.socket, data: bytes) -> None:
    """As much as the server takes."""
    connection.setblocking(False)
    with contextlib.suppress(BlockingIOError, ConnectionError):
        while data:
            data = data[connection.send(data) :]
    connection.settimeout(60)


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}",
    ],
    ids=["GET", "upgrade", "POST"],
)
def test_pipelined_requests_whose_answers_nobody_reads_cost_little(served: Served, request_: bytes) -> None:
    before = memory_mb(served)
    with ExitStack() as stack:
        connections = [stack.enter_context(served.connect()) for _ in range(UNREAD_CONNECTIONS)]
        for connection in connections:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            send_all(connection, request_ * (1_000_000 // len(request_)))
        for _ in range(5):
            assert served.call("GET", "/health", key=None).status == 200
            assert memory_mb(served) < before + MEGABYTES
    assert served.call("GET", "/health", key=None).status == 200


def test_pipelined_requests_whose_answers_are_read_are_all_answered(served: Served) -> None:
    count = 2000
    with served.connect() as connection:
        request_ = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
        connection.sendall(request_ * count + request_.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert until_closed(connection).count(b"HTTP/1.1 200 ") == count + 1


def begun(path: str, framing: str, rest: str = "", method: str = "POST") -> bytes:
    """A request with a valid credential that stops there."""
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\napi-key: {KEY}\r\n{framing}\r\n\r\n{rest}".encode()


LENGTH, CHUNKED = "Content-Length: 9", "Transfer-Encoding: chunked"
UNFINISHED = {
    "nothing": b"",
    "an empty line": b"\r\n",
    "half a head": b"GET / HTTP/1.1\r\nHost: loc",
    "half a body": begun("/v1/chat/completions", LENGTH, "{"),
    "half a chunk": begun("/score", CHUNKED, "5"),
    "half a trailer": begun("/score", CHUNKED, "0\r\nX"),
    "a body that waits to be asked for": begun("/v1/chat/completions", f"Expect: 100-continue\r\n{LENGTH}"),
    "a body that nobody reads": begun("/nowhere", LENGTH, "{"),
    "a body for a GET": begun("/health", LENGTH, "{", method="GET"),
    "an admin's body": begun("/admin/v1/prices", LENGTH, "{", method="PUT"),
}


@pytest.mark.parametrize("begin", UNFINISHED.values(), ids=UNFINISHED)
def test_what_is_never_finished_ends(served: Served, begin: bytes) -> None:
    with served.connect() as connection:
        connection.sendall(begin)
        until_closed(connection)


@pytest.mark.parametrize("begin", [UNFINISHED["half a head"], UNFINISHED["half a body"]], ids=["head", "body"])
def test_a_half_closed_connection_ends(served: Served, begin: bytes) -> None:
    with served.connect() as connection:
        connection.sendall(begin)
        connection.shutdown(socket.SHUT_WR)
        until_closed(connection)


def chunked(path: str, body: bytes, *trailers: str, method: str = "POST", fields: str = "") -> bytes:
    """A request whose trailers say something."""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}"
    frame = b"%x\r\n%b\r\n0\r\n" % (len(body), body) if body else b"0\r\n"
    return f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + frame + "\r\n".join([*trailers, "", ""]).encode()


@pytest.mark.parametrize("field", ["api-key: {key}", "Authorization: Bearer {key}", "Ocp-Apim-Subscription-Key: {key}"])
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/chat/completions", CHAT),
        ("POST", "/models/chat/completions", CHAT),
        ("POST", "/v1/chat/completions", {"model": "remote", **CHAT}),
        ("GET", "/metrics", None),
        ("GET", "/v1/models", None),
        ("GET", "/admin/v1/usage", None),
    ],
)
def test_a_credential_in_a_trailer_is_none(served: Served, method: str, path: str, body: Any, field: str) -> None:
    data = b"" if body is None else json.dumps(body).encode()
    answer = served.exchange(chunked(path, data, field.format(key=KEY), method=method))
    assert answer.startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize(
    "trailer",
    ["x-ms-model-mesh-model-name: remote", "azureml-model-deployment: remote", "extra-parameters: nonsense"],
)
def test_a_routing_field_in_a_trailer_is_dropped(served: Served, trailer: str) -> None:
    request_ = chunked("/models/chat/completions", json.dumps(CHAT).encode(), trailer, fields=f"api-key: {KEY}\r\n")
    answer = served.exchange(request_)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"x-ms-deployment-name: script" in answer


PACKED = json.dumps(CHAT).encode()
ENCODED = {
    "gzip": gzip.compress(PACKED),
    "GZip": gzip.compress(PACKED),
    "x-gzip": gzip.compress(PACKED),
    "deflate": zlib.compress(PACKED),
    "br": b"\x0b\x02\x80{}\x03",
    "zstd": b"\x28\xb5\x2f\xfd",
    "gzip, gzip": gzip.compress(gzip.compress(PACKED)),
    "identity, gzip": gzip.compress(PACKED),
}


@pytest.mark.parametrize(("encoding", "body"), ENCODED.items(), ids=ENCODED)
@pytest.mark.parametrize(
    "path", ["/models/chat/completions", "/v1/chat/completions", "/chat/completions", "/score", "/v1/embeddings"]
)
def test_a_compressed_body_is_415_and_named(served: Served, path: str, encoding: str, body: bytes) -> None:
    answer = served.call("POST", path, body, headers={"content-encoding": encoding})
    assert answer.status == 415
    assert answer.headers["accept-encoding"] == "identity"
    message = answer.json["error"]["message"]
    assert encoding in message
    assert "uncompressed" in message


@pytest.mark.parametrize("chunks", [False, True], ids=["length", "chunked"])
def test_a_compressed_body_without_a_length_or_in_two_fields_is_415(served: Served, chunks: bool) -> None:
    body = gzip.compress(PACKED)
    fields = f"api-key: {KEY}\r\nContent-Encoding: identity\r\nContent-Encoding: gzip\r\n"
    request_ = chunked("/v1/chat/completions", body, fields=fields)
    if not chunks:
        fields = f"Connection: close\r\n{fields}Content-Length: {len(body)}\r\n\r\n"
        request_ = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n{fields}".encode() + body
    assert served.exchange(request_).startswith(b"HTTP/1.1 415 ")


def test_a_stranger_with_a_compressed_body_is_a_stranger(served: Served) -> None:
    body = gzip.compress(PACKED)
    answer = served.call("POST", "/v1/chat/completions", body, headers={"content-encoding": "gzip"}, key="wrong")
    assert answer.status == 401


@pytest.mark.parametrize("encoding", ["identity", "Identity", ""])
def test_a_body_that_is_not_compressed_is_read(served: Served, encoding: str) -> None:
    answer = served.call("POST", "/v1/chat/completions", CHAT, headers={"content-encoding": encoding})
    assert answer.status == 200


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("fields", ["", "Connection: keep-alive\r\n"], ids=["", "keep-alive"])
def test_http_1_0_gets_no_chunks(served: Served, stream: bool, fields: str) -> None:
    body = json.dumps({**CHAT, "stream": stream}).encode()
    head = f"POST /v1/chat/completions HTTP/1.0\r\n{fields}api-key: {KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
    answer = served.exchange(head.encode() + body)
    told, _, said = answer.partition(b"\r\n\r\n")
    assert told.startswith(b"HTTP/1.1 200 ")
    assert b"transfer-encoding" not in told
    assert b"\r\nconnection: close" in told
    if stream:
        assert said.startswith(b"data: {")
        assert said.endswith(b"data: [DONE]\n\n")
        assert b"content-length" not in told
        for line in said.split(b"\n\n")[:-2]:
            json.loads(line.removeprefix(b"data: "))
    else:
        assert json.loads(said)["choices"]


def test_handshakes_that_never_end_are_ended(tmp_path: Path) -> None:
    config = {**CONFIG, "server": {**CONFIG["server"], "tls": {"self_signed": True}}}
    with serve_process(config, tmp_path / "data") as served, ExitStack() as stack:
        silent = [stack.enter_context(served.connect()) for _ in range(100)]
        begun = [stack.enter_context(served.connect()) for _ in range(100)]
        for connection in begun:
            connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
        for connection in (*silent, *begun):
            assert until_closed(connection) == b""


def test_connections_over_the_limit_are_told_so_and_the_others_served(served: Served) -> None:
    with ExitStack() as stack:
        held = [stack.enter_context(served.connect()) for _ in range(450)]
        refused = [connection for connection in held[400:] if b" 503 " in until(connection, b"\r\n\r\n")]
        assert len(refused) >= 50
        held[0].sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b" 200 " in until(held[0], b"ok")
    eventually(lambda: is_answered(served), "an answer")


def is_answered(served: Served) -> bool:
    try:
        return served.call("GET", "/health", key=None).status == 200
    except ConnectionError:
        return False
