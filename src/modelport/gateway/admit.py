"""May you now? Takes one request and its tokens from the quota in one step, and opens the call's journal line.

Without room the call waits where its deployment lets it (`limits.wait_seconds`), or may go to the deployment that takes
over (`spillover`), or is refused with the time that is honest.
"""

from __future__ import annotations

from functools import partial

from modelport.core.catalog import Deployment, RateLimits, Snapshot
from modelport.core.clock import Clock
from modelport.core.errors import ModelportError
from modelport.core.limit_errors import BudgetExhausted, RateLimited, TokensLimitReached
from modelport.core.ports.quota import Quota, Reservation
from modelport.core.ports.records import Journal, Observer
from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.core.requests import Request
from modelport.gateway.admissions import Admissions, Asked, Claim
from modelport.gateway.afford import CallHold, afford
from modelport.gateway.charge import Charge
from modelport.gateway.estimate import Need, need
from modelport.gateway.facts import CallFacts
from modelport.gateway.fitting import beyond_limits
from modelport.gateway.lease import CallLease, unrecordable
from modelport.gateway.waiting import BATCH, INTERACTIVE, Denied, Turn


def admit(
    deployment: Deployment,
    request: Request,
    facts: CallFacts,
    snapshot: Snapshot,
    quota: Quota | Admissions,
    journal: Journal,
    observer: Observer,
    clock: Clock,
) -> CallLease | Refusal | NeedsWaiting[CallLease]:
    """The lease, or why not; a refusal holds nothing and leaves no record (the driver's `record_refusal` does).

    The `open` line is queued, not written: flush the journal before anything is sent to a target.
    """
    admissions = Admissions.over(quota, clock)
    needed, asked = asked_for(deployment, request, facts, snapshot, clock.monotonic())
    if (never := beyond_limits(deployment, asked.claims, needed)) is not None:
        return never
    charge = Charge(snapshot, deployment, request, facts.started_at)

    def paid() -> CallHold | Refusal | NeedsWaiting[CallHold] | None:
        return afford(admissions.budgets, asked.budgets, deployment, charge, needed, facts.started_at)

    def leased(reservation: Reservation, held: CallHold | Refusal | None) -> CallLease | Refusal:
        if isinstance(held, Refusal):
            reservation.cancel()
            return refused(deployment, held, admissions, asked)
        return opened(deployment, facts, needed, reservation, admissions, asked, journal, observer, charge, held)

    async def resumed(needs: NeedsWaiting[Reservation | Denied] | None = None) -> CallLease | Refusal:
        outcome = needs or admissions.take(asked)
        if isinstance(outcome, NeedsWaiting):
            outcome = await outcome.resume()
        if isinstance(outcome, Denied | Refusal):
            return refused(deployment, outcome, admissions, asked)
        try:
            held = paid()
            return leased(outcome, await held.resume() if isinstance(held, NeedsWaiting) else held)
        except BaseException:
            outcome.cancel()
            raise

    outcome = admissions.take(asked)
    if isinstance(outcome, NeedsWaiting):
        return NeedsWaiting(partial(resumed, outcome))
    if isinstance(outcome, Denied | Refusal):
        return refused(deployment, outcome, admissions, asked)
    held = paid()
    if isinstance(held, NeedsWaiting):
        outcome.cancel()  # who does not wait must find nothing taken
        return NeedsWaiting(resumed)
    return leased(outcome, held)


def adopted(
    deployment: Deployment,
    request: Request,
    facts: CallFacts,
    snapshot: Snapshot,
    reservation: Reservation,
    quota: Quota | Admissions,
    journal: Journal,
    observer: Observer,
    clock: Clock,
) -> CallLease:
    """The lease over what was taken, and journalled, in another way (lane/plain.py)."""
    needed, asked = asked_for(deployment, request, facts, snapshot, facts.started)
    return CallLease(
        facts,
        deployment,
        needed,
        reservation,
        journal,
        observer,
        clock,
        admissions=Admissions.over(quota, clock),
        asked=asked,
        charge=Charge(snapshot, deployment, request, facts.started_at),
        is_open=True,
    )


def asked_for(
    deployment: Deployment, request: Request, facts: CallFacts, snapshot: Snapshot, now: float
) -> tuple[Need, Asked]:
    """What this call needs, and how it asks for it."""
    claims = claims_of(deployment, facts)
    needed = need(request, tightest(claims), snapshot.reserve_tokens)
    turn = Turn(
        caller=facts.principal,
        weight=facts.weight,
        rank=BATCH if deployment.sku.is_batch else INTERACTIVE,
        cost=max(1, needed.total),
    )
    until = may_wait_until(deployment, facts, now)
    budgets = facts.budgets if deployment.budget is None else (*facts.budgets, deployment.budget)
    asked = Asked(claims=claims, tokens=needed.total, turn=turn, until=until, repeat=facts.repeat, budgets=budgets)
    return needed, asked


def claims_of(deployment: Deployment, facts: CallFacts) -> tuple[Claim, ...]:
    """The accounts that this call draws on: its deployment's, and its caller's where that has limits of its own."""
    of_deployment = Claim(deployment.name.lower(), deployment.limits)
    if facts.limits is None:
        return (of_deployment,)
    return of_deployment, Claim(f"key:{facts.principal}", facts.limits)


def tightest(claims: tuple[Claim, ...]) -> RateLimits:
    """The limits with the least tokens."""
    return min(
        (claim.limits for claim in claims),
        key=lambda limits: float("inf") if limits.tokens_per_minute is None else limits.tokens_per_minute,
    )


def may_wait_until(deployment: Deployment, facts: CallFacts, now: float) -> float:
    """Until when the call may wait for room. Not at all while another deployment may take over at once."""
    if deployment.spillover is not None and facts.spilled_from is None:
        return now
    until = now + deployment.limits.wait_seconds
    return until if facts.deadline is None else min(until, facts.deadline)


def refused(deployment: Deployment, denied: Denied | Refusal, admissions: Admissions, asked: Asked) -> Refusal:
    """429 with what is left, or what a store says. Another deployment can help only where it is the deployment that is
    full, not the caller's own limit."""
    if isinstance(denied, Refusal):
        if isinstance(denied.error, BudgetExhausted):
            denied.error.quota = admissions.state(asked)
        return denied
    refusal = denied.refusal
    quota = admissions.state(asked)
    error = RateLimited(refusal.kind, refusal.limit, refusal.retry_after_seconds, quota=quota)
    is_deployment_full = denied.subject == deployment.name.lower()
    return Refusal(error, spill_to=deployment.spillover if is_deployment_full else None)


def opened(
    deployment: Deployment,
    facts: CallFacts,
    needed: Need,
    reservation: Reservation,
    admissions: Admissions,
    asked: Asked,
    journal: Journal,
    observer: Observer,
    charge: Charge,
    hold: CallHold | None,
) -> CallLease | Refusal:
    """The lease over this reservation, with its `open` line queued."""
    try:
        return CallLease(
            facts,
            deployment,
            needed,
            reservation,
            journal,
            observer,
            admissions.clock,
            admissions=admissions,
            asked=asked,
            charge=charge,
            hold=hold,
        )
    except OSError:
        reservation.cancel()
        if hold is not None:
            hold.cancel()
        return Refusal(unrecordable())


def sooner(first: ModelportError, second: ModelportError) -> ModelportError:
    """Of two refusals for want of room, the one that ends first; one that no time ends is the last resort."""
    if isinstance(second, TokensLimitReached):
        return first
    if isinstance(first, TokensLimitReached):
        return second
    if isinstance(second, RateLimited) and (second.retry_after or 1) >= (first.retry_after or 1):
        return first
    return second
