"""May you now? Takes one request and its tokens from the quota in one step, and opens the call's journal line.

Without room the call waits where its deployment lets it (`limits.wait_seconds`), or may go to the deployment that takes
over (`spillover`), or is refused with the time that is honest.
"""

from __future__ import annotations

from functools import partial

from modelport.core.errors import ModelportError
from modelport.core.limit_errors import BudgetExhausted, RateLimited, TokensLimitReached
from modelport.core.ports.quota import Reservation
from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.core.requests import Request
from modelport.gateway.admissions import Admissions, Asked
from modelport.gateway.afford import afford
from modelport.gateway.estimate import Need, need
from modelport.gateway.facts import CallFacts
from modelport.gateway.fitting import beyond_limits
from modelport.gateway.lease import CallLease
from modelport.gateway.parts import Parts
from modelport.gateway.plan import CallPlan
from modelport.gateway.waiting import Denied, Turn


def admit(
    plan: CallPlan, request: Request, facts: CallFacts, parts: Parts
) -> CallLease | Refusal | NeedsWaiting[CallLease | Refusal]:
    """The lease, or why not; a refusal holds nothing and leaves no record (the machine does).

    The `open` line is queued, not written: flush the journal before anything is sent to a target.
    """
    now = parts.clock.monotonic()
    needed = need(request, plan.tightest, plan.caller.snapshot.reserve_tokens)
    most = plan.tightest.tokens_per_minute
    if most is not None and needed.total > most:
        never = beyond_limits(plan.deployment, plan.claims, needed)
        assert never is not None
        return never
    lease = CallLease(facts, plan, request, needed, parts)
    is_named = facts.arrival.client_request_id is not None
    accounts = parts.quota.direct(plan.claims, needed.total, now, is_named)
    if accounts is not None:
        lease.accounts, lease.taken_at = accounts, now
    else:
        asked = asked_for(plan, facts, needed, now)
        outcome = parts.quota.take(asked)
        if isinstance(outcome, NeedsWaiting):
            return NeedsWaiting(partial(admitted, lease, asked, plan, parts, outcome))
        if isinstance(outcome, Denied | Refusal):
            return refused(plan, outcome, parts.quota)
        lease.reserves(outcome)
    if not plan.budgets:
        return lease.opened()
    try:
        held = afford(parts.quota.budgets, plan, lease.prices, lease.charge, needed, facts.started_at)
    except BaseException:
        lease.cancel()
        raise
    if type(held) is NeedsWaiting:
        lease.cancel()  # who does not wait must find nothing taken
        return NeedsWaiting(partial(admitted, lease, asked_for(plan, facts, needed, now), plan, parts))
    if type(held) is Refusal:
        lease.cancel()
        return refused(plan, held, parts.quota)
    lease.hold = held
    return lease.opened()


async def admitted(
    lease: CallLease,
    asked: Asked,
    plan: CallPlan,
    parts: Parts,
    needs: NeedsWaiting[Reservation | Denied] | None = None,
) -> CallLease | Refusal:
    """The same, where something has to be waited for."""
    outcome = needs or parts.quota.take(asked)
    if isinstance(outcome, NeedsWaiting):
        outcome = await outcome.resume()
    if isinstance(outcome, Denied | Refusal):
        return refused(plan, outcome, parts.quota)
    try:
        lease.reserves(outcome)
        if not plan.budgets:
            return lease.opened()
        held = afford(parts.quota.budgets, plan, lease.prices, lease.charge, lease.need, lease.facts.started_at)
        held = await held.resume() if isinstance(held, NeedsWaiting) else held
        if isinstance(held, Refusal):
            lease.cancel()
            return refused(plan, held, parts.quota)
        lease.hold = held
        return lease.opened()
    except BaseException:
        lease.cancel()
        raise


def asked_for(plan: CallPlan, facts: CallFacts, needed: Need, now: float) -> Asked:
    """How this call asks for what it needs."""
    principal = plan.caller.principal
    turn = Turn(caller=principal.name, weight=principal.weight, rank=plan.rank, cost=max(1, needed.total))
    until = may_wait_until(plan, facts, now)
    return Asked(claims=plan.claims, tokens=needed.total, turn=turn, until=until, repeat=facts.repeat)


def may_wait_until(plan: CallPlan, facts: CallFacts, now: float) -> float:
    """Until when the call may wait for room. Not at all while another deployment may take over at once."""
    if plan.deployment.spillover is not None and plan.spilled_from is None:
        return now
    return min(now + plan.deployment.limits.wait_seconds, facts.deadline)


def refused(plan: CallPlan, denied: Denied | Refusal, admissions: Admissions) -> Refusal:
    """429 with what is left, or what a store says. Another deployment can help only where it is the deployment that is
    full, not the caller's own limit."""
    if isinstance(denied, Refusal):
        if isinstance(denied.error, BudgetExhausted):
            denied.error.quota = admissions.state(plan.claims, plan.budgets)
        return denied
    refusal = denied.refusal
    quota = admissions.state(plan.claims, plan.budgets)
    error = RateLimited(refusal.kind, refusal.limit, refusal.retry_after_seconds, quota=quota)
    is_deployment_full = denied.subject == plan.claims[0].subject
    return Refusal(error, spill_to=plan.deployment.spillover if is_deployment_full else None)


def sooner(first: ModelportError, second: ModelportError) -> ModelportError:
    """Of two refusals for want of room, the one that ends first; one that no time ends is the last resort."""
    if isinstance(second, TokensLimitReached):
        return first
    if isinstance(first, TokensLimitReached):
        return second
    if isinstance(second, RateLimited) and (second.retry_after or 1) >= (first.retry_after or 1):
        return first
    return second
