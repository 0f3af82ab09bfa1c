"""A client and an upstream in one process that drive a server in fixed batches, so that other load changes nothing.

A batch is a request on each connection. The server stands still (SIGSTOP) while all of them are written, so it finds
them together in one turn of its loop; and so with the answers of the upstream. The next batch begins when all answers
are here. How many calls share a turn is therefore the same on a busy machine and on a quiet one.
"""

from __future__ import annotations

import os
import re
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

CONNECTIONS = 16
STREAM_ROUNDS, ROUND_EVENTS = 10, 10
"""A stream of a hundred events comes in ten turns."""
PATIENCE_SECONDS = 120
TEXT = ("aaaaaaa " * 29).encode()
USAGE = b'"usage":{"prompt_tokens":150,"completion_tokens":42,"total_tokens":192}'
WHOLE = (
    b'{"id":"chatcmpl-0123456789abcdef0123456789abc","object":"chat.completion","created":1700000000,"model":"mock",'
    b'"choices":[{"index":0,"message":{"role":"assistant","content":"%b"},"finish_reason":"stop"}],%b}' % (TEXT, USAGE)
)
VECTOR = ",".join(f"{0.5 / (number + 1):.8f}" for number in range(256)).encode()
VECTORS = (
    b'{"object":"list","data":[{"object":"embedding","index":0,"embedding":[%b]}],"model":"mock",'
    b'"usage":{"prompt_tokens":150,"total_tokens":150}}' % VECTOR
)
EVENT = (
    b'data: {"id":"chatcmpl-m","object":"chat.completion.chunk","created":1700000000,"model":"mock",'
    b'"choices":[{"index":0,"delta":{%b"content":"lorem ipsum dolor sit amet "},"finish_reason":null}]}\n\n'
)
LAST = (
    b'data: {"id":"chatcmpl-m","object":"chat.completion.chunk","created":1700000000,"model":"mock",'
    b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],%b}\n\ndata: [DONE]\n\n' % USAGE
)
LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
Answer = Sequence[bytes]
"""What the upstream writes, a part for each turn of the server."""


def whole(body: bytes) -> Answer:
    """An answer in one part."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    return [head + body]


def stream() -> Answer:
    """A hundred events."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    count = STREAM_ROUNDS * ROUND_EVENTS
    events = [EVENT % (b'"role":"assistant",' if number == 0 else b"") for number in range(count)]
    chunks = [b"%x\r\n%b\r\n" % (len(event), event) for event in events]
    parts = [b"".join(chunks[at : at + ROUND_EVENTS]) for at in range(0, len(chunks), ROUND_EVENTS)]
    return [head + parts[0], *parts[1:], b"%x\r\n%b\r\n0\r\n\r\n" % (len(LAST), LAST)]


class Peer:
    """One connection of the client, or of the upstream."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.read = b""

    def has_message(self) -> bool:
        """Whether a whole request or answer is here."""
        head, end, body = self.read.partition(b"\r\n\r\n")
        if not end:
            return False
        found = LENGTH.search(head)
        return len(body) >= int(found[1]) if found is not None else body.endswith(b"0\r\n\r\n")


class Batches:
    """Drives the server of a process on a port; is the upstream that the server knows by `upstream_port`."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._clients: list[Peer] = []
        self._upstreams: list[Peer] = []
        self.upstream_port: int = self._listener.getsockname()[1]
        self.process_id = 0

    def close(self) -> None:
        """Closes every connection."""
        for peer in (*self._clients, *self._upstreams):
            peer.connection.close()
        self._listener.close()
        self._selector.close()

    def connect(self, process_id: int, port: int, connections: int = CONNECTIONS) -> None:
        """Opens the client's connections."""
        self.process_id = process_id
        while self._clients:
            self._forget(self._clients.pop())
        for _ in range(connections):
            connection = socket.create_connection(("127.0.0.1", port))
            self._clients.append(self._watched(connection))

    def run(self, request: bytes, answer: Answer, batches: int) -> None:
        """So many batches of this request. Raises SystemExit if an answer is not 200."""
        for _ in range(batches):
            self._batch(request, answer)

    def _batch(self, request: bytes, answer: Answer) -> None:
        count = len(self._clients)
        self._write_together([(peer, request) for peer in self._clients])
        asked: list[Peer] = []

        def is_asked() -> bool:
            asked[:] = [peer for peer in self._upstreams if peer.has_message()]
            return len(asked) == count or any(peer.has_message() for peer in self._clients)

        self._await(is_asked)
        if len(asked) < count:
            self._await(lambda: False, 1.0)  # so that the error is whole
            raise SystemExit(f"bench: refused: {self._clients[0].read[:600]!r}")
        for peer in asked:
            peer.read = b""
        events = 0
        for number, part in enumerate(answer):
            self._write_together([(peer, part) for peer in asked])
            events += part.count(b"data: {")
            if number < len(answer) - 1:
                self._await(partial(self._have_events, events))
        self._await(lambda: all(peer.has_message() for peer in self._clients))
        for peer in self._clients:
            if not peer.read.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"bench: not a 200: {peer.read[:600]!r}")
            peer.read = b""

    def _have_events(self, count: int) -> bool:
        return all(peer.read.count(b'"delta":{') >= count for peer in self._clients)

    def _write_together(self, messages: Sequence[tuple[Peer, bytes]]) -> None:
        with standing_still(self.process_id):
            for peer, data in messages:
                peer.connection.setblocking(True)
                peer.connection.sendall(data)
                peer.connection.setblocking(False)

    def _await(self, is_reached: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
        """Reads until it is reached. Raises SystemExit."""
        deadline = time.monotonic() + seconds
        while not is_reached():
            left = deadline - time.monotonic()
            if left <= 0:
                if seconds < PATIENCE_SECONDS:
                    return
                raise SystemExit("bench: the server does not answer")
            for key, _ in self._selector.select(left):
                self._readable(key.data)

    def _readable(self, peer: Peer | None) -> None:
        if peer is None:
            self._upstreams.append(self._watched(self._listener.accept()[0]))
            return
        try:
            data = peer.connection.recv(1 << 20)
        except ConnectionError:
            data = b""
        peer.read += data
        if not data:
            if peer in self._clients:
                raise SystemExit(f"bench: the server has closed a connection: {peer.read[:600]!r}")
            self._upstreams.remove(peer)
            self._forget(peer)

    def _watched(self, connection: socket.socket) -> Peer:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(False)
        peer = Peer(connection)
        self._selector.register(connection, selectors.EVENT_READ, peer)
        return peer

    def _forget(self, peer: Peer) -> None:
        self._selector.unregister(peer.connection)
        peer.connection.close()


@contextmanager
def standing_still(process_id: int) -> Iterator[None]:
    """The process and all its threads stop within the block."""
    os.kill(process_id, signal.SIGSTOP)
    try:
        while not all(state == "T" for state in states(process_id)):
            time.sleep(0.0002)
        yield
    finally:
        os.kill(process_id, signal.SIGCONT)


def states(process_id: int) -> list[str]:
    """Of each thread, in the kernel's letter."""
    found = []
    for path in Path(f"/proc/{process_id}/task").glob("*/stat"):
        try:
            found.append(path.read_text().rpartition(") ")[2][0])
        except OSError:
            continue
    return found
