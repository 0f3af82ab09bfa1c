"""An upstream that never ends: it reads a request, says how its answer begins, and repeats one block until the caller
hangs up."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any, Self

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
BLOCK_BYTES = 256 * 1024


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(delta: bytes) -> bytes:
    """One event of a chat's stream."""
    return b'data: {"id":"u","model":"m","choices":[{"index":0,"delta":%b}]}\n\n' % delta


TEXT = event(b'{"content":"%b"}' % (b"word " * 2048))


class Answer:
    """What one answer consists of, and what became of it."""

    def __init__(self, begin: bytes, block: bytes, pause_seconds: float) -> None:
        self.begin = begin
        self.block = block if pause_seconds else block * max(1, BLOCK_BYTES // len(block))
        self.pause_seconds = pause_seconds
        self.sent_bytes = 0
        self.left = threading.Semaphore(0)


class Endless:
    """`begin` is written once, `block` until the caller leaves; `pause_seconds` between two blocks."""

    def __init__(self) -> None:
        self._answer = Answer(b"", b" ", 0)
        self._ending = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept)]

    @property
    def url(self) -> str:
        """The base address of a provider."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"

    @property
    def sent_bytes(self) -> int:
        """Of the blocks of the answer that was said last."""
        return self._answer.sent_bytes

    @property
    def left(self) -> threading.Semaphore:
        """Counts the callers that left the answer that was said last."""
        return self._answer.left

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._ending.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def says(self, begin: bytes, block: bytes, pause_seconds: float = 0.0) -> None:
        """From the next request on; a caller who still reads an earlier answer goes on reading that one."""
        self._answer = Answer(begin, block, pause_seconds)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(connection,))
                thread.start()
                self._threads.append(thread)

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(1)
        with connection, contextlib.suppress(OSError):
            data = b""
            while b"\r\n\r\n" not in data:
                received = connection.recv(65536)
                if not received:
                    return
                data += received
            answer = self._answer
            with contextlib.suppress(OSError):
                connection.sendall(answer.begin)
                while not self._ending.is_set():
                    with contextlib.suppress(TimeoutError):
                        answer.sent_bytes += connection.send(answer.block)
                    self._ending.wait(answer.pause_seconds)
            answer.left.release()
