"""Can it be paid? Takes from the budgets that a call is booked on the most that it can cost, before anything is made.

The day and month of a budget begin at midnight UTC. A caller whose budget has no room is told when it begins anew, and
gets Retry-After only where that is worth waiting for: clients take it literally, and would sleep until the next month.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Final

from modelport.core.budgets import Budget, iso
from modelport.core.catalog import Deployment
from modelport.core.errors import BudgetExhausted, PriceUnknown, Unavailable
from modelport.core.ports import BudgetHold, BudgetRefusal, Budgets, Refusal
from modelport.core.pricing import EXACT, NONE
from modelport.gateway.charge import Charge
from modelport.gateway.estimate import Need

WORTH_WAITING_SECONDS: Final = 60
UNKEPT_RETRY_SECONDS: Final = 5


class CallHold:
    """What one call holds of its budgets, in money that follows from its tokens."""

    __slots__ = ("_amount", "_charge", "_completion", "_hold", "_prompt")

    def __init__(self, hold: BudgetHold, charge: Charge, need: Need, amount: Decimal) -> None:
        self._hold = hold
        self._charge = charge
        self._prompt = need.prompt
        self._completion = need.completion
        self._amount = amount

    def top_up(self, tokens: int) -> bool:
        """Takes what so many tokens more of answer can cost; False (and nothing taken) if a budget has no room."""
        amount = self._charge.bound(self._prompt, self._completion + tokens).amount or NONE
        if not self._hold.top_up(EXACT.subtract(amount, self._amount), tokens):
            return False
        self._amount = amount
        self._completion += tokens
        return True

    def settle(self, amount: Decimal | None, tokens: int) -> None:
        """Books what the call has cost. What has no price is booked in tokens alone."""
        self._hold.settle(NONE if amount is None else amount, tokens)

    def cancel(self) -> None:
        """The call has not taken place."""
        self._hold.settle(NONE, 0)


def afford(
    kept: Budgets | None,
    of_caller: tuple[Budget, ...],
    deployment: Deployment,
    charge: Charge,
    need: Need,
    started_at: float,
) -> CallHold | Refusal | None:
    """The hold; None where no budget counts the call."""
    budgets = of_caller if deployment.budget is None else (*of_caller, deployment.budget)
    if not budgets:
        return None
    if kept is None:
        return Refusal(Unavailable("The server cannot keep its budgets now.", retry_after=UNKEPT_RETRY_SECONDS))
    amount = charge.bound(need.prompt, need.completion).amount
    if amount is None:
        if charge.denies_unpriced and any(budget.amount is not None for budget in budgets):
            return Refusal(PriceUnknown(deployment.name))
        amount = NONE
    taken = kept.reserve(budgets, amount, need.total, started_at)
    if isinstance(taken, Refusal):
        return taken
    if isinstance(taken, BudgetRefusal):
        return Refusal(exhausted(taken, started_at))
    return CallHold(taken, charge, need, amount)


def exhausted(refusal: BudgetRefusal, now: float) -> BudgetExhausted:
    """The caller's view of it."""
    kind, _, name = refusal.budget.subject.partition(":")
    seconds = max(1, math.ceil(refusal.resets_at - now))
    return BudgetExhausted(
        f"{kind} {name}",
        refusal.budget.per,
        iso(refusal.resets_at),
        retry_after=seconds if seconds <= WORTH_WAITING_SECONDS else None,
    )
