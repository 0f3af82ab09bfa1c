"""Makes the call of a request: its head in our words, and where its answer is written."""

from __future__ import annotations

from modelport.dialects import fresh_ids
from modelport.gateway.call import Arrival
from modelport.gateway.machine import CallMachine
from modelport.lane.lane import Connection, Lane
from modelport.lane.repeated import Repetition
from modelport.lane.reply import Reply
from modelport.lane.ways import Way
from modelport.surfaces.headers import ECHOABLE
from modelport.upstream.wire import RawHeaders


def call_made(
    lane: Lane,
    connection: Connection,
    way: Way,
    key: bytes,
    headers: RawHeaders | Repetition,
    client_request_id: bytes,
    keep_alive: bool,
    *,
    has_chunks: bool = True,
) -> CallMachine:
    """The call, not begun. `key`: lane.Lane.key of its head; `headers`: its fields. `has_chunks`: whether the
    client's version of HTTP does."""
    id = fresh_ids.uuid()
    echoed = client_request_id.decode() if client_request_id and ECHOABLE.fullmatch(client_request_id) else None
    reply = Reply(lane, connection, way, headers, id, echoed, keep_alive, has_chunks)
    arrival = Arrival(id, echoed, key, reply.call_head, lane.options.limits.request_seconds)
    return CallMachine(lane.gateway, connection, reply, arrival)
