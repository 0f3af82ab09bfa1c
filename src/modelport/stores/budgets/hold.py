"""What one call holds of its budgets, with accounts of this process."""

from __future__ import annotations

from decimal import Decimal
from typing import Protocol

from modelport.core.ports.stages import NeedsWaiting
from modelport.core.pricing import EXACT, NONE
from modelport.stores.budgets.account import LocalAccount


class Part:
    """Its part with one budget. `backed` was granted to this process, and goes back to it."""

    __slots__ = ("account", "backed", "backed_tokens")

    def __init__(self, account: LocalAccount, backed: Decimal, backed_tokens: int) -> None:
        self.account = account
        self.backed = backed
        self.backed_tokens = backed_tokens


class Desk(Protocol):
    """What a hold needs of the budgets that it belongs to."""

    def top_up(self, hold: SharedHold, amount: Decimal, tokens: int) -> bool | NeedsWaiting[bool]: ...


class SharedHold:
    """core.ports.money.BudgetHold."""

    __slots__ = ("_desk", "amount", "is_settled", "parts", "tokens")

    def __init__(self, desk: Desk, parts: tuple[Part, ...], amount: Decimal, tokens: int) -> None:
        self._desk = desk
        self.parts = parts
        self.amount = amount
        self.tokens = tokens
        self.is_settled = False
        for part in parts:
            part.account.running += 1

    def top_up(self, amount: Decimal, tokens: int) -> bool | NeedsWaiting[bool]:
        """Takes more from all, or from none."""
        return False if self.is_settled else self._desk.top_up(self, amount, tokens)

    def grow(self, amount: Decimal, tokens: int, backed: tuple[bool, ...]) -> None:
        """So much more is held with each account; where it was granted there, it is backed."""
        self.amount = EXACT.add(self.amount, amount)
        self.tokens += tokens
        for part, is_backed in zip(self.parts, backed, strict=True):
            if is_backed:
                part.backed = EXACT.add(part.backed, amount)
                part.backed_tokens += tokens

    def settle(self, amount: Decimal, tokens: int) -> None:
        """Books what was used."""
        if self.is_settled:
            return
        self.is_settled = True
        for part in self.parts:
            account = part.account
            account.running -= 1
            back = max(NONE, EXACT.subtract(part.backed, amount))
            account.release(self.amount, self.tokens, back, max(0, part.backed_tokens - tokens))
            account.book(amount, tokens, EXACT.subtract(amount, self.amount), tokens - self.tokens)
