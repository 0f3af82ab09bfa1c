"""An upstream of a bare socket: it writes what a test has told it, byte for byte, and may then wait for its caller."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from typing import Any, Self

JSON_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


def document(body: Any) -> bytes:
    """A whole answer."""
    data = json.dumps(body).encode()
    return JSON_HEAD % len(data) + data


def events(*chunks: Any, is_done: bool = True) -> bytes:
    """A stream."""
    data = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks)
    return STREAM_HEAD + data + (b"data: [DONE]\n\n" if is_done else b"")


class ScriptedUpstream:
    """`answer` is written for each request; then the connection closes, or with `waits` only when its caller goes."""

    def __init__(self) -> None:
        self.answer = b""
        self.waits = False
        self.asked = threading.Semaphore(0)
        self.left = threading.Semaphore(0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._accept)

    @property
    def url(self) -> str:
        """The base address of a provider."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"

    def says(self, answer: bytes, *, waits: bool = False) -> None:
        """From the next request on."""
        self.answer, self.waits = answer, waits
        self.asked, self.left = threading.Semaphore(0), threading.Semaphore(0)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        answer, waits, asked, left = self.answer, self.waits, self.asked, self.left
        connection.settimeout(60)
        with connection, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                received = connection.recv(65536)
                if not received:
                    return
                head += received
            head, _, body = head.partition(b"\r\n\r\n")
            length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            while len(body) < length:
                body += connection.recv(65536)
            connection.sendall(answer)
            asked.release()
            if waits:
                with contextlib.suppress(OSError):
                    while connection.recv(65536):
                        pass
                left.release()
