"""The budgets of one process, in its memory. After a restart the ledger says what the running day and month have used.

A hold counts in full from `reserve` to `settle`, in the window in which it was taken; what was really used is booked
there, exactly. So what is held and what is settled together stay within a budget, unless a call uses more than it held.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Final

from msgspec import Struct

from modelport.core.budgets import (
    THRESHOLDS,
    Budget,
    BudgetCrossed,
    Period,
    Window,
    percent_used,
    window_of,
)
from modelport.core.errors import Unavailable
from modelport.core.ports.money import BudgetHold, BudgetRefusal
from modelport.core.ports.stages import Refusal
from modelport.core.pricing import EXACT, NONE
from modelport.core.quota import QuotaState, tokens_left

RETRY_SECONDS: Final = 1
KNOWN_CALLERS: Final = 1024


class MemoryBudgets:
    """core.ports.money.Budgets."""

    def __init__(self, thresholds: tuple[int, ...] = THRESHOLDS) -> None:
        self._thresholds = tuple(sorted(thresholds))
        self._accounts: dict[tuple[str, Period], Account] = {}
        self._known: dict[int, Accounts] = {}
        """By the identity of their budgets: callers have the same again and again."""
        self._tell: Callable[[BudgetCrossed], None] | None = None
        self.unread: set[tuple[str, Period]] = set()
        """Budgets of which it is not known yet what was used before: nothing is given of them."""

    def reserve(
        self, budgets: tuple[Budget, ...], amount: Decimal, tokens: int, now: float
    ) -> BudgetHold | BudgetRefusal | Refusal:
        """Takes from all of them, or from none."""
        if self.unread and any((budget.subject, budget.per) in self.unread for budget in budgets):
            return Refusal(Unavailable("The budgets of this call cannot be checked now.", retry_after=RETRY_SECONDS))
        pairs, full = self._pairs(budgets, now), None
        for budget, account in pairs:
            most = budget.tokens
            lacks = most is not None and account.spent_tokens + account.held_tokens + tokens > most
            if lacks or (amount and budget.amount is not None):
                lacks = account.lacks(budget, amount, tokens)
            if lacks and (full is None or account.window.ends_at > full.resets_at):
                full = BudgetRefusal(budget, account.window.ends_at)
            account.held_tokens += tokens
            if amount:
                account.held = EXACT.add(account.held, amount)
        if full is None:
            return Held(self, pairs, amount, tokens)
        for _, account in pairs:
            account.held_tokens -= tokens
            account.held = EXACT.subtract(account.held, amount)
        return full

    def states(self, budgets: tuple[Budget, ...], now: float, below: int | None = None) -> list[QuotaState]:
        """What is left of those that bound tokens."""
        states = []
        for budget, account in self._pairs(budgets, now):
            most, used = budget.tokens, account.spent_tokens + account.held_tokens
            if most is not None and (below is None or most - used <= below):
                states.append(tokens_left(budget, account.window, used, now))
        return states

    def restore(self, budget: Budget, amount: Decimal, tokens: int, now: float) -> None:
        """Books what calls of the window of `now` have used before this process began. Tells nobody."""
        account = self._account(budget, now)
        account.spent = EXACT.add(account.spent, amount)
        account.spent_tokens += tokens
        account.note_percent(budget, percent_used(budget, account.spent, account.spent_tokens))

    def on_crossing(self, tell: Callable[[BudgetCrossed], None]) -> None:
        """Who is told of thresholds."""
        self._tell = tell

    def spent(self, budget: Budget, now: float) -> tuple[Decimal, int]:
        """Money and tokens settled in the budget's window."""
        account = self._account(budget, now)
        return account.spent, account.spent_tokens

    def note(self, budget: Budget, account: Account) -> None:
        """Tells of the thresholds that what was booked last has crossed."""
        percent = percent_used(budget, account.spent, account.spent_tokens)
        before = account.percent
        account.note_percent(budget, percent)
        if percent <= before or self._tell is None:
            return
        for threshold in self._thresholds:
            if before < threshold <= percent:
                self._tell(
                    BudgetCrossed(
                        subject=budget.subject,
                        per=budget.per,
                        window=account.window.name,
                        percent=threshold,
                        amount=budget.amount,
                        spent=account.spent,
                        tokens=budget.tokens,
                        spent_tokens=account.spent_tokens,
                    )
                )

    def _account(self, budget: Budget, now: float) -> Account:
        key = (budget.subject, budget.per)
        account = self._accounts.get(key)
        if account is None or now >= account.window.ends_at:
            account = self._accounts[key] = Account(window_of(budget.per, now))
        return account

    def _pairs(self, budgets: tuple[Budget, ...], now: float) -> Pairs:
        """Each of them with its account."""
        known = self._known.get(id(budgets))
        if known is not None and known.budgets is budgets and now < known.ends_at:
            return known.pairs
        if len(self._known) >= KNOWN_CALLERS:
            self._known.clear()
        pairs = [(budget, self._account(budget, now)) for budget in budgets]
        ends_at = min((account.window.ends_at for _, account in pairs), default=now)
        self._known[id(budgets)] = Accounts(budgets, pairs, ends_at)
        return pairs


class Account:
    """What one subject has spent and holds in one window."""

    __slots__ = ("held", "held_tokens", "next_percent_tokens", "noted", "percent", "spent", "spent_tokens", "window")

    def __init__(self, window: Window) -> None:
        self.window = window
        self.spent = NONE
        self.held = NONE
        self.spent_tokens = 0
        self.held_tokens = 0
        self.percent = 0
        """Of the budget, as told last."""
        self.next_percent_tokens = 0
        """With fewer tokens spent of the budget that was `noted`, it is no more."""
        self.noted: Budget | None = None

    def note_percent(self, budget: Budget, percent: int) -> None:
        """So much of it is spent."""
        if percent > self.percent:
            self.percent = percent
        self.noted = budget
        self.next_percent_tokens = 0 if budget.tokens is None else -(-(self.percent + 1) * budget.tokens // 100)

    def lacks(self, budget: Budget, amount: Decimal, tokens: int) -> bool:
        """Whether there is no room for so much more. What costs nothing needs none."""
        dearest, most = budget.amount, budget.tokens
        if amount and dearest is not None and EXACT.add(EXACT.add(self.spent, self.held), amount) > dearest:
            return True
        return most is not None and tokens > 0 and self.spent_tokens + self.held_tokens + tokens > most


Pairs = list[tuple[Budget, Account]]


class Accounts(Struct, frozen=True):
    """Those of some budgets, until the first of their windows ends."""

    budgets: tuple[Budget, ...]
    pairs: Pairs
    ends_at: float


class Held(Struct, eq=False):
    """core.ports.money.BudgetHold."""

    budgets: MemoryBudgets
    pairs: Pairs
    amount: Decimal
    tokens: int
    is_settled: bool = False

    def top_up(self, amount: Decimal, tokens: int) -> bool:
        """Takes more from all, or from none."""
        if self.is_settled or any(account.lacks(budget, amount, tokens) for budget, account in self.pairs):
            return False
        for _, account in self.pairs:
            account.held = EXACT.add(account.held, amount)
            account.held_tokens += tokens
        self.amount = EXACT.add(self.amount, amount)
        self.tokens += tokens
        return True

    def settle(self, amount: Decimal, tokens: int) -> None:
        """Books what was used."""
        if self.is_settled:
            return
        self.is_settled = True
        for budget, account in self.pairs:
            if self.amount:
                account.held = EXACT.subtract(account.held, self.amount)
            if amount:
                account.spent = EXACT.add(account.spent, amount)
            account.held_tokens -= self.tokens
            account.spent_tokens += tokens
            is_quiet = account.noted is budget and account.spent_tokens < account.next_percent_tokens
            if not is_quiet or budget.amount is not None:
                self.budgets.note(budget, account)
