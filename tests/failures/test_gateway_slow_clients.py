"""Clients that send slowly or do not read: they cost themselves, not the others."""

from __future__ import annotations

import resource
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from served import Served, eventually, until, until_closed

SLOW_CLIENTS = 100
NOT_READING = 6
CONFIG: dict[str, Any] = {
    "server": {"limits": {"request_seconds": 4, "body_bytes": 1_000_000}},
    "deployments": {
        "script": {
            "model": {"format": "Custom", "name": "script", "version": "1"},
            "limits": {"tokens_per_minute": None, "requests_per_minute": None},
            "provider": {
                "type": "scripted",
                "replies": [{"match": {"contains": "flood"}, "chunks": ["x" * 1000] * 100}],
            },
        }
    },
}


@pytest.fixture(scope="module")
def served(serve_module: Callable[..., Served]) -> Served:
    return serve_module(CONFIG)


def test_a_hundred_clients_that_drip_their_bodies_do_not_stop_the_others(served: Served) -> None:
    head = served.head("POST", "/models/chat/completions", 100_000, connection="close")
    with ExitStack() as stack:
        slow = [stack.enter_context(served.connect()) for _ in range(SLOW_CLIENTS)]
        for connection in slow:
            connection.sendall(head)
        for byte in b'{"messages':
            for connection in slow:
                connection.sendall(bytes([byte]))
            assert served.chat().status == 200
        for connection in slow:
            received = until_closed(connection)
            assert received.startswith(b"HTTP/1.1 408 ")
            assert b'"code":"408"' in received.replace(b" ", b"")
    assert served.chat().status == 200
    assert served.metric("modelport_journal_open_calls") == 0


def test_clients_that_do_not_read_are_let_go_and_do_not_stop_the_others(served: Served) -> None:
    body = {"messages": [{"role": "user", "content": "flood"}], "stream": True, "n": 64}
    before = len(served.journal())
    with ExitStack() as stack:
        for _ in range(NOT_READING):
            connection = stack.enter_context(served.connect())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(served.request("/v1/chat/completions", body))
            until(connection, b"HTTP/1.1 200 ")
        for _ in range(5):
            assert served.chat().status == 200
        eventually(lambda: len(served.journal()) == before + NOT_READING + 5, "the record of each")
    assert served.metric("modelport_journal_open_calls") == 0


def test_a_server_out_of_descriptors_goes_on_when_there_are_some_again(serve: Callable[..., Any]) -> None:
    with serve(CONFIG) as served:
        few = len(list(Path(f"/proc/{served.process.pid}/fd").iterdir())) + 10
        resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE, (few, few))
        with ExitStack() as stack:
            for _ in range(50):
                stack.enter_context(served.connect())
            eventually(lambda: len(list(Path(f"/proc/{served.process.pid}/fd").iterdir())) == few, "no descriptor left")
        eventually(lambda: is_answered(served), "an answer")
        assert served.process.poll() is None


def is_answered(served: Served) -> bool:
    """Whether a call gets through. Where no descriptor is left, connections are closed unseen."""
    try:
        return served.chat().status == 200
    except ConnectionError:
        return False


def test_a_body_over_the_limit_is_refused_before_it_is_read(served: Served) -> None:
    answer = served.exchange(served.head("POST", "/models/chat/completions", 10**12, expect="100-continue"))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"RequestEntityTooLarge" in answer


def test_a_chunked_body_over_the_limit_is_refused_while_it_comes(served: Served) -> None:
    head = served.head("POST", "/models/chat/completions", 0, connection="close")
    head = head.replace(b"content-length: 0", b"transfer-encoding: chunked")
    chunk = b"%x\r\n" % 100_000 + b" " * 100_000 + b"\r\n"
    answer = served.exchange(head + chunk * 11 + b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "head",
    [
        b"POST /models/chat/completions HTTP/1.1\r\nhost: localhost\r\nx-filler: " + b"y" * 40_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"x-%d: y\r\n" % number for number in range(200)) + b"\r\n",
        b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n",
    ],
    ids=["one large field", "many fields", "a long path"],
)
def test_a_head_over_the_limit_is_refused(served: Served, head: bytes) -> None:
    answer = served.exchange(head)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b'"error"' in answer
