"""What the gateway needs of prices and budgets."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Protocol, final

from msgspec import Struct

from modelport.core.budgets import Budget, BudgetCrossed
from modelport.core.catalog import Deployment, Target
from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.core.pricing import Price, ServiceTier, UnpricedPolicy
from modelport.core.quota import QuotaState


class PriceBook(Protocol):
    """The prices that a snapshot holds. Asked once a call, so it answers from memory."""

    @property
    def version(self) -> str:
        """A short hash of every price in it and of how they are looked up."""
        ...

    @property
    def currency(self) -> str:
        """That of every price which it gives."""
        ...

    @property
    def unpriced(self) -> UnpricedPolicy:
        """What becomes of calls that it has no price for."""
        ...

    def price(
        self, deployment: Deployment, target: Target, started_at: float, tier: ServiceTier = "standard"
    ) -> Price | None:
        """What this target's answer costs in a call that started at this moment (unix seconds). None: not known."""
        ...


@final
class BudgetRefusal(Struct, frozen=True):
    """Which budget has no room for the call, and when it begins anew (unix seconds)."""

    budget: Budget
    resets_at: float


class BudgetHold(Protocol):
    """What one call has taken from its budgets. It counts in the windows in which it began, however long it lasts."""

    @property
    def amount(self) -> Decimal:
        """What it holds, or held until it was settled."""
        ...

    @property
    def tokens(self) -> int:
        """Likewise."""
        ...

    def top_up(self, amount: Decimal, tokens: int) -> bool | NeedsWaiting[bool]:
        """Takes more; False (and nothing taken) if a budget has no room for it. NeedsWaiting: a store has to be asked
        first; what its `resume` gives is final."""
        ...

    def settle(self, amount: Decimal, tokens: int) -> None:
        """Books what was used and gives back the rest. Only the first call counts."""
        ...


Afforded = BudgetHold | BudgetRefusal | Refusal
"""What budgets say once they know."""


class Budgets(Protocol):
    """What may be spent in a day or month. Settled and held together stay within each budget where what is held bounds
    what is used; what goes beyond is booked all the same."""

    def reserve(
        self, budgets: tuple[Budget, ...], amount: Decimal, tokens: int, now: float
    ) -> Afforded | NeedsWaiting[Afforded]:
        """Takes from all of them in one step, or from none. `now` is in unix seconds. NeedsWaiting: a store has to be
        asked first. A Refusal: the store is gone."""
        ...

    def states(self, budgets: tuple[Budget, ...], now: float, below: int | None = None) -> list[QuotaState]:
        """What is left of those that bound tokens, as far as this process knows; of those alone that leave no more than
        `below`, if it is given. `now` is in unix seconds."""
        ...

    def on_crossing(self, tell: Callable[[BudgetCrossed], None]) -> None:
        """`tell` is called when a budget reaches a threshold. It must not block or raise."""
        ...
