"""Makes the call of a request: its head in our words, and where its answer is written."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from modelport.core.errors import RouteNotFound
from modelport.core.requests import Request
from modelport.dialects import fresh_ids
from modelport.gateway.call import Arrival, CallHead
from modelport.gateway.machine import CallMachine
from modelport.lane.lane import Connection, Lane
from modelport.lane.reply import Reply
from modelport.lane.ways import Way
from modelport.surfaces.headers import ECHOABLE, RequestHead
from modelport.upstream.wire import RawHeaders


def call_made(
    lane: Lane,
    connection: Connection,
    way: Way,
    key: bytes,
    headers: Callable[[], RawHeaders],
    client_request_id: bytes,
    keep_alive: bool,
    *,
    has_chunks: bool = True,
) -> CallMachine:
    """The call, not begun. `key`: lane.Lane.key of its head; `headers`: its fields, asked for where something is new.
    `has_chunks`: whether the client's version of HTTP does."""
    id = fresh_ids.uuid()
    echoed = client_request_id.decode() if ECHOABLE.fullmatch(client_request_id) else None
    reply = Reply(lane, connection, way, headers, id, echoed, keep_alive, has_chunks=has_chunks)
    arrival = Arrival(id, echoed, key, partial(head_of, lane, way, reply), lane.options.limits.request_seconds)
    return CallMachine(lane.gateway, connection, reply, arrival)


def head_of(lane: Lane, way: Way, reply: Reply) -> CallHead:
    """What it says."""
    head, inference, limits = reply.head, way.inference, lane.options.limits
    speech = inference.speech()

    def decode(body: bytes) -> Request:
        # Here and not at once: who is not known is told nothing about versions.
        if way.has_odd_version and without_fields(way).api_version is None:
            raise RouteNotFound
        return speech.read(body, limits.json_containers, limits.json_depth)

    return CallHead(
        operation=inference.operation,
        surface=way.door.surface,
        credential=head.credential,
        selector=inference.selector(head, way.parameters),
        decode=decode,
        speech=speech,
        reasoning=way.reasoning,
        extra_parameters=head.extra_parameters if inference.checks_extras else None,
        checks_extras=inference.checks_extras,
        explains=head.explains,
    )


def without_fields(way: Way) -> RequestHead:
    """What the URL alone says."""
    return RequestHead(method="POST", path=way.path, headers={}, query=way.query, request_id="")
