"""The stages from a request's body to its deployment, as the lane's general form takes them. Nothing is taken by them:
what they give follows from the request and the snapshot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from modelport.core.catalog import Deployment, Snapshot
from modelport.core.identity import Principal
from modelport.core.ports.stages import Refusal
from modelport.core.requests import Request
from modelport.gateway import guard
from modelport.gateway.ask import ask
from modelport.gateway.call import Call
from modelport.gateway.facts import CallFacts
from modelport.gateway.pipeline import Pipeline, shaped_for
from modelport.gateway.resolve import requested_model, resolve
from modelport.lane.ways import Plan, Way
from modelport.surfaces.door import Speech
from modelport.surfaces.headers import RequestHead
from modelport.surfaces.options import Options


class Understood(Struct, frozen=True):
    """What a call asks, of whom, and in which words it is answered."""

    speech: Speech
    request: Request
    deployment: Deployment
    dropped: tuple[str, ...]
    facts: CallFacts
    plan: Plan
    snapshot: Snapshot


class Place(Protocol):
    """Where it is understood: lane.lane.Lane."""

    pipeline: Pipeline
    options: Options


def call_of(place: Place, way: Way, head: RequestHead, speech: Speech) -> Call:
    """The Call that a request's head makes, as surfaces.answer.called has it."""
    inference, limits = way.inference, place.options.limits
    return Call(
        operation=inference.operation,
        surface=way.door.surface,
        credential=head.credential,
        selector=inference.selector(head, way.parameters),
        read=never_read,
        decode=lambda data: speech.read(data, limits),
        extra_parameters=head.extra_parameters if inference.checks_extras else None,
        checks_extras=inference.checks_extras,
        request_id=head.request_id,
        client_request_id=head.client_request_id,
        deadline=place.pipeline.clock.monotonic() + limits.request_seconds,
    )


def understood(
    call: Call,
    speech: Speech,
    facts: CallFacts,
    body: bytes,
    principal: Principal,
    snapshot: Snapshot,
    plan_of: Callable[[Deployment, Snapshot], Plan | None],
) -> Understood | Refusal | None:
    """None: not from here. Raises ModelportError for a body that is wrong."""
    request = ask(call, body, snapshot, principal)
    facts.asked(request.stream, requested_model(call.selector, request.model))
    deployment = resolve(call.selector, request.model, request.operation, snapshot, principal)
    if isinstance(deployment, Refusal):
        return deployment
    facts.deployment = deployment.name
    shaped = shaped_for(call, request, principal, deployment, snapshot)
    if isinstance(shaped, Refusal):
        return shaped
    if guard.prompt(shaped.request, deployment) is not None:
        return None
    plan = plan_of(deployment, snapshot)
    if plan is None:
        return None
    return Understood(speech, shaped.request, deployment, shaped.dropped, facts, plan, snapshot)


async def never_read() -> bytes:
    """The body is here before the call is made."""
    raise AssertionError
