"""The edges of HTTP/1.1 that the lane adds to uvicorn's protocol, over raw sockets."""

from __future__ import annotations

import asyncio
import inspect
import json

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from raw_http import echo, exchange, serving

JAVA_HEAD = (
    b"POST /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\nContent-Length: 5\r\n\r\n"
)
CLOSING = b"GET /next HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    "pieces",
    [
        (JAVA_HEAD + b"hello" + CLOSING,),
        (JAVA_HEAD, b"hello", CLOSING),
        (JAVA_HEAD[:40], JAVA_HEAD[40:], b"he", b"llo" + CLOSING),
    ],
)
async def test_an_h2c_upgrade_is_answered_as_http_1_1_with_its_body(pieces: tuple[bytes, ...]) -> None:
    async with serving() as port:
        answer = await exchange(port, *pieces, pause=0.02)
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert b'{"method": "POST", "path": "/chat", "body": "hello"}' in answer
    assert b'"path": "/next"' in answer


async def test_who_takes_the_server_for_a_proxy_is_refused() -> None:
    async with serving() as port:
        answer = await exchange(port, b"CONNECT 192.0.2.1:443 HTTP/1.1\r\nHost: 192.0.2.1:443\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"no proxy" in answer


async def test_a_head_over_the_limit_is_431_and_the_connection_closes() -> None:
    async with serving(header_bytes=1000) as port:
        answer = await exchange(port, b"GET / HTTP/1.1\r\nHost: x\r\nX-Big: " + b"a" * 2000 + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert b"x-ms-error-code: 431" in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "431"


async def test_more_than_a_hundred_header_fields_are_431() -> None:
    fields = b"".join(b"X-%d: 1\r\n" % i for i in range(120))
    async with serving(header_bytes=32768) as port:
        answer = await exchange(port, b"GET / HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 431 ")


async def test_a_long_url_counts_as_head() -> None:
    async with serving(header_bytes=1000) as port:
        answer = await exchange(port, b"GET /" + b"a" * 3000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nhello",
        b"GET / HTTP/1.1\nHost: x\n\n\x00",
        b"not http at all\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n folded: yes\r\n\r\n",
    ],
)
async def test_what_is_no_http_or_smells_of_smuggling_is_a_json_400(request_bytes: bytes) -> None:
    async with serving() as port:
        answer = await exchange(port, request_bytes)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "BadRequest"


async def test_a_client_that_never_finishes_its_head_is_closed_with_408() -> None:
    async with serving(header_seconds=0.2) as port:
        answer = await exchange(port, b"GET / HTTP/1.1\r\nHost:")
    assert answer.startswith(b"HTTP/1.1 408 ")


async def test_expect_continue_gets_its_100_before_the_body() -> None:
    async with serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hi")
        assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with serving() as port:
        first = b"POST /1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        answer = await exchange(port, first + b"GET /2 HTTP/1.1\r\nHost: x\r\n\r\n" + CLOSING)
    assert [answer.find(b'"/1"'), answer.find(b'"/2"'), answer.find(b'"/next"')] == sorted(
        [answer.find(b'"/1"'), answer.find(b'"/2"'), answer.find(b'"/next"')]
    )
    assert -1 not in (answer.find(b'"/1"'), answer.find(b'"/2"'), answer.find(b'"/next"'))


@pytest.mark.parametrize(
    "name",
    [
        "data_received",
        "on_message_begin",
        "on_url",
        "on_header",
        "on_headers_complete",
        "on_message_complete",
        "connection_made",
        "connection_lost",
        "send_400_response",
        "shutdown",
        "on_body",
        "on_response_complete",
        "pause_writing",
        "resume_writing",
    ],
)
def test_uvicorns_protocol_still_has_what_the_lane_overrides(name: str) -> None:
    assert callable(getattr(HttpToolsProtocol, name))


@pytest.mark.parametrize(
    "name",
    [
        *("parser", "url", "headers", "scope", "transport", "loop", "flow", "cycle", "connections", "server_state"),
        *("expect_100_continue", "timeout_keep_alive"),
    ],
)
async def test_uvicorns_protocol_still_keeps_what_the_lane_reads(name: str) -> None:
    protocol = HttpToolsProtocol(uvicorn.Config(echo, log_config=None), ServerState(), {})
    protocol.on_message_begin()
    assert name in vars(protocol)


@pytest.mark.parametrize("name", ["response_started", "response_complete", "keep_alive"])
def test_uvicorns_cycle_still_says_what_our_reply_says_in_its_place(name: str) -> None:
    assert name in inspect.getsource(RequestResponseCycle.__init__)
