"""The stages from a request to its lease, as the lane's general form takes them: the way's, in its order. Nothing is
taken before the last of them."""

from __future__ import annotations

from modelport.core.errors import ModelportError
from modelport.core.ports.stages import Refusal
from modelport.gateway.admit import admit
from modelport.gateway.facts import CallFacts
from modelport.gateway.identify import identify
from modelport.gateway.lease import CallLease
from modelport.lane.lane import Connection, Lane
from modelport.lane.refused import Refused, stranger, turned_away
from modelport.lane.reply import Reply
from modelport.lane.understood import Understood, call_of, understood
from modelport.lane.ways import Way
from modelport.surfaces.headers import RequestHead


def entered(
    lane: Lane, connection: Connection, way: Way, head: RequestHead, reply: Reply, body: bytes
) -> tuple[Understood, CallLease] | Refused | None:
    """What is asked, and the right to it; or the call, turned away. None: nothing is taken, and it must wait, or may go
    elsewhere."""
    pipeline = lane.pipeline
    if lane.gateway.draining:
        return None
    clock, snapshot = pipeline.clock, pipeline.snapshot()
    speech = way.inference.speech()
    call = call_of(lane, way, head, speech)
    principal = identify(head.credential, snapshot, pipeline.authenticators, clock.now())
    if isinstance(principal, Refusal):
        return stranger(lane, connection, reply, call, principal.error)
    facts = CallFacts.of(call, principal, snapshot, clock)
    try:
        asks = understood(call, speech, facts, body, principal, snapshot, lane.plan)
    except ModelportError as error:
        return turned_away(lane, connection, reply, call, facts, error)
    if asks is None:
        return None
    if isinstance(asks, Refusal):
        return turned_away(lane, connection, reply, call, facts, asks.error)
    outcome = admit(
        asks.deployment, asks.request, facts, snapshot, pipeline.quota, pipeline.journal, pipeline.observer, clock
    )
    if isinstance(outcome, Refusal) and outcome.spill_to is None:
        return turned_away(lane, connection, reply, call, facts, outcome.error)
    return (asks, outcome) if isinstance(outcome, CallLease) else None
