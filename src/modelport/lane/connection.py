"""One HTTP/1.1 connection to a caller: uvicorn's httptools protocol with bounds on everything that a caller can send.

- One request at a time. What comes after it waits unparsed until its answer is written and read, and the transport
  stops reading once that is more than a little. A parser that is fed two requests at once begins both, so a read is cut
  where a second request line may be.
- The head's limits (bytes, fields, time) hold for heads, for empty lines before them, and for chunk headers and
  trailers. Trailers are dropped (RFC 9110 6.5.1).
- Every state has a deadline (`sweep`): a head, a connection without a request, an answer that is not read, an end. A
  body and the making of an answer have theirs in the application or the call.
- `Connection: Upgrade` (every Java client on plain http asks for h2c) is answered as the plain request that it also is:
  httptools stops at such a head and loses the body, so the head is fed again without the upgrade.

Leans on these attributes of uvicorn's class, held by contract tests: `parser`, `url`, `headers`, `scope`, `transport`,
`loop`, `flow`, `cycle`, `connections`, `server_state`, `expect_100_continue`, `timeout_keep_alive`, `data_received`,
`on_message_begin`, `on_headers_complete`, `on_body`, `on_message_complete`, `on_response_complete`, `connection_made`,
`connection_lost`, `pause_writing`, `resume_writing`, `send_400_response`, `shutdown`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from modelport.core.errors import InternalError
from modelport.core.faults import frames
from modelport.dialects.heads import error_head
from modelport.lane.http10 import Http10Answer
from modelport.lane.request_rules import CHECKED_FIELDS, WRONG_VERSION, head_fault, target_fault
from modelport.lane.spellings import SPELLINGS
from modelport.upstream.sweep import Sweep
from modelport.upstream.wire import RawHeaders

MAX_HEADERS: Final = 100
LARGEST_READ_BYTES: Final = 256 * 1024
PIPELINED_BYTES: Final = 16 * 1024
"""More than this behind an unanswered request, and nothing more is read."""
REQUEST_LINE: Final = b" HTTP/"
"""Each request line has it, so a piece that ends at the second one holds no second head."""
LINE_BYTES: Final = 16
"""Of a request line, beside method and target: spaces, version, line end; and the empty line after the head."""
NOT_FORWARDED: Final = (b"upgrade", b"connection", b"http2-settings")
NEVER: Final = float("inf")
log = logging.getLogger("modelport.surfaces")


class HeadRefused(Exception):
    """The head of a request is not acceptable; the answer is already written."""


class HeldFlow(FlowControl):
    """uvicorn's, whose cycles resume reading whenever they wait for something: not while requests queue up."""

    is_held = False

    def resume_reading(self) -> None:
        if not self.is_held:
            super().resume_reading()


class HttpConnection(HttpToolsProtocol):
    """One connection. What all connections of a server share is set on a subclass (`lane.protocol.bound`)."""

    header_bytes: int = 32 * 1024
    header_seconds: float = 20.0
    idle_seconds: float = 30.0
    max_connections: int = 8192
    sweep_of_all: Sweep

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._unparsed = b""
        self._unparsed_at = 0
        """Where in `_unparsed` the first byte is that the parser has not seen."""
        self._read_bytes = 0
        """Of the current head; of a chunked body, with its framing."""
        self._body_bytes = 0
        self._in_head = self._in_body = self._is_chunked = False
        self._answering = False
        """A whole request is here, and its answer is not complete."""
        self._refused = False
        self._last_words = b""
        """An error that is written after the current answer."""
        self._fields: Mapping[bytes, bytes] = {}
        """The CHECKED_FIELDS of the head that is read."""
        self._accepted: tuple[Mapping[bytes, bytes] | None, str] = (None, "")
        """Those of the last head that was acceptable, and its version."""
        self._head: RawHeaders = []
        """All fields of the current request. The parser's `headers` are those of its trailers by then."""
        self._plain_upgrade = False
        self._head_due = NEVER
        self._idle_due = NEVER
        """0: a sweep will say."""
        self._stall_due = NEVER
        self._stalled_bytes = 0
        self._data = b""
        """What is being parsed."""

    # --- time ------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._held_flow = self.flow = HeldFlow(self.transport)
        self._head_due = self.loop.time() + self.header_seconds
        self.sweep_of_all.watch(self)
        if len(self.connections) > self.max_connections:
            what = f"This process has {self.max_connections} connections, which is server.limits.connections."
            self._refuse(503, "ServiceUnavailable", what, retry_after=1)

    def connection_lost(self, exc: Exception | None) -> None:
        self.sweep_of_all.forget(self)
        self._unparsed, self._refused = b"", True
        super().connection_lost(exc)

    def sweep(self, now: float) -> None:
        """Ends what is late."""
        if self.flow.write_paused or self.transport.is_closing():
            self._sweep_unread(now)
        elif self._answering or self._in_body:
            return
        elif now > self._head_due:
            self._head_due = NEVER
            self._refuse(408, "408", "The request's head did not arrive in time.")
        elif not self._idle_due:
            self._idle_due = now + self.timeout_keep_alive
        elif now > self._idle_due:
            self.transport.close()

    def _sweep_unread(self, now: float) -> None:
        """Ends a client that does not read what was written, also where the connection only waits for that to close."""
        left = self.transport.get_write_buffer_size()
        if left < self._stalled_bytes or self._stall_due == NEVER:
            self._stalled_bytes, self._stall_due = left, now + self.idle_seconds
        elif now > self._stall_due:
            self.transport.abort()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stall_due = NEVER
        if self._unparsed and not self._answering:
            self.loop.call_soon(self._continue)

    def on_response_complete(self) -> None:
        """As uvicorn's, without a timer for each answer, and with a queue of bytes instead of requests."""
        self.server_state.total_requests += 1
        self._answering = False
        self._idle_due = 0.0
        if self.transport.is_closing():
            return
        if self._last_words:
            self.transport.write(self._last_words)
            self.transport.close()
        elif self._unparsed:
            self.loop.call_soon(self._continue)
        elif self.flow.read_paused:
            self.flow.resume_reading()

    # --- reading ---------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._answering or self._unparsed or self.flow.write_paused:
            self._put_back(self._unparsed[self._unparsed_at :] + data, 0)
        else:
            self._feed(data, 0)

    def _put_back(self, data: bytes, at: int) -> None:
        self._unparsed, self._unparsed_at = data, at
        if len(data) - at > PIPELINED_BYTES:
            self._held_flow.is_held = True
            self.flow.pause_reading()

    def _continue(self) -> None:
        """Goes on with what came while a request was answered."""
        if self._refused or self._answering or self.flow.write_paused or self.transport.is_closing():
            return
        data, self._unparsed = self._unparsed, b""
        self._held_flow.is_held = False
        self.flow.resume_reading()
        self._feed(data, self._unparsed_at)

    def _feed(self, data: bytes, at: int) -> None:
        """Parses until a request is complete."""
        while at < len(data):
            if self._answering or self.flow.write_paused:
                self._put_back(data, at)
                return
            end = self._piece_end(data, at)
            self._data = piece = data[at:end]
            self._read_bytes += len(piece)
            at = end
            try:
                self.parser.feed_data(piece)
            except httptools.HttpParserUpgrade as upgrade:
                if self.parser.get_method() == b"CONNECT":  # which is an upgrade without any field that says so
                    self.send_400_response("This server is no proxy.")
                    return
                data, at = self._without_upgrade() + piece[upgrade.args[0] :] + data[end:], 0
            except httptools.HttpParserError as error:
                self._refuse_unparsable(error)
                return
        self._data = b""
        if self._in_body:
            self._await_body()
        elif not self._answering:
            self._await_head()

    def _piece_end(self, data: bytes, at: int) -> int:
        found = data.find(REQUEST_LINE, at)
        if found >= 0 and not self._in_head and not self._in_body:
            found = data.find(REQUEST_LINE, found + len(REQUEST_LINE))
        return found + len(REQUEST_LINE) if found >= 0 else len(data)

    def _await_head(self) -> None:
        """It has not come with one read, or has not begun: from here on it is watched."""
        if self._in_head and self._head_due == NEVER:
            self._head_due = self.loop.time() + self.header_seconds
        # The parser keeps a field that is not at its end to itself, so what was read is counted as well.
        is_large = self._in_head and (len(self.headers) > MAX_HEADERS or self._head_bytes() > self.header_bytes)
        if is_large or self._read_bytes > self.header_bytes + LARGEST_READ_BYTES:
            self._refuse_head()

    def _await_body(self) -> None:
        """It has not come with one read."""
        if self._is_chunked and self._has_large_frame():
            self._refuse_frame()

    def _head_bytes(self) -> int:
        """How long the head is, as far as it has been read."""
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _has_large_frame(self) -> bool:
        """Whether chunk headers and trailers are out of proportion to the body."""
        return (
            self._read_bytes - self._body_bytes > self.header_bytes + self._body_bytes
            or len(self.headers) > MAX_HEADERS
            or self._head_bytes() - len(self.url) > self.header_bytes
        )

    def _without_upgrade(self) -> bytes:
        """The head once more, for a fresh parser."""
        version = self.parser.get_http_version().encode()
        lines = [self.parser.get_method(), b" ", self.url, b" HTTP/", version, b"\r\n"]
        for name, value in self.headers:
            if name not in NOT_FORWARDED:
                lines += [name, b": ", value, b"\r\n"]
        lines.append(b"\r\n")
        self.parser = httptools.HttpRequestParser(self)
        self._read_bytes = 0
        return b"".join(lines)

    # --- the parser's callbacks ------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self._fields = {}
        self._plain_upgrade = False
        self._in_head = True
        self._idle_due = NEVER

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((SPELLINGS.get(name) or self._spelled(name, value), value))

    def _spelled(self, name: bytes, value: bytes) -> bytes:
        """A name that is not among the usual ones, or whose value is looked at."""
        name = name.lower()
        if name in CHECKED_FIELDS:
            fields = self._fields
            value = value.strip()
            self._fields = {**fields, name: fields[name] + b", " + value if name in fields else value}
        return name

    def on_headers_complete(self) -> None:
        self._head_due = NEVER
        self._in_head = False
        if self._answering:
            self.send_400_response("Invalid HTTP request received.")
            raise HeadRefused
        if len(self.headers) > MAX_HEADERS:
            self._refuse(431, "431", f"The request has more than {MAX_HEADERS} header fields.")
            raise HeadRefused
        if self._read_bytes > self.header_bytes and self._head_bytes() > self.header_bytes:
            self._refuse_head()
            raise HeadRefused
        version = self.parser.get_http_version()
        if self._accepted != (self._fields, version):
            self._check_head(version)
        self._body_bytes = 0
        self._is_chunked = b"transfer-encoding" in self._fields
        self._read_bytes = self._read_bytes - self._head_bytes() - LINE_BYTES if self._is_chunked else 0
        if self.parser.should_upgrade():
            self._plain_upgrade = True  # _feed feeds it again without the upgrade
            return
        self._in_body = True
        self._head, self.headers = self.headers, []
        self._begin_request(version)

    def _check_head(self, version: str) -> None:
        """Raises HeadRefused."""
        fault = head_fault(version, self._fields)
        if fault is not None:
            self._refuse(*fault)
            raise HeadRefused
        self._accepted = (self._fields, version)

    def _begin_request(self, version: str) -> None:
        """The head is complete and acceptable: gives the request to the application. Raises HeadRefused."""
        fault = target_fault(self.parser.get_method(), self.url, self._fields.get(b"host"))
        if fault is not None:
            self.send_400_response(fault)
            raise HeadRefused
        self._start_cycle(version)

    def _start_cycle(self, version: str) -> None:
        """What uvicorn does at the begin and at the end of a head, at once."""
        url = self.url
        super().on_message_begin()
        self.url = url
        self.headers += self._head  # in place: the scope holds this list
        self.expect_100_continue = version != "1.0" and self._fields.get(b"expect", b"").lower() == b"100-continue"
        super().on_headers_complete()
        self.headers = []
        if version == "1.0":
            self.cycle.send = Http10Answer(self.cycle).send  # type: ignore[method-assign, assignment]

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._plain_upgrade:
            return
        if self._is_chunked and self._has_large_frame():
            self._refuse_frame()
            raise HeadRefused
        self._in_body = False
        self._read_bytes = 0
        self._answering = True
        self._end_request()

    def _end_request(self) -> None:
        """The body is complete."""
        super().on_message_complete()

    # --- answers to what is no request -----------------------------------------------------------------------------

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "BadRequest", msg)

    def _refuse_head(self) -> None:
        self._refuse(431, "431", f"The request's head is larger than the limit of {self.header_bytes} bytes.")

    def _refuse_frame(self) -> None:
        what = "The chunk headers and trailer fields of the request's body are larger than the limit"
        self._refuse(431, "431", f"{what} of {self.header_bytes} bytes or {MAX_HEADERS} fields.")

    def _refuse_unparsable(self, error: httptools.HttpParserError) -> None:
        fault = error.__context__
        if isinstance(fault, HeadRefused):
            return
        if isinstance(error, httptools.HttpParserCallbackError) and fault is not None:
            self._fail(fault)
            return
        if "HTTP version" in str(error) or "PRI" in str(error):
            self._refuse(505, "505", WRONG_VERSION)
        else:
            self.send_400_response("Invalid HTTP request received.")

    def _fail(self, fault: BaseException) -> None:
        """A fault of ours, perhaps before the request has become a call: answers 500 and closes."""
        log.error("unhandled %s\n%s", type(fault).__name__, frames(fault))
        if self.cycle is None or self.cycle.response_complete:
            self._answering = False  # nothing else will answer
        error = InternalError()
        self._refuse(error.status, error.code, error.message)

    def _refuse(self, status: int, code: str, message: str, retry_after: int | None = None) -> None:
        """Writes a whole answer and closes: after the answer that is being made, if there is one."""
        self._refused = True
        self._unparsed = b""
        if self.transport.is_closing():
            return
        words = error_head(STATUS_LINE[status], code, message, retry_after)
        if self._answering:
            self._last_words = words
            return
        if self.cycle is None or not self.cycle.response_started or self.cycle.response_complete:
            self.transport.write(words)
        self.transport.close()
