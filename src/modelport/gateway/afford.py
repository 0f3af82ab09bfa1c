"""Can it be paid? Takes from the budgets that a call is booked on the most that it can cost, before anything is made.

The day and month of a budget begin at midnight UTC. A caller whose budget has no room is told when it begins anew, and
gets Retry-After only where that is worth waiting for: clients take it literally, and would sleep until the next month.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Final

from modelport.core.budgets import iso
from modelport.core.errors import Unavailable
from modelport.core.limit_errors import BudgetExhausted, PriceUnknown
from modelport.core.ports.money import Afforded, BudgetHold, BudgetRefusal, Budgets
from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.core.pricing import EXACT, NONE
from modelport.gateway.charge import Charge
from modelport.gateway.estimate import Need
from modelport.gateway.fitting import beyond_budget
from modelport.gateway.forms import PriceForms
from modelport.gateway.plan import CallPlan

WORTH_WAITING_SECONDS: Final = 60
UNKEPT_RETRY_SECONDS: Final = 5


def afford(
    kept: Budgets | None, plan: CallPlan, prices: PriceForms | None, charge: Charge, need: Need, started_at: float
) -> BudgetHold | Refusal | NeedsWaiting[BudgetHold]:
    """The hold of a call whose plan has budgets. NeedsWaiting: a store has to be asked first."""
    if kept is None:
        return Refusal(Unavailable("The server cannot keep its budgets now.", retry_after=UNKEPT_RETRY_SECONDS))
    budgets, tokens, amount = plan.budgets, need.total, None
    if prices is None or prices.unpriced is None:
        amount = charge.bound(need.prompt, need.completion).amount
    if amount is None:
        amount = NONE
        if plan.bounds_money and charge.denies_unpriced:
            return Refusal(PriceUnknown(plan.deployment.name))
    for budget in budgets:
        most, dearest = budget.tokens, budget.amount
        if (most is not None and tokens > most) or (dearest is not None and amount > dearest):
            return beyond_budget(budget, tokens)
    taken = kept.reserve(budgets, amount, tokens, started_at)
    if type(taken) is NeedsWaiting:
        return NeedsWaiting(partial(afforded_later, taken, started_at))
    return exhausted(taken, started_at) if type(taken) is BudgetRefusal else taken


async def afforded_later(needs: NeedsWaiting[Afforded], started_at: float) -> BudgetHold | Refusal:
    """The same, where a store has to be asked."""
    taken = await needs.resume()
    return exhausted(taken, started_at) if type(taken) is BudgetRefusal else taken


def grown(hold: BudgetHold, charge: Charge, need: Need, tokens: int) -> bool | NeedsWaiting[bool]:
    """Takes what so many tokens more of answer can cost; False (and nothing taken) if a budget has no room.
    NeedsWaiting: a store has to be asked first."""
    amount = charge.bound(need.prompt, hold.tokens - need.prompt + tokens).amount or NONE
    return hold.top_up(EXACT.subtract(amount, hold.amount), tokens)


def exhausted(refusal: BudgetRefusal, now: float) -> Refusal:
    """The caller's view of why nothing was taken."""
    kind, _, name = refusal.budget.subject.partition(":")
    seconds = max(1, math.ceil(refusal.resets_at - now))
    retry_after = seconds if seconds <= WORTH_WAITING_SECONDS else None
    return Refusal(
        BudgetExhausted(f"{kind} {name}", refusal.budget.per, iso(refusal.resets_at), retry_after=retry_after)
    )
