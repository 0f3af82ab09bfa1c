"""What `admit` needs of one call, made from a deployment, a snapshot and a principal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from modelport.core.catalog import Deployment, Snapshot
from modelport.core.clock import Clock
from modelport.core.identity import Credential, Identified, Principal
from modelport.core.operations import Operation
from modelport.core.ports.quota import Quota
from modelport.core.ports.records import Journal
from modelport.core.roles import Grant, Role
from modelport.gateway.admissions import Admissions
from modelport.gateway.call import Arrival, CallHead, Selector
from modelport.gateway.facts import CallFacts
from modelport.gateway.plan import Caller, CallPlan

ALICE = Principal(name="alice", key_id="k1", grants=(Grant(Role.INFERENCE_USER),))
REQUEST_SECONDS = 600.0


class Parts(Struct):
    """gateway.lease.Parts"""

    quota: Admissions
    journal: Journal
    observer: Any
    clock: Clock

    @classmethod
    def over(cls, quota: Quota | Admissions, journal: Any, observer: Any, clock: Clock) -> Parts:
        return cls(Admissions.over(quota, clock), journal, observer, clock)


def head_of(**fields: Any) -> CallHead:
    """A chat's by OpenAI's surface, but for these fields."""
    known: dict[str, Any] = {
        "operation": Operation.CHAT_COMPLETIONS,
        "surface": "openai_v1",
        "credential": Credential(),
        "selector": Selector(),
        "decode": None,
        "speech": None,
        "reasoning": "inline",
        "checks_extras": False,
        **fields,
    }
    return CallHead(**known)


def caller_of(
    snapshot: Snapshot,
    principal: Principal = ALICE,
    observer: Any = None,
    expires_at: float | None = None,
    planned: Callable[[], None] = lambda: None,
    **head: Any,
) -> Caller:
    """Who asks with such a head."""
    nothing: Any = None
    return Caller(head_of(**head), Identified(principal, expires_at), snapshot, nothing, observer, planned)


def plan_of(
    deployment: Deployment,
    snapshot: Snapshot,
    principal: Principal = ALICE,
    observer: Any = None,
    *,
    requested_model: str | None = None,
    spilled_from: str | None = None,
    **head: Any,
) -> CallPlan:
    """This principal's calls of this deployment."""
    return CallPlan(caller_of(snapshot, principal, observer, **head), deployment, requested_model, spilled_from)


def arrival_of(id: str = "call", client_request_id: str | None = None, **fields: Any) -> Arrival:
    """A request that has just come."""
    known: dict[str, Any] = {"key": b"", "head": head_of, "request_seconds": REQUEST_SECONDS, **fields}
    return Arrival(id, client_request_id, **known)


def facts_of(
    plan: CallPlan, clock: Clock, id: str = "call", client_request_id: str | None = None, *, streamed: bool = False
) -> CallFacts:
    """One call by this plan that starts now."""
    arrival = arrival_of(id, client_request_id)
    return CallFacts(arrival, plan.caller, clock.now(), clock.monotonic(), plan, streamed, plan.requested_model)
