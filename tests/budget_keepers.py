"""Keepers of budgets for tests: each kind of store, any number of processes that share it, time of the test's own, and
a ledger that says what the test has put into it."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from modelport.core.budgets import Budget, BudgetCrossed, Window
from modelport.core.ports.money import BudgetHold, BudgetRefusal
from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.core.usage_reports import LedgerUnavailable
from modelport.stores.allotments import StoreGone
from modelport.stores.budgets import Answer, Ask, Bank, MemoryBank, Seed, SharedBudgets
from modelport.stores.budgets.bank import RECOVERY_MS
from modelport.stores.memory.budgets import MemoryBudgets
from modelport.stores.redis.budgets import RedisBudgetBank
from modelport.stores.sqlite_budgets import SqliteBudgetBank
from redis_server import RedisServer, named_url

NOON = 1_795_262_400.0
"""2026-11-21T12:00:00Z"""


class SettableClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.time = NOON

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    def milliseconds(self) -> int:
        return int(self.time * 1000)


class Books:
    """A ledger, as far as budgets ask it."""

    def __init__(self, name: str = "books") -> None:
        self.name = name
        self.used_before: dict[tuple[str, str], tuple[Decimal, int]] = {}
        self.questions = 0
        self.is_gone = False

    def ledger(self) -> str | None:
        return self.name

    async def used(self, subject: str, window: Window) -> Seed:
        self.questions += 1
        if self.is_gone:
            raise LedgerUnavailable("gone")
        return Seed(self.name, *self.used_before.get((subject, window.name), (Decimal(0), 0)))

    def add(self, subject: str, window: str, amount: Decimal, tokens: int = 0) -> None:
        before, tokens_before = self.used_before.get((subject, window), (Decimal(0), 0))
        self.used_before[subject, window] = before + amount, tokens_before + tokens


class Hold:
    """A hold whose waiting is awaited at once, and whose end is told to the store."""

    def __init__(self, hold: BudgetHold, keeper: Keeper) -> None:
        self._hold = hold
        self._keeper = keeper

    def top_up(self, amount: Decimal, tokens: int) -> bool:
        taken = self._hold.top_up(amount, tokens)
        return self._keeper.awaited(taken) is True

    def settle(self, amount: Decimal, tokens: int) -> None:
        self._hold.settle(amount, tokens)
        if self._keeper.tells:
            self._keeper.tell()


class Keeper:
    """One process's budgets."""

    def __init__(self, budgets: MemoryBudgets | SharedBudgets, runner: asyncio.Runner, clock: SettableClock) -> None:
        self.budgets = budgets
        self.clock = clock
        self.told: list[BudgetCrossed] = []
        self.tells = True
        self._complete = runner.get_loop().run_until_complete
        budgets.on_crossing(self.told.append)

    def reserve(
        self, budgets: tuple[Budget, ...], amount: Decimal, tokens: int, now: float
    ) -> Hold | BudgetRefusal | Refusal:
        self.clock.time = max(self.clock.time, now)
        taken = self.awaited(self.budgets.reserve(budgets, amount, tokens, now))
        return taken if isinstance(taken, BudgetRefusal | Refusal) else Hold(taken, self)

    def spent(self, budget: Budget, now: float) -> tuple[Decimal, int]:
        return self.budgets.spent(budget, now)

    def awaited(self, outcome: Any) -> Any:
        return self._complete(resumed(outcome)) if isinstance(outcome, NeedsWaiting) else outcome

    def run(self, coroutine: Any) -> Any:
        return self._complete(coroutine)

    def tell(self) -> None:
        if isinstance(self.budgets, SharedBudgets):
            self._complete(self.budgets.tell())

    def tick(self, is_second: bool = True) -> None:
        """What happens in the background every quarter of a second, to its end."""
        if isinstance(self.budgets, SharedBudgets):
            self._complete(ticked(self.budgets, is_second))


async def resumed(needs: NeedsWaiting[Any]) -> Any:
    return await needs.resume()


async def ticked(budgets: SharedBudgets, is_second: bool) -> None:
    budgets._tick(is_second)
    talking = [account.talking for account in budgets._all() if account.talking is not None]
    await asyncio.gather(*talking)


class FaultyBank:
    """Loses what it is told to: the next message, its answer, both until a later message, or all its data."""

    def __init__(self, clock: SettableClock) -> None:
        self._clock = clock
        self.lose_data()
        self.next: Literal["answer", "lose message", "lose answer", "late"] = "answer"
        self.late: list[Ask] = []
        self.messages: list[Ask] = []
        self.is_gone = False

    def lose_data(self) -> None:
        self.bank = MemoryBank(self._clock, RECOVERY_MS)

    async def open(self) -> None:
        if self.is_gone:
            raise StoreGone("gone")

    async def exchange(self, ask: Ask) -> Answer:
        self.messages.append(ask)
        how, self.next = self.next, "answer"
        if self.is_gone:
            raise StoreGone
        if how == "lose message":
            raise StoreGone
        if how == "late":
            self.late.append(ask)
            raise StoreGone
        answer = self.bank.exchanged(ask)
        for late in [late for late in self.late if late.holder == ask.holder]:
            self.late.remove(late)
            self.bank.exchanged(late)
        if how == "lose answer":
            raise StoreGone
        return answer

    async def close(self) -> None:
        pass


class SharedRedis:
    """A Redis for a module: started when the first test wants it."""

    def __init__(self) -> None:
        self._own: RedisServer | None = None
        self._directory: tempfile.TemporaryDirectory[str] | None = None

    @property
    def url(self) -> str:
        if (named := named_url()) is not None:
            return named
        if self._own is None:
            self._directory = tempfile.TemporaryDirectory()
            self._own = RedisServer(Path(self._directory.name))
            self._own.start()
        return self._own.url

    def end(self) -> None:
        if self._own is not None and self._directory is not None:
            self._own.kill()
            self._directory.cleanup()
            self._own = None


class World:
    """A store, its ledger and its time. `connect` is one more process."""

    def __init__(self, bank: Callable[[], Bank] | None, runner: asyncio.Runner, clock: SettableClock) -> None:
        self._bank = bank
        self.runner = runner
        self.clock = clock
        self.is_volatile = False
        """Whether the store may lose its data, and so waits for everybody after a beginning that is not the first."""
        self.books = Books()
        self.keepers: list[Keeper] = []
        self.dead: list[Keeper] = []

    def die(self, keeper: Keeper) -> None:
        """Without a word to the store."""
        self.keepers.remove(keeper)
        self.dead.append(keeper)

    def connect(self, books: Books | None = None, **how: Any) -> Keeper:
        budgets: MemoryBudgets | SharedBudgets
        if self._bank is None:
            budgets = MemoryBudgets()
        else:
            # The machine that tests run on may be slow; how slow stores are borne is tested elsewhere.
            how = {"answer_seconds": 30.0, "attempts": 0, **how}
            budgets = SharedBudgets(self._bank(), books or self.books, self.clock, **how)
        self.keepers.append(Keeper(budgets, self.runner, self.clock))
        return self.keepers[-1]


@contextmanager
def world(name: str, redis: SharedRedis, bank: Callable[[SettableClock], Bank] | None = None) -> Iterator[World]:
    """`memory` (one process), `one_bank`, `sqlite`, `redis`, or a bank of the test's own."""
    clock = SettableClock()
    with asyncio.Runner() as runner, tempfile.TemporaryDirectory() as directory:
        given: Callable[[], Bank] | None
        if bank is not None:
            one = bank(clock)
            given = lambda: one  # noqa: E731
        elif name == "memory":
            given = None
        elif name == "one_bank":
            memory = MemoryBank(clock)
            given = lambda: memory  # noqa: E731
        elif name == "sqlite":
            path = Path(directory) / "budgets.sqlite"
            given = lambda: SqliteBudgetBank(path, now_ms=clock.milliseconds)  # noqa: E731
        else:
            url, prefix = redis.url, f"modelport:test:{secrets.token_hex(8)}:"
            given = lambda: RedisBudgetBank(url, prefix=prefix, now_ms=clock.milliseconds)  # noqa: E731
        found = World(given, runner, clock)
        found.is_volatile = bank is None and name == "redis"
        try:
            yield found
        finally:
            for keeper in found.keepers:
                if isinstance(keeper.budgets, SharedBudgets):
                    runner.run(keeper.budgets.close())
            for keeper in found.dead:
                if isinstance(keeper.budgets, SharedBudgets):
                    runner.run(keeper.budgets._bank.close())
