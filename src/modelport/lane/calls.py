"""Makes the call of a request: its head in our words, and where its answer is written."""

from __future__ import annotations

from modelport.core.errors import RouteNotFound
from modelport.core.requests import Request
from modelport.dialects import fresh_ids
from modelport.gateway.call import CallHead
from modelport.gateway.machine import CallMachine
from modelport.lane.lane import Connection, Lane
from modelport.lane.reply import Reply
from modelport.lane.ways import Way
from modelport.surfaces.headers import RequestHead
from modelport.upstream.wire import RawHeaders


def call_made(
    lane: Lane,
    connection: Connection,
    way: Way,
    headers: RawHeaders,
    keep_alive: bool,
    *,
    request_id: str | None = None,
    has_chunks: bool = True,
) -> CallMachine:
    """The call, not begun. `has_chunks`: whether the client's version of HTTP does."""
    head = RequestHead(
        method="POST",
        path=way.path,
        headers=dict(reversed(headers)),  # the first of several wins
        query=way.query,
        request_id=request_id or fresh_ids.uuid(),
    )
    reply = Reply(lane, connection, way, head, keep_alive, has_chunks=has_chunks)
    seconds = lane.options.limits.request_seconds
    return CallMachine(lane.gateway, connection, head_of(lane, way, head), reply, seconds)


def head_of(lane: Lane, way: Way, head: RequestHead) -> CallHead:
    """What it says."""
    inference, options = way.inference, lane.options
    limits, speech = options.limits, inference.speech()

    def decode(body: bytes) -> Request:
        # Here and not at once: who is not known is told nothing about versions.
        if way.has_odd_version and head.api_version is None:
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
        request_id=head.request_id,
        client_request_id=head.client_request_id,
        deadline=lane.pipeline.clock.monotonic() + limits.request_seconds,
    )
