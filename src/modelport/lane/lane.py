"""What all calls of a process share: where a URL leads, how a target is reached, and the one write
of the journal per turn of the loop."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Mapping
from contextlib import suppress
from hashlib import blake2b
from typing import Final, Protocol, cast

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.server import ServerState

from modelport.core.catalog import Timeouts
from modelport.core.errors import ModelportError
from modelport.core.faults import frames
from modelport.core.ports.providers import Provider, UpstreamRequest
from modelport.gateway.call import Asking, Receiver, Shell, Written
from modelport.gateway.gateway import Gateway
from modelport.gateway.lease import write_out
from modelport.lane.request_rules import target_fault
from modelport.lane.ways import Way
from modelport.surfaces.app import Doors
from modelport.surfaces.asgi import Headers
from modelport.surfaces.door import Inference
from modelport.surfaces.headers import DECISIVE, RequestHead, printable
from modelport.surfaces.local_names import refusal_of
from modelport.surfaces.peers import Link
from modelport.upstream import pushing
from modelport.upstream.sweep import Sweep
from modelport.upstream.wire import Wire

KNOWN_URLS: Final = 1024
NO_VALUES: Final = (b"",) * len(DECISIVE)
log = logging.getLogger("modelport.surfaces")


class Serving(Protocol):
    """A call as its connection sees it."""

    def client_gone(self) -> None:
        """The connection is lost."""
        ...

    def sweep(self, now: float) -> None:
        """Ends what is late."""
        ...

    def end_now(self) -> None:
        """The time to drain is over."""
        ...

    def pause(self) -> None:
        """The client reads more slowly than we write."""
        ...

    def resume(self) -> None:
        """It has caught up."""
        ...


class Connection(Shell, Protocol):
    """What a call and its reply need of the connection that it came by: lane.protocol.LaneProtocol."""

    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    flow: FlowControl
    server_state: ServerState
    link: Link

    def end_call(self) -> None:
        """The time to drain is over."""
        ...


class Lane:
    """One per process."""

    def __init__(self, gateway: Gateway, doors: Doors, wire: Wire) -> None:
        self.gateway = gateway
        self.pipeline = gateway.pipeline
        self.doors = doors
        self.options = doors.options
        self.wire = wire
        self.connections = Sweep()
        self.region = printable(doors.options.region)
        self._dates: tuple[Headers, bytes, bool] = ([], b"", False)
        self._ways: dict[bytes, Way | None] = {}
        self._waiting: list[Written] = []
        self._salt = secrets.token_bytes(32)

    def refusal(self, host: bytes | None, origin: bytes | None) -> str | None:
        """Why a request with these fields is refused, if it is: an anonymous server answers to its own names alone."""
        return refusal_of(host, origin, self.options) if self.pipeline.snapshot().anonymous else None

    def key(self, way: Way, given: Mapping[bytes, bytes], link: Link) -> bytes:
        """By which it is known again who asks for what (gateway.call.Arrival). The fields hold credentials, so they
        are not kept. Empty: each call is looked at by itself."""
        if not way.inference.is_shared:
            return b""
        decisive = map(given.get, DECISIVE, NO_VALUES)
        exposed = b"exposed" if link.is_exposed(given) else b""
        return blake2b(b"\n".join((way.url, exposed, *decisive)), digest_size=16, key=self._salt).digest()

    def way(self, url: bytes) -> Way | None:
        """Where a POST to this URL leads; None: to no inference."""
        try:
            return self._ways[url]
        except KeyError:
            if len(self._ways) >= KNOWN_URLS:
                self._ways.clear()
            way = self._ways[url] = self._looked_up(url)
            return way

    def _looked_up(self, url: bytes) -> Way | None:
        if target_fault(b"POST", url, None) is not None:
            return None
        try:
            parsed = httptools.parse_url(url)
        except httptools.HttpParserInvalidURLError:
            return None
        if parsed.path is None:
            return None
        scope = {"method": "POST", "headers": (), "raw_path": parsed.path, "query_string": parsed.query or b""}
        head = RequestHead.of(scope)
        match = self.doors.router.match(head.path)
        route = match.route("POST")
        if route is None or not isinstance(route.endpoint, Inference):
            return None
        inference = route.endpoint
        version = head.query.get("api-version")
        try:
            is_odd = head.api_version is None and inference.needs_api_version_when_strict and self.options.strict
        except ModelportError:
            is_odd = True
        reasoning = inference.reasoning(version)
        return Way(url, head.path, head.query, match.parameters, match.door, inference, reasoning, is_odd)

    def ask(self, provider: Provider, request: UpstreamRequest, timeouts: Timeouts, receiver: Receiver) -> Asking:
        """gateway.call.Shell"""
        address = provider.address
        pool = self.wire.pools.get(address) or self.wire.reached(address)
        if pool is not None:
            return pool.send(request, timeouts, receiver)
        return pushing.asked(self.pipeline.runtime.transport, address, request, timeouts, receiver)

    def default_headers(self, fields: Headers) -> tuple[bytes, bool]:
        """uvicorn's own (it makes a new list every second) as bytes, and whether they close the connection."""
        if self._dates[0] is not fields:
            said = b"".join(b"%b: %b\r\n" % field for field in fields)
            self._dates = (fields, said, (b"connection", b"close") in fields)
        return self._dates[1:]

    def stop(self) -> None:
        """Ends every call that still runs: the time to drain is over."""
        for connection in self.connections.watched():
            try:
                cast(Connection, connection).end_call()
            except Exception as error:  # noqa: BLE001 - it must not be the end of the others
                log.error("unhandled %s\n%s", type(error).__name__, frames(error))

    def when_written(self, call: Written) -> None:
        """Lets the call go on when all lines queued by now are written: with all others of this turn of the loop."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._write)
        self._waiting.append(call)

    def write_lines(self) -> None:
        """For a call that has failed: its lines go out if they can, else with the next ones."""
        with suppress(ModelportError):
            write_out(self.pipeline.journal)

    def _write(self) -> None:
        waiting, self._waiting = self._waiting, []
        failure: ModelportError | None = None
        try:
            write_out(self.pipeline.journal)
        except ModelportError as error:
            failure = error
        for call in waiting:
            try:
                call.written(failure)
            except Exception as error:  # noqa: BLE001 - it must not be the end of the others
                log.error("unhandled %s\n%s", type(error).__name__, frames(error))
