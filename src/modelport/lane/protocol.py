"""The HTTP/1.1 server protocol: uvicorn's httptools one, with what it leaves to its users.

- Header bytes and header count are bounded (431), and a head must arrive in time (408).
- `Connection: Upgrade` with anything but a websocket (every Java client on plain http asks for h2c) is answered as the
  plain HTTP/1.1 request that it also is: httptools stops at such a head and loses the body, so the head is fed again
  to a fresh parser without the upgrade.
- What cannot be parsed gets a JSON 400.

Leans on these attributes of uvicorn's class, held by contract tests: `parser`, `url`, `headers`, `transport`, `loop`,
`cycle`, `data_received`, `on_message_begin`, `on_header`, `on_headers_complete`, `on_message_complete`,
`connection_made`, `connection_lost`, `send_400_response`, `_unset_keepalive_if_required`.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from modelport.dialects.heads import error_head

MAX_HEADERS: Final = 100
NOT_FORWARDED: Final = (b"upgrade", b"connection", b"http2-settings")


class HeadRefused(Exception):
    """The head of a request is not acceptable; the answer is already written."""


class LaneProtocol(HttpToolsProtocol):
    """One connection. `header_bytes` and `header_seconds` are set on a subclass by `bound`."""

    header_bytes: int = 32 * 1024
    header_seconds: float = 20.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_size = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._plain_upgrade = False
        self._refused = False

    # --- time ------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.header_seconds, self._head_late)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_late(self) -> None:
        self._head_timer = None
        busy = self.cycle is not None and not self.cycle.response_complete
        if not busy and not self.transport.is_closing():
            self._refuse(408, "408", "The request's head did not arrive in time.")

    # --- size, and upgrades that are none --------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._unset_keepalive_if_required()
        try:
            self._feed(data)
        except HeadRefused:
            return
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, HeadRefused):
                return
            self.send_400_response("Invalid HTTP request received.")

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            rest = data[upgrade.args[0] :]
            head = self._head_without_upgrade()
            self.parser = httptools.HttpRequestParser(self)
            self._feed(head + rest)

    def _head_without_upgrade(self) -> bytes:
        lines = [self.parser.get_method(), b" ", self.url, b" HTTP/1.1\r\n"]
        for name, value in self.headers:
            if name not in NOT_FORWARDED:
                lines += [name, b": ", value, b"\r\n"]
        lines.append(b"\r\n")
        return b"".join(lines)

    def on_message_begin(self) -> None:
        self._head_size = 0
        self._plain_upgrade = False
        self._expect_head()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._grow(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._grow(len(name) + len(value) + 4)
        if len(self.headers) >= MAX_HEADERS:
            self._refuse(431, "431", f"The request has more than {MAX_HEADERS} header fields.")
            raise HeadRefused
        super().on_header(name, value)

    def _grow(self, size: int) -> None:
        self._head_size += size
        if self._head_size > self.header_bytes:
            self._refuse(431, "431", f"The request's head is larger than the limit of {self.header_bytes} bytes.")
            raise HeadRefused

    def on_headers_complete(self) -> None:
        self._stop_head_timer()
        if self.parser.should_upgrade():
            self._plain_upgrade = True  # data_received feeds it again without the upgrade
            return
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        if not self._plain_upgrade:
            super().on_message_complete()

    # --- answers to what is no request -----------------------------------------------------------------------------

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "BadRequest", msg)

    def _refuse(self, status: int, code: str, message: str) -> None:
        """Writes a whole answer and closes, unless an answer is being written already."""
        self._refused = True
        self._stop_head_timer()
        if self.transport.is_closing():
            return
        if self.cycle is None or not self.cycle.response_started or self.cycle.response_complete:
            self.transport.write(error_head(STATUS_LINE[status], code, message))
        self.transport.close()


def bound(header_bytes: int, header_seconds: float) -> type[LaneProtocol]:
    """The protocol class with these limits, for `uvicorn.Config(http=…)`."""
    return type("BoundLaneProtocol", (LaneProtocol,), {"header_bytes": header_bytes, "header_seconds": header_seconds})
