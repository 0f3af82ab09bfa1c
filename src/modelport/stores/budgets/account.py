"""What one process holds of one budget in one window: what it may spend without asking, what its calls hold, what it
has settled. No I/O and no clock.

Money is exact here, and told to the store in whole micro-units: what is settled rounded down, all together rounded up.
What was granted is `spent + held + free` until a call uses more than it held.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections import deque
from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Final

from modelport.core.budgets import Budget, Window
from modelport.core.pricing import EXACT, NONE
from modelport.stores.budgets.bank import NOTHING, UNLIMITED, Answer, Ask, Sum

MICRO: Final = 6
LIFETIME_SECONDS: Final = 10.0
REFUSED_SECONDS: Final = 0.25
"""A refusal of the store holds for so long, so that a flood of calls is not a flood of questions."""
IDLE_SECONDS: Final = 0.5
"""Without a call for so long, nothing is kept that others could use."""
SHORT_SECONDS: Final = 2.0
SMALLEST_CHUNK: Final = 1024
"""A chunk is at least this part of the budget: small, because a killed process takes its chunk along."""
RECENT_SECONDS: Final = 60.0
"""What was settled longer ago is in the ledger, from which a store that has lost its data begins anew."""


class Wanted:
    """What one call waits for: `take` takes it if it is here by now."""

    __slots__ = ("amount", "attempts", "future", "take", "tokens")

    def __init__(
        self,
        amount: Decimal,
        tokens: int,
        take: Callable[[], bool],
        future: asyncio.Future[bool | None],
    ) -> None:
        self.amount = amount
        self.tokens = tokens
        self.take = take
        self.future = future
        self.attempts = 0


class LocalAccount:
    """One budget and one window of one process."""

    __slots__ = (
        "acknowledged",
        "base",
        "base_tokens",
        "budget",
        "demand",
        "epoch",
        "free",
        "free_tokens",
        "heard",
        "held",
        "held_tokens",
        "holder",
        "is_recovering",
        "is_unread",
        "last_demand",
        "last_used",
        "limits",
        "must_tell",
        "number",
        "others",
        "past",
        "refused_until",
        "running",
        "seed",
        "short_until",
        "spent",
        "spent_tokens",
        "store_free",
        "talking",
        "told_at",
        "total",
        "wanted",
        "window",
    )

    def __init__(self, budget: Budget, window: Window) -> None:
        self.budget = budget
        self.window = window
        self.limits = Sum(
            UNLIMITED if budget.amount is None else floored(budget.amount),
            UNLIMITED if budget.tokens is None else budget.tokens,
        )
        self.spent = self.held = self.free = NONE
        self.spent_tokens = self.held_tokens = self.free_tokens = 0
        self.running = 0
        self.holder = secrets.token_hex(8)
        self.number = 0
        self.heard = 0
        self.epoch = ""
        self.seed: tuple[Sum, ...] = ()
        self.is_unread = False
        """The ledger does not say what was used before."""
        self.is_recovering = False
        """The store has lost its data, and grants nothing until everybody has told what they hold."""
        self.base = NONE
        self.base_tokens = 0
        """So much of what was granted or settled is counted elsewhere: under an earlier name, or by the ledger."""
        self.acknowledged = (NOTHING, NOTHING)
        """Settled and held, as the store has it."""
        self.past: deque[tuple[float, Decimal, int]] = deque()
        """What was settled by which moment."""
        self.total = NOTHING
        """Settled by all, as the store said last."""
        self.store_free = NOTHING
        self.others = NOTHING
        self.told_at = self.last_used = self.refused_until = self.short_until = -math.inf
        self.demand = self.last_demand = (NONE, 0)
        self.wanted: deque[Wanted] = deque()
        self.must_tell = False
        self.talking: asyncio.Task[None] | None = None

    # --- calls -------------------------------------------------------------------------------------------------------

    def lacks(self, amount: Decimal, tokens: int) -> bool:
        """Whether it is not here. What costs nothing needs no room."""
        if self.budget.amount is not None and amount and amount > self.free:
            return True
        return self.budget.tokens is not None and tokens > 0 and tokens > self.free_tokens

    def has(self, amount: Decimal, tokens: int) -> bool:
        """Whether it can be taken without asking anybody."""
        return bool(self.epoch) and not self.lacks(amount, tokens)

    def take(self, amount: Decimal, tokens: int, now: float) -> bool:
        """Holds what is free here; False, and nothing is held, if it is not enough."""
        if self.lacks(amount, tokens):
            return False
        if self.budget.amount is not None:
            self.free = EXACT.subtract(self.free, amount)
        if self.budget.tokens is not None:
            self.free_tokens -= tokens
        self.hold(amount, tokens, now)
        return True

    def hold(self, amount: Decimal, tokens: int, now: float) -> None:
        """A call holds it now, wherever it is from."""
        self.held = EXACT.add(self.held, amount)
        self.held_tokens += tokens
        self.demand = (EXACT.add(self.demand[0], amount), self.demand[1] + tokens)
        self.last_used = now

    def release(self, amount: Decimal, tokens: int, backed: Decimal, backed_tokens: int) -> None:
        """A call holds it no longer; so much of it was granted to this process, and is free again."""
        self.held = EXACT.subtract(self.held, amount)
        self.held_tokens -= tokens
        if self.budget.amount is not None:
            self.free = EXACT.add(self.free, backed)
        if self.budget.tokens is not None:
            self.free_tokens += backed_tokens
        self.refused_until = -math.inf

    def book(self, amount: Decimal, tokens: int, beyond: Decimal, beyond_tokens: int) -> None:
        """It is used; what goes beyond its hold comes out of what is at hand, as far as that goes."""
        self.spent = EXACT.add(self.spent, amount)
        self.spent_tokens += tokens
        if beyond > 0:
            self.free = EXACT.subtract(self.free, min(self.free, beyond))
        if beyond_tokens > 0:
            self.free_tokens -= min(self.free_tokens, beyond_tokens)

    # --- the store ---------------------------------------------------------------------------------------------------

    def statement(self) -> tuple[Sum, Sum]:
        """Settled, and held beyond that."""
        spent = max(0, floored(EXACT.subtract(self.spent, self.base)))
        spent_tokens = max(0, self.spent_tokens - self.base_tokens)
        whole = EXACT.add(EXACT.add(self.spent, self.held), self.free)
        keep = max(0, raised(EXACT.subtract(whole, self.base))) - spent
        keep_tokens = self.spent_tokens + self.held_tokens + self.free_tokens - self.base_tokens
        return Sum(spent, spent_tokens), Sum(max(0, keep), max(0, keep_tokens) - spent_tokens)

    def ask(self, need: Sum, want: Sum, now: float, lasts_seconds: float, ledger: str) -> Ask:
        """The next message."""
        self.number += 1
        spent, keep = self.statement()
        self.past.append((now, self.spent, self.spent_tokens))
        while len(self.past) > 1 and self.past[1][0] <= now - RECENT_SECONDS:
            self.past.popleft()
        return Ask(
            subject=self.budget.subject,
            window=self.window.name,
            lasts_ms=int(lasts_seconds * 1000),
            holder=self.holder,
            number=self.number,
            epoch=self.epoch,
            fresh_epoch=secrets.token_hex(8),
            ledger=ledger,
            seed=self.seed,
            spent=spent,
            keep=keep,
            idle=Sum(min(keep.money, floored(self.free)), min(keep.tokens, self.free_tokens)),
            need=need,
            want=want,
            limits=self.limits,
            heard=self.heard,
            lifetime_ms=int(LIFETIME_SECONDS * 1000),
        )

    def learn(self, ask: Ask, answer: Answer, now: float) -> None:
        """What the store has said: granted or refused."""
        self.epoch = answer.epoch
        self.seed = ()
        self.is_unread = False
        self.heard = ask.number
        self.told_at = now
        self.total, self.store_free, self.others = answer.total, answer.free, answer.others
        self.acknowledged = ask.spent, ask.keep + answer.granted
        self.is_recovering = answer.status == "recovering"
        if self.is_recovering:
            return
        if answer.is_short:
            self.short_until = now + SHORT_SECONDS
        if answer.status == "refused":
            self.refused_until = now + REFUSED_SECONDS
            return
        self.refused_until = -math.inf
        self.free = EXACT.add(self.free, money(answer.granted.money))
        self.free_tokens += answer.granted.tokens

    def begin_anew(self, *, is_lost: bool, now: float) -> None:
        """Under another name: because the store has lost its data, or has taken us for dead."""
        if is_lost:
            before = [settled for settled in self.past if settled[0] <= now - RECENT_SECONDS]
            self.base, self.base_tokens = before[-1][1:] if before else (NONE, 0)
        else:
            spent, keep = self.acknowledged
            self.base = EXACT.add(self.base, money(spent.money + keep.money))
            self.base_tokens += spent.tokens + keep.tokens
        self.holder, self.number, self.heard, self.epoch, self.seed = secrets.token_hex(8), 0, 0, "", ()
        self.acknowledged = (NOTHING, NOTHING)

    def need(self, amount: Decimal, tokens: int) -> Sum:
        """What is missing here of an amount."""
        missing = raised(EXACT.subtract(amount, self.free)) if self.budget.amount is not None and amount else 0
        missing_tokens = tokens - self.free_tokens if self.budget.tokens is not None and tokens else 0
        return Sum(max(0, missing), max(0, missing_tokens))

    def is_refused(self, amount: Decimal, tokens: int) -> bool:
        """Whether the store, when it answered last, had no room for what is missing here."""
        need, free = self.need(amount, tokens), self.store_free
        return 0 < need.money > free.money or 0 < need.tokens > free.tokens

    def others_have(self, amount: Decimal, tokens: int) -> bool:
        """Whether what other processes have at hand would be enough."""
        need, room = self.need(amount, tokens), self.store_free + self.others
        return need.money <= max(0, room.money) and need.tokens <= max(0, room.tokens)

    # --- how much is worth having ------------------------------------------------------------------------------------

    def chunk(self, now: float) -> tuple[Decimal, int]:
        """What two seconds need, or a small part of the budget; nothing where others need it or nobody here does."""
        if now < self.short_until or (now - self.last_used > IDLE_SECONDS and not self.wanted):
            return NONE, 0
        amount, tokens = self.peak()
        return (
            max(2 * amount, money(max(0, self.limits.money) // SMALLEST_CHUNK)),
            max(2 * tokens, self.limits.tokens // SMALLEST_CHUNK),
        )

    def peak(self) -> tuple[Decimal, int]:
        """What calls have asked for in the last second or so."""
        return max(self.demand[0], self.last_demand[0]), max(self.demand[1], self.last_demand[1])

    def turn_second(self) -> None:
        """A second has passed."""
        self.last_demand, self.demand = self.demand, (NONE, 0)

    def is_low(self, now: float) -> bool:
        """Whether it should fetch more before it is needed."""
        if now - self.last_used > IDLE_SECONDS or now < max(self.short_until, self.refused_until):
            return False
        amount, tokens = self.peak()
        if self.budget.amount is not None and self.free < amount / 2:
            return True
        return self.budget.tokens is not None and self.free_tokens < tokens // 2

    def give_back_surplus(self, now: float) -> None:
        """Lets go of what nobody here has needed lately. The next message tells."""
        amount, tokens = self.chunk(now)
        self.free = min(self.free, amount)
        self.free_tokens = min(self.free_tokens, tokens)

    def is_due(self, now: float, renew_seconds: float) -> bool:
        """Whether the store should hear something."""
        if self.is_recovering:
            return True
        if not self.epoch:
            return now - self.told_at > renew_seconds
        holds = bool(self.running or self.free or self.free_tokens)
        return self.statement() != self.acknowledged or (holds and now - self.told_at > renew_seconds)


def floored(amount: Decimal) -> int:
    """In whole micro-units, rounded down."""
    return int(EXACT.scaleb(amount, MICRO).to_integral_value(ROUND_FLOOR))


def raised(amount: Decimal) -> int:
    """In whole micro-units, rounded up."""
    return int(EXACT.scaleb(amount, MICRO).to_integral_value(ROUND_CEILING))


def money(micro_units: int) -> Decimal:
    """Of so many micro-units."""
    return EXACT.scaleb(Decimal(micro_units), -MICRO)
