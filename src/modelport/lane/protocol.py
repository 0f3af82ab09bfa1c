"""The protocol that a server listens with: one HTTP/1.1 connection (lane/connection.py), with the lane.

A POST to an inference route is offered to the lane (lane/driver.py) once its body is here. Everything else, and what
the lane hands back, becomes a cycle of uvicorn's and goes to the application, on the same connection.
"""

from __future__ import annotations

from typing import Any, Final

from modelport.lane.connection import NEVER, HttpConnection
from modelport.lane.driver import LaneCall
from modelport.lane.lane import Lane, Serving
from modelport.lane.plain import PlainCall
from modelport.lane.repeated import CLIENT_REQUEST_ID, RepeatedHead
from modelport.lane.ways import Way
from modelport.surfaces.headers import DECISIVE
from modelport.upstream.sweep import Sweep

NO_VALUES: Final = (b"",) * len(DECISIVE)
BODY_SECONDS: Final = 1.0
"""A body that takes longer to arrive is awaited by the coroutine driver, which has the time limits for it."""


class LaneProtocol(HttpConnection):
    """One connection. What all connections of a server share is set on a subclass by `bound`."""

    lane: Lane | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._suits_lane = False
        """Whether the last head that was acceptable leaves nothing to the application alone."""
        self._way: Way | None = None
        """Where the request leads whose body is arriving for the lane."""
        self._keeps_alive = False
        self._body: bytes | bytearray = b""
        self._body_due = NEVER
        self._call: Serving | None = None
        self._last: RepeatedHead | None = None

    # --- time ------------------------------------------------------------------------------------------------------

    def connection_lost(self, exc: Exception | None) -> None:
        if self._call is not None:
            self._call.client_gone()
        super().connection_lost(exc)

    def sweep(self, now: float) -> None:
        """Ends what is late."""
        super().sweep(now)
        if self._call is not None:
            self._call.sweep(now)
        elif self._way is not None and now > self._body_due:
            self._hand_over()

    def shutdown(self) -> None:
        """As uvicorn's, to whom a request whose body is still arriving for the lane would look like none."""
        if self._way is not None:
            self._hand_over()
        super().shutdown()

    # --- whose request it is ---------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._last is None or self._in_head or self._in_body or not self._repeats(self._last, data):
            super().data_received(data)

    def _repeats(self, last: RepeatedHead, data: bytes) -> bool:
        """Whether this is a request like the one before, and has been begun."""
        found = last.match(data)
        lane = self.lane
        if found is None or self._answering or self._unparsed or self._refused or self.flow.write_paused:
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
        self._answering = True
        self._call = call
        self.cycle = call  # type: ignore[assignment]
        return True

    def _check_head(self, version: str) -> None:
        super()._check_head(version)
        fields, lane = self._fields, self.lane
        self._suits_lane = (
            lane is not None
            and version == "1.1"
            and b"expect" not in fields
            and b"content-encoding" not in fields
            and lane.admits(fields.get(b"host"), fields.get(b"origin"))
        )

    def _begin_request(self, version: str) -> None:
        self._way = None
        if self._suits_lane and self.parser.get_method() == b"POST":
            assert self.lane is not None
            self._way = self.lane.way(self.url)
        if self._way is None:
            super()._begin_request(version)
        else:
            self._keeps_alive = self.parser.should_keep_alive()
            self._body = b""

    def on_body(self, body: bytes) -> None:
        if self._way is None:
            super().on_body(body)
            return
        self._body_bytes += len(body)
        if not self._body:
            self._body = body
        elif isinstance(self._body, bytearray):
            self._body += body
        else:
            self._body = bytearray(self._body) + body
        assert self.lane is not None
        if self._body_bytes > self.lane.options.limits.body_bytes:
            self._hand_over()

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
        body = bytes(self._body)
        if way.plain is not None and not self.lane.gateway.draining and self._starts_plain(way, body):
            return
        call = LaneCall(self.lane, self, way, self._head, self._keeps_alive)
        serving = call.start(body)
        if serving is not None:
            self._serves(serving, call.reply)
        else:
            self._hand_over()
            super()._end_request()

    def _starts_plain(self, way: Way, body: bytes) -> bool:
        lane, headers = self.lane, self._head
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
        self._body = b""
        self._head = []  # the call has its own
        self._body_due = NEVER
        self._call = call
        self.cycle = reply  # type: ignore[assignment]

    def _hand_over(self) -> None:
        """Makes what has arrived of the request a cycle of uvicorn's; the rest, if any, goes there as it comes."""
        self._way = None
        self._body_due = NEVER
        body, self._body = bytes(self._body), b""
        trailers = self.headers
        self._start_cycle("1.1")
        self.headers = trailers
        if body:
            self._body_bytes -= len(body)
            super().on_body(body)

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
