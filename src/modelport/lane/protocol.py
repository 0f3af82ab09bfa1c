"""The HTTP/1.1 server protocol: uvicorn's httptools one, with what it leaves to its users, and with the lane.

- Header bytes and header count are bounded (431), and a head must arrive in time (408).
- `Connection: Upgrade` with anything but a websocket (every Java client on plain http asks for h2c) is answered as the
  plain HTTP/1.1 request that it also is: httptools stops at such a head and loses the body, so the head is fed again
  to a fresh parser without the upgrade.
- What cannot be parsed gets a JSON 400.
- A POST to an inference route is offered to the lane (lane/driver.py) once its body is here. Everything else, and what
  the lane hands back, becomes a cycle of uvicorn's and goes to the application, on the same connection.

Leans on these attributes of uvicorn's class, held by contract tests: `parser`, `url`, `headers`, `scope`, `transport`,
`loop`, `flow`, `cycle`, `pipeline`, `server_state`, `expect_100_continue`, `timeout_keep_alive`, `data_received`,
`on_message_begin`, `on_headers_complete`, `on_body`, `on_message_complete`, `on_response_complete`, `connection_made`,
`connection_lost`, `pause_writing`, `resume_writing`, `send_400_response`, `shutdown`, `_start_asgi_task`.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from modelport.dialects.heads import error_head
from modelport.lane.driver import LaneCall
from modelport.lane.lane import Lane, Serving
from modelport.lane.plain import PlainCall
from modelport.lane.repeated import CLIENT_REQUEST_ID, RepeatedHead
from modelport.lane.spellings import SPELLINGS
from modelport.lane.ways import Way
from modelport.surfaces.headers import DECISIVE
from modelport.upstream.sweep import Sweep

NO_VALUES: Final = (b"",) * len(DECISIVE)
MAX_HEADERS: Final = 100
LARGEST_READ_BYTES: Final = 256 * 1024
NOT_FORWARDED: Final = (b"upgrade", b"connection", b"http2-settings")
NEVER: Final = float("inf")
BODY_SECONDS: Final = 1.0
"""A body that takes longer to arrive is awaited by the coroutine driver, which has the time limits for it."""


class HeadRefused(Exception):
    """The head of a request is not acceptable; the answer is already written."""


class LaneProtocol(HttpToolsProtocol):
    """One connection. What all connections of a server share is set on a subclass by `bound`."""

    header_bytes: int = 32 * 1024
    header_seconds: float = 20.0
    lane: Lane | None = None
    sweep_of_all: Sweep

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._read_bytes = 0
        """Since the last head was complete, or more."""
        self._in_head = False
        self._speaks_1_1 = False
        self._head_due = NEVER
        self._idle_due = NEVER
        """0: a sweep will say."""
        self._plain_upgrade = False
        self._refused = False
        self._way: Way | None = None
        """Where the request leads whose body is arriving for the lane."""
        self._keeps_alive = False
        self._body: list[bytes] = []
        self._body_size = 0
        self._body_due = NEVER
        self._call: Serving | None = None
        self._data = b""
        """What is being read."""
        self._last: RepeatedHead | None = None

    # --- time ------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._head_due = self.loop.time() + self.header_seconds
        self.sweep_of_all.watch(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.sweep_of_all.forget(self)
        if self._call is not None:
            self._call.client_gone()
        super().connection_lost(exc)

    def sweep(self, now: float) -> None:
        """Ends what is late."""
        if self._call is not None:
            self._call.sweep(now)
        elif not self._idle_due:
            self._idle_due = now + self.timeout_keep_alive
        elif now > self._idle_due:
            self.timeout_keep_alive_handler()
        elif now > self._body_due:
            self._hand_over()
        elif now > self._head_due:
            self._head_due = NEVER
            busy = self.cycle is not None and not self.cycle.response_complete
            if not busy and not self.transport.is_closing():
                self._refuse(408, "408", "The request's head did not arrive in time.")

    def on_response_complete(self) -> None:
        """As uvicorn's, without a timer for each answer."""
        self.server_state.total_requests += 1
        if not self.pipeline and not self.flow.read_paused:
            self._idle_due = 0.0
        elif not self.transport.is_closing():
            self.flow.resume_reading()
            if self.pipeline:
                cycle, app = self.pipeline.pop()
                self._start_asgi_task(cycle, app)
            else:
                self._idle_due = 0.0

    def shutdown(self) -> None:
        """As uvicorn's, to whom a request whose body is still arriving for the lane would look like none."""
        if self._way is not None:
            self._hand_over()
        super().shutdown()

    # --- size, and upgrades that are none --------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._idle_due = NEVER
        if self._last is not None and not self._in_head and self._way is None and self._repeats(self._last, data):
            return
        self._read_bytes += len(data)
        self._data = data
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self.parser.get_method() == b"CONNECT":  # which is an upgrade without any field that says so
                self.send_400_response("This server is no proxy.")
                return
            rest = data[upgrade.args[0] :]
            self.data_received(self._without_upgrade() + rest)
            return
        except httptools.HttpParserError as error:
            if not isinstance(error.__context__, HeadRefused):
                self.send_400_response("Invalid HTTP request received.")
            return
        self._data = b""
        if self._in_head:
            self._wait_for_head()
        elif self._way is not None and self._body_due == NEVER:
            self._body_due = self.loop.time() + BODY_SECONDS

    def _repeats(self, last: RepeatedHead, data: bytes) -> bool:
        """Whether this is a request like the one before, and has been begun."""
        found = last.match(data)
        cycle, lane = self.cycle, self.lane
        if found is None or (cycle is not None and not cycle.response_complete):
            return False
        assert lane is not None
        head, body = found
        if len(body) > lane.options.limits.body_bytes or lane.gateway.draining:
            return False
        if last.caller.snapshot is not lane.pipeline.snapshot():
            self._last = None
            return False
        ask = last.caller.read(body, last.decisive)
        if ask is None:
            return False
        call = PlainCall()
        call.repeated, call.head_given, call.keep_alive = last, head, True
        if not call.start(lane, self, last.way, ask, body, head[last.client] if last.client else b""):
            return False
        self._call = call
        self.cycle = call  # type: ignore[assignment]
        return True

    def _wait_for_head(self) -> None:
        """It has not come with one read: from here on it is watched."""
        if self._head_due == NEVER:
            self._head_due = self.loop.time() + self.header_seconds
        # What a parser has of a field that is not at its end, it does not tell. (Nor do we know where in a read the
        # head began.)
        if self._read_bytes > self.header_bytes + LARGEST_READ_BYTES or self._head_bytes() > self.header_bytes:
            with suppress(HeadRefused):
                self._refuse_head()

    def _head_bytes(self) -> int:
        """How long the head is, as far as it has been read."""
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _refuse_head(self) -> None:
        self._refuse(431, "431", f"The request's head is larger than the limit of {self.header_bytes} bytes.")
        raise HeadRefused

    def _without_upgrade(self) -> bytes:
        """The head once more, for a fresh parser."""
        lines = [self.parser.get_method(), b" ", self.url, b" HTTP/1.1\r\n"]
        for name, value in self.headers:
            if name not in NOT_FORWARDED:
                lines += [name, b": ", value, b"\r\n"]
        lines.append(b"\r\n")
        self.parser = httptools.HttpRequestParser(self)
        return b"".join(lines)

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._plain_upgrade = False
        self._in_head = True

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((SPELLINGS.get(name) or self._spelled(name, value), value))

    def _spelled(self, name: bytes, value: bytes) -> bytes:
        """A name that is not among the usual ones."""
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        return name

    # --- whose request it is ---------------------------------------------------------------------------------------

    def on_headers_complete(self) -> None:
        self._head_due = NEVER
        self._in_head = False
        if len(self.headers) > MAX_HEADERS:
            self._refuse(431, "431", f"The request has more than {MAX_HEADERS} header fields.")
            raise HeadRefused
        if self._read_bytes > self.header_bytes and self._head_bytes() > self.header_bytes:
            self._refuse_head()
        self._read_bytes = 0
        parser = self.parser
        if parser.should_upgrade():
            self._plain_upgrade = True  # data_received feeds it again without the upgrade
            return
        self._way = None
        if (
            self.lane is not None
            and (self.cycle is None or self.cycle.response_complete)
            and not self.expect_100_continue
            and parser.get_method() == b"POST"
            and (self._speaks_1_1 or self._asks_in_1_1())
        ):
            self._way = self.lane.way(self.url)
        if self._way is None:
            self._start_cycle()
        else:
            self._keeps_alive = parser.should_keep_alive()
            self._body = []
            self._body_size = 0

    def _asks_in_1_1(self) -> bool:
        """Asked until it is so: no client goes back to an older version on one connection."""
        self._speaks_1_1 = self.parser.get_http_version() == "1.1"
        return self._speaks_1_1

    def on_body(self, body: bytes) -> None:
        if self._way is None:
            super().on_body(body)
            return
        self._body.append(body)
        self._body_size += len(body)
        assert self.lane is not None
        if self._body_size > self.lane.options.limits.body_bytes:
            self._hand_over()

    def on_message_complete(self) -> None:
        if self._plain_upgrade:
            return
        way = self._way
        if way is None:
            super().on_message_complete()
            return
        assert self.lane is not None
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        if way.plain is not None and not self.lane.gateway.draining and self._starts_plain(way, body):
            return
        call = LaneCall(self.lane, self, way, self.headers, self._keeps_alive)
        serving = call.start(body)
        if serving is not None:
            self._serves(serving, call.reply)
        else:
            self._hand_over()
            super().on_message_complete()

    def _starts_plain(self, way: Way, body: bytes) -> bool:
        lane, headers = self.lane, self.headers
        assert lane is not None
        given = dict(reversed(headers))  # the first of several wins
        decisive = [*map(given.get, DECISIVE, NO_VALUES)]
        caller = lane.standings.caller(way, decisive)
        ask = caller.read(body, decisive) if caller is not None else None
        if caller is None or ask is None:
            return False
        call = PlainCall()
        call.repeated, call.head_given, call.keep_alive = None, headers, self._keeps_alive
        if not call.start(lane, self, way, ask, body, given.get(CLIENT_REQUEST_ID, b"").strip()):
            return False
        self._serves(call, call)
        self._last = None
        if self._keeps_alive and self._data.endswith(body):
            self._last = RepeatedHead.of(self._data, headers, way, caller, decisive, self.header_bytes)
        return True

    def _serves(self, call: Serving, reply: object) -> None:
        self._way = None
        self._body = []
        self.headers = []  # the call has its own
        self._body_due = NEVER
        self._call = call
        self.cycle = reply  # type: ignore[assignment]

    def _hand_over(self) -> None:
        """Makes what has arrived of the request a cycle of uvicorn's; the rest, if any, goes there as it comes."""
        self._way = None
        self._body_due = NEVER
        body, self._body = b"".join(self._body), []
        self._start_cycle()
        if body:
            super().on_body(body)

    def _start_cycle(self) -> None:
        """What uvicorn does at the begin and at the end of a head, at once."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += headers  # in place: the scope holds this list
        super().on_headers_complete()

    # --- the lane's call -------------------------------------------------------------------------------------------

    def call_over(self, reply: object) -> None:
        """lane.Connection"""
        self._call = None
        if self.cycle is reply:
            self.cycle = None  # type: ignore[assignment]
        self.on_response_complete()

    def replaced(self, old: object, new: Serving, reply: object) -> None:
        """lane.Connection"""
        self._call = new
        standing: object = self.cycle
        if standing is old:
            self.cycle = reply  # type: ignore[assignment]

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._call is not None:
            self._call.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._call is not None:
            self._call.resume()

    def stop_call(self) -> None:
        """lane.Connection"""
        if self._call is not None:
            self._call.stop()

    # --- answers to what is no request -----------------------------------------------------------------------------

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "BadRequest", msg)

    def _refuse(self, status: int, code: str, message: str) -> None:
        """Writes a whole answer and closes, unless an answer is being written already."""
        self._refused = True
        self._head_due = NEVER
        if self.transport.is_closing():
            return
        if self.cycle is None or not self.cycle.response_started or self.cycle.response_complete:
            self.transport.write(error_head(STATUS_LINE[status], code, message))
        self.transport.close()


def bound(header_bytes: int, header_seconds: float, lane: Lane | None = None) -> type[LaneProtocol]:
    """The protocol class with these limits, for `uvicorn.Config(http=…)`. Without a lane everything goes to the
    application."""
    shared = {"header_bytes": header_bytes, "header_seconds": header_seconds, "lane": lane}
    sweep = lane.connections if lane is not None else Sweep()
    return type("BoundLaneProtocol", (LaneProtocol,), {**shared, "sweep_of_all": sweep})
