"""Can it be paid? Takes from the budgets that a call is booked on the most that it can cost, before anything is made.

The day and month of a budget begin at midnight UTC. A caller whose budget has no room is told when it begins anew, and
gets Retry-After only where that is worth waiting for: clients take it literally, and would sleep until the next month.
"""

from __future__ import annotations

import math
from decimal import Decimal
from functools import partial
from typing import Final

from modelport.core.budgets import Budget, iso
from modelport.core.catalog import Deployment
from modelport.core.errors import Unavailable
from modelport.core.limit_errors import BudgetExhausted, PriceUnknown
from modelport.core.ports.money import Afforded, BudgetHold, BudgetRefusal, Budgets
from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.core.pricing import EXACT, NONE
from modelport.gateway.charge import Charge
from modelport.gateway.estimate import Need
from modelport.gateway.fitting import beyond_budget

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

    def top_up(self, tokens: int) -> bool | NeedsWaiting[bool]:
        """Takes what so many tokens more of answer can cost; False (and nothing taken) if a budget has no room.
        NeedsWaiting: a store has to be asked first."""
        amount = self._charge.bound(self._prompt, self._completion + tokens).amount or NONE
        taken = self._hold.top_up(EXACT.subtract(amount, self._amount), tokens)
        if isinstance(taken, NeedsWaiting):
            return NeedsWaiting(partial(self._topped_up, amount, tokens, taken))
        return self._grown(amount, tokens, taken)

    async def _topped_up(self, amount: Decimal, tokens: int, needs: NeedsWaiting[bool]) -> bool:
        return self._grown(amount, tokens, (await needs.resume()) is True)

    def _grown(self, amount: Decimal, tokens: int, is_taken: bool) -> bool:
        if is_taken:
            self._amount = amount
            self._completion += tokens
        return is_taken

    def settle(self, amount: Decimal | None, tokens: int) -> None:
        """Books what the call has cost. What has no price is booked in tokens alone."""
        self._hold.settle(NONE if amount is None else amount, tokens)

    def cancel(self) -> None:
        """The call has not taken place."""
        self._hold.settle(NONE, 0)


def afford(
    kept: Budgets | None,
    budgets: tuple[Budget, ...],
    deployment: Deployment,
    charge: Charge,
    need: Need,
    started_at: float,
    is_unpriced: bool = False,
) -> CallHold | Refusal | NeedsWaiting[CallHold] | None:
    """The hold; None where no budget counts the call. NeedsWaiting: a store has to be asked first."""
    if not budgets:
        return None
    if kept is None:
        return Refusal(Unavailable("The server cannot keep its budgets now.", retry_after=UNKEPT_RETRY_SECONDS))
    amount = None if is_unpriced else charge.bound(need.prompt, need.completion).amount
    if amount is None:
        if charge.denies_unpriced and any(budget.amount is not None for budget in budgets):
            return Refusal(PriceUnknown(deployment.name))
        amount = NONE
    tokens = need.total
    for budget in budgets:
        if (budget.tokens is not None and tokens > budget.tokens) or (
            budget.amount is not None and amount > budget.amount
        ):
            return beyond_budget(budget, tokens)
    taken = kept.reserve(budgets, amount, tokens, started_at)
    if type(taken) is NeedsWaiting:
        return NeedsWaiting(partial(afforded_later, taken, charge, need, amount, started_at))
    return afforded(taken, charge, need, amount, started_at)


async def afforded_later(
    needs: NeedsWaiting[Afforded], charge: Charge, need: Need, amount: Decimal, started_at: float
) -> CallHold | Refusal:
    """The same, where a store has to be asked."""
    return afforded(await needs.resume(), charge, need, amount, started_at)


def afforded(taken: Afforded, charge: Charge, need: Need, amount: Decimal, started_at: float) -> CallHold | Refusal:
    """The hold over what was taken, or the caller's view of why nothing was."""
    if type(taken) is Refusal:
        return taken
    if type(taken) is BudgetRefusal:
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
