"""Answers to HTTP/1.0, which has no chunks: a body without a length ends with the connection."""

from __future__ import annotations

import socket
import struct
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from modelport.surfaces.asgi import Headers, Message

RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing the socket resets the connection."""
NO_RESET: Final = struct.pack("ii", 0, 0)


class Http10Answer:
    """Stands in for a cycle's `send`. What has a length goes to the cycle; the rest is written as it is."""

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._send_framed = cycle.send
        self._is_raw = False

    async def send(self, message: Message) -> None:
        """ASGI's send."""
        cycle = self._cycle
        if message["type"] == "http.response.start":
            headers: Headers = list(message.get("headers", []))
            self._is_raw = cycle.scope["method"] != "HEAD" and all(name != b"content-length" for name, _ in headers)
        if not self._is_raw:
            await self._send_framed(message)  # type: ignore[arg-type]
            return
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        if cycle.disconnected:
            return
        if message["type"] == "http.response.start":
            self._begin(message["status"], [*cycle.default_headers, *headers])
        else:
            cycle.transport.write(message.get("body", b""))
            if not message.get("more_body", False):
                self._finish()

    def _begin(self, status: int, headers: Headers) -> None:
        """The head. Until the body is whole, the end of the connection is a reset: a client that reads until the end
        must not take a broken answer for a whole one."""
        cycle = self._cycle
        cycle.response_started, cycle.waiting_for_100_continue, cycle.keep_alive = True, False, False
        lines = [b"%b: %b\r\n" % field for field in headers if field[0] != b"connection"]
        cycle.transport.write(b"".join([STATUS_LINE[status], *lines, b"connection: close\r\n\r\n"]))
        self._linger(RESET)

    def _finish(self) -> None:
        cycle = self._cycle
        self._linger(NO_RESET)
        cycle.response_complete = True
        cycle.message_event.set()
        cycle.transport.close()
        cycle.on_response()

    def _linger(self, option: bytes) -> None:
        connection: Any = self._cycle.transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
