"""May you now? Takes one request and its tokens from the quota in one step, and opens the call's journal line."""

from __future__ import annotations

from modelport.core.catalog import Deployment, Snapshot
from modelport.core.clock import Clock
from modelport.core.errors import RateLimited
from modelport.core.ports import Journal, Observer, Quota, QuotaRefusal, Refusal
from modelport.core.requests import Request
from modelport.gateway.estimate import need
from modelport.gateway.lease import CallFacts, CallLease, unrecordable


def admit(
    deployment: Deployment,
    request: Request,
    facts: CallFacts,
    snapshot: Snapshot,
    quota: Quota,
    journal: Journal,
    observer: Observer,
    clock: Clock,
) -> CallLease | Refusal:
    """The lease, or why not; a refusal holds nothing and leaves no record (the driver's `record_refusal` does).

    The `open` line is queued, not written: flush the journal before anything is sent to a target.
    """
    needed = need(request, deployment.limits, snapshot.reserve_tokens)
    taken = quota.reserve(deployment.name.lower(), deployment.limits, needed.total, clock.monotonic())
    if isinstance(taken, QuotaRefusal):
        error = RateLimited(taken.kind, taken.limit, taken.retry_after_seconds)
        return Refusal(error, spill_to=deployment.spillover)
    try:
        return CallLease(facts, deployment, needed, taken, journal, observer, clock)
    except OSError:
        taken.settle(0)
        return Refusal(unrecordable())
