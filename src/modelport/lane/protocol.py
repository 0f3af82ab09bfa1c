"""The protocol that a server listens with: one HTTP/1.1 connection (lane/connection.py), and the shell of its calls.

A POST to an inference route becomes a call (gateway/machine.py) once its body is here: before that only where the head
alone says that something is due (a client that waits for our word, a body that is too long or packed or slow).
Everything else becomes a cycle of uvicorn's and goes to the application, on the same connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from modelport.core.errors import BodyTooLarge, Forbidden, RequestTimedOut, UnsupportedEncoding
from modelport.gateway.machine import CallMachine
from modelport.lane.calls import call_made
from modelport.lane.connection import NEVER, HttpConnection
from modelport.lane.lane import Lane
from modelport.lane.repeated import CLIENT_REQUEST_ID, RepeatedHead
from modelport.lane.request_rules import target_fault
from modelport.lane.shell import ShellConnection
from modelport.lane.ways import Way
from modelport.surfaces.headers import fields_of
from modelport.surfaces.options import Limits
from modelport.surfaces.peers import Link, link_of
from modelport.upstream.sweep import Sweep

BODY_SECONDS: Final = 1.0
"""Who asks is looked at when a body takes longer to arrive."""
DISCARDED_BYTES: Final = 64 * 1024 * 1024
DISCARD_SECONDS: Final = 30.0
DISCARD_IDLE_SECONDS: Final = 2.0
"""What still comes of a request that is refused is read away within these, so that its client reads the answer."""
LESSONS: Final = 8
"""A connection whose heads always differ is not learned from for ever."""
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class LaneProtocol(ShellConnection):
    """One connection. What all connections of a server share is set on a subclass by `bound`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_usual_head = False
        """Whether the last head that was acceptable says nothing that is due before the body."""
        self._version = "1.1"
        self._way: Way | None = None
        """Where the request leads whose body is arriving for a call."""
        self._keeps_alive = False
        self._body: bytes | bytearray = b""
        self._body_due = NEVER
        self._early: CallMachine | None = None
        """The call whose body is still arriving."""
        self._after_body: Callable[[], None] | None = None
        """What waits for the rest of a body that nobody reads."""
        self._body_end = NEVER
        """When the rest of a body is not waited for any longer."""
        self._is_late = False
        """It is not waited for at all."""
        self._key = b""
        """Of the last head that became a call."""
        self._last: RepeatedHead | None = None
        self._lessons = LESSONS
        self.link = Link()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.lane is not None:
            client, server = (self.client or (None,))[0], (self.server or (None,))[0]
            self.link = link_of(self.scheme or "http", client, server, self.lane.options)

    # --- time ------------------------------------------------------------------------------------------------------

    def connection_lost(self, exc: Exception | None) -> None:
        self._after_body = None
        if self._call is not None:
            self._call.client_gone()
        super().connection_lost(exc)

    def sweep(self, now: float) -> None:
        """Ends what is late."""
        super().sweep(now)
        if self._way is not None and now > self._body_due:
            self._body_is_late()
        elif self._call is not None:
            self._call.sweep(now)

    def _body_is_late(self) -> None:
        if self._after_body is not None:
            self._stop_reading()
        elif self._early is not None:
            self._refuse_late_body()
        else:
            self._begin_call_now()

    def shutdown(self) -> None:
        """As uvicorn's, to whom a request whose body is still arriving for a call would look like none."""
        if self._way is not None and self._early is None:
            self._begin_call_now()
        super().shutdown()

    # --- whose request it is ---------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        last = self._last
        try:
            if last is None or self._in_head or self._in_body or not self._repeats(last, data):
                super().data_received(data)
        except Exception as fault:  # noqa: BLE001 - it ends the connection
            self._fail(fault)

    def _repeats(self, last: RepeatedHead, data: bytes) -> bool:
        """Whether this is a request like the one before, and has been begun."""
        found = last.match(data)
        lane = self.lane
        if found is None or self._answering or self._unparsed or self._refused or self.flow.write_paused:
            return False
        assert lane is not None
        head, body = found
        if len(body) > lane.options.limits.body_bytes:
            return False
        if last.snapshot is not lane.pipeline.snapshot():
            self._last = None
            return False
        client_request_id = head[last.client] if last.client else b""
        call = call_made(lane, self, last.way, last.key, (last, head), client_request_id, True)
        self._answering, self._lessons = True, LESSONS
        self._call = call
        self.cycle = call.reply  # type: ignore[assignment]
        call.begin_with(body)
        return True

    def _check_head(self, version: str) -> None:
        super()._check_head(version)
        fields, lane = self._fields, self.lane
        self._is_usual_head = (
            lane is not None
            and version == "1.1"
            and b"expect" not in fields
            and b"content-encoding" not in fields
            and lane.refusal(fields.get(b"host"), fields.get(b"origin")) is None
        )

    def _begin_request(self, version: str) -> None:
        self._way = None
        if self.lane is not None and self.parser.get_method() == b"POST":
            self._way = self.lane.way(self.url)
        if self._way is None or (not self.url.startswith(b"/") and not self._is_ours()):
            self._way = None
            super()._begin_request(version)
            return
        self._version, self._is_late = version, False
        self._keeps_alive = version == "1.1" and self.parser.should_keep_alive()
        self._body = b""
        if not self._is_usual_head:
            self._begin_call()

    def _is_ours(self) -> bool:
        return target_fault(b"POST", self.url, self._fields.get(b"host")) is None

    def on_body(self, body: bytes) -> None:
        if self._way is None:
            super().on_body(body)
            return
        self._body_bytes += len(body)
        if self._after_body is not None:
            if self._body_bytes > DISCARDED_BYTES:
                self._stop_reading()
            else:
                self._body_due = min(self._body_end, self.loop.time() + DISCARD_IDLE_SECONDS)
            return
        if self._early is not None:
            self._body_due = min(self._body_end, self.loop.time() + self._limits().idle_seconds)
        if not self._body:
            self._body = body
        elif isinstance(self._body, bytearray):
            self._body += body
        else:
            self._body = bytearray(self._body) + body
        if self._body_bytes > self._limits().body_bytes:
            if self._early is None:
                self._begin_call()
            self._body = b""
            if self._early is not None and self._after_body is None:
                self._early.refuse_body(BodyTooLarge(self._limits().body_bytes))

    def _await_body(self) -> None:
        super()._await_body()
        if self._way is not None and self._body_due == NEVER:
            self._body_due = self.loop.time() + BODY_SECONDS

    def _end_request(self) -> None:
        way = self._way
        if way is None:
            super()._end_request()
            return
        assert self.lane is not None
        call, body = self._early, bytes(self._body)
        if call is None:
            self._begin_call()
            call = self._early
            self._remember(way, body)
        then = self._after_body
        self._body_is_over()
        if then is not None:
            then()
        elif call is not None:
            call.body_received(body)

    def _remember(self, way: Way, body: bytes) -> None:
        """Another request with this head need not be parsed."""
        self._last = None
        if self._lessons and self._keeps_alive and self._is_usual_head and self._data.endswith(body):
            assert self.lane is not None
            self._lessons -= 1
            snapshot, key = self.lane.pipeline.snapshot(), self._key
            self._last = RepeatedHead.of(self._data, self._head, way, key, snapshot, self.header_bytes)

    # --- a call whose body is not here yet -------------------------------------------------------------------------

    def _limits(self) -> Limits:
        assert self.lane is not None
        return self.lane.options.limits

    def _begin_call_now(self) -> None:
        """For when no parser is there that would catch a fault."""
        try:
            self._begin_call()
        except Exception as fault:  # noqa: BLE001 - it ends the connection
            self._fail(fault)

    def _begin_call(self) -> None:
        """Makes a call of the head, and asks what it has to say before its body is read."""
        lane, way, fields = self.lane, self._way, self._fields
        assert lane is not None
        assert way is not None
        head, is_modern = self._head, self._version == "1.1"
        given = fields_of(head)
        key, client_id = lane.key(way, given, self.link), given.get(CLIENT_REQUEST_ID, b"").strip()
        call = call_made(lane, self, way, key, head, client_id, self._keeps_alive, has_chunks=is_modern)
        self._call = self._early = call
        self._key = key
        self.cycle = call.reply  # type: ignore[assignment]
        limits, now = lane.options.limits, self.loop.time()
        self._body_end = now + limits.request_seconds
        self._body_due = min(self._body_end, now + limits.idle_seconds)
        refusal = lane.refusal(fields.get(b"host"), fields.get(b"origin"))
        if refusal is not None:
            call.turn_away(Forbidden(refusal))
            return
        length = given.get(b"content-length", b"").strip()
        announced = int(length) if length.isdigit() else 0
        encoding = fields.get(b"content-encoding", b"").strip().decode("latin-1")
        if encoding and encoding.lower() != "identity" and (announced or self._is_chunked):
            call.refuse_body(UnsupportedEncoding(encoding))
        elif announced > limits.body_bytes:
            call.refuse_body(BodyTooLarge(limits.body_bytes))
        call.begin()

    def want_body(self) -> None:
        """gateway.call.Shell"""
        if self._early is not None and self._waits_for_word():
            self.transport.write(CONTINUE)

    def _waits_for_word(self) -> bool:
        """Whether the client sends its body only when it is told to."""
        is_asked = self._version != "1.0" and self._fields.get(b"expect", b"").lower() == b"100-continue"
        return is_asked and not self._body_bytes

    def _refuse_late_body(self) -> None:
        """At once, even where we do not know yet who asks."""
        assert self._early is not None
        self._body, self._is_late = b"", True
        self._early.turn_away(RequestTimedOut())

    def when_read(self, step: Callable[[], None]) -> None:
        """gateway.call.Shell"""
        if not self._in_body:
            step()
        elif self._is_late or self._waits_for_word():
            self._after_body = step
            self._stop_reading()
        else:
            now = self.loop.time()
            self._body, self._after_body = b"", step
            self._body_end = now + DISCARD_SECONDS
            self._body_due = now + DISCARD_IDLE_SECONDS

    def _stop_reading(self) -> None:
        """Answers now, and closes."""
        step = self._after_body
        self._body_is_over()
        self._refused = True
        reply: Any = self.cycle
        if reply is not None:
            reply.keep_alive = False
        if step is not None:
            step()

    def _body_is_over(self) -> None:
        self._way = self._early = self._after_body = None
        self._body = b""
        self._body_due = NEVER


def bound(
    header_bytes: int,
    header_seconds: float,
    lane: Lane | None = None,
    *,
    idle_seconds: float = HttpConnection.idle_seconds,
    connections: int = HttpConnection.max_connections,
) -> type[LaneProtocol]:
    """The protocol class with these limits, for `uvicorn.Config(http=…)`. Without a lane everything goes to the
    application."""
    shared = {
        "header_bytes": header_bytes,
        "header_seconds": header_seconds,
        "idle_seconds": idle_seconds,
        "max_connections": connections,
        "lane": lane,
        "sweep_of_all": lane.connections if lane is not None else Sweep(),
    }
    return type("BoundLaneProtocol", (LaneProtocol,), shared)
