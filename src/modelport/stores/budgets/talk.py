"""What one process says to the store about its accounts, one message after the other, and what comes of the answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from decimal import Decimal
from functools import partial
from typing import Any, Final, Protocol

from msgspec import Struct

from modelport.core.budgets import Window
from modelport.core.clock import Clock
from modelport.core.pricing import EXACT, NONE
from modelport.core.usage_reports import LedgerUnavailable
from modelport.stores.allotments import StoreGone
from modelport.stores.budgets.account import LocalAccount, Wanted, raised
from modelport.stores.budgets.bank import NOTHING, Answer, Bank, Sum

ANSWER_SECONDS: Final = 0.05
CONNECT_SECONDS: Final = 2.0
"""For the first message, before anybody calls."""
SEED_SECONDS: Final = 10.0
ATTEMPTS: Final = 6
"""So often a refused call asks again while others have at hand what it needs: they let go of it within a second."""
ATTEMPT_SECONDS: Final = 0.2

_logger = logging.getLogger("modelport.budgets")


class Seed(Struct, frozen=True):
    """What a ledger knows of one budget's window."""

    ledger: str
    """Which one: several processes may share it."""
    amount: Decimal
    tokens: int


class Seeds(Protocol):
    """Where the sums of calls come from that ended before a store began to count."""

    def ledger(self) -> str | None:
        """The name of the ledger, where it is known without asking it."""
        ...

    async def used(self, subject: str, window: Window) -> Seed:
        """What all calls of this window have used that have ended by now. Raises LedgerUnavailable."""
        ...


class Talk:
    """With one store. `heard` is told of every answer that grants or refuses."""

    def __init__(
        self,
        bank: Bank,
        seeds: Seeds,
        clock: Clock,
        heard: Callable[[LocalAccount, Answer], None],
        answer_seconds: float,
        attempts: int,
    ) -> None:
        self._bank = bank
        self._seeds = seeds
        self._clock = clock
        self._heard = heard
        self._answer_seconds = answer_seconds
        self._attempts = attempts
        self._ledger = ""
        self._has_answered = False
        self.is_closing = False
        """Nothing is kept any more."""
        self.is_silent = False
        """The store does not answer in time."""
        self.exchanges = 0
        self.failures = 0

    def begin(self, account: LocalAccount) -> None:
        """Tells the store how the account is, and asks for what calls wait for."""
        account.must_tell = True
        if account.talking is None or account.talking.done():
            account.talking = asyncio.create_task(self._talked(account), name="one budget")

    async def _talked(self, account: LocalAccount) -> None:
        """One message after the other, until nobody wants anything. Ends also when the store is gone."""
        while account.must_tell or account.wanted:
            account.must_tell = False
            need, want = needed(account, self._clock.monotonic())
            if self.is_closing:
                account.free, account.free_tokens, want = NONE, 0, need
            try:
                answer = await self._exchange(account, need, want)
            except (StoreGone, LedgerUnavailable, TimeoutError):
                answer = None
            except Exception:  # the end of a task: calls wait for it
                _logger.exception("a budget cannot be asked for")
                answer = None
            self._serve(account, answer)
            if answer is not None and answer.status == "refused" and account.wanted:
                await asyncio.sleep(ATTEMPT_SECONDS)

    def _serve(self, account: LocalAccount, answer: Answer | None) -> None:
        """Hands out what has come: to each its own, or why not. Who may still get it goes on waiting."""
        is_gone = answer is None or answer.status == "recovering"
        is_refused = answer is not None and answer.status == "refused"
        for _ in range(len(account.wanted)):
            wanted = account.wanted.popleft()
            if wanted.future.done():
                continue
            if wanted.take():
                wanted.future.set_result(True)
            elif is_gone:
                wanted.future.set_result(None)
            elif is_refused and not self._may_ask_again(account, wanted):
                wanted.future.set_result(False)
            else:
                account.wanted.append(wanted)

    def _may_ask_again(self, account: LocalAccount, wanted: Wanted) -> bool:
        """Whether there may still be room for it: the refusal was another's, or others let go of what they keep."""
        if not account.is_refused(wanted.amount, wanted.tokens):
            return True
        wanted.attempts += 1
        return wanted.attempts <= self._attempts and account.others_have(wanted.amount, wanted.tokens)

    async def _exchange(self, account: LocalAccount, need: Sum, want: Sum) -> Answer:
        """One message and what comes of it. Raises StoreGone, LedgerUnavailable, TimeoutError."""
        for _ in range(5):
            lasts = account.window.ends_at - self._clock.now()
            self._ledger = self._ledger or self._seeds.ledger() or ""
            ask = account.ask(need, want, self._clock.monotonic(), lasts, self._ledger)
            answer = await self._answered(partial(self._bank.exchange, ask))
            match answer.status:
                case "unknown":
                    await self._read(account)
                case "lost" | "folded":
                    account.begin_anew(is_lost=answer.status == "lost", now=self._clock.monotonic())
                case "granted" | "refused" | "recovering":
                    account.learn(ask, answer, self._clock.monotonic())
                    self._heard(account, answer)
                    return answer
        raise StoreGone("the state changes again and again")

    async def _read(self, account: LocalAccount) -> None:
        """What was used before the store began to count. Raises LedgerUnavailable, TimeoutError."""
        account.told_at = self._clock.monotonic()
        settled = account.spent, account.spent_tokens  # the ledger counts that, too
        try:
            async with asyncio.timeout(SEED_SECONDS):
                seed = await self._seeds.used(account.budget.subject, account.window)
        except (LedgerUnavailable, TimeoutError):
            account.is_unread = True
            raise
        self._ledger = seed.ledger
        account.seed = (Sum(raised(seed.amount), seed.tokens),)
        account.base, account.base_tokens = settled

    async def _answered(self, exchange: Callable[[], Coroutine[Any, Any, Answer]]) -> Answer:
        self.exchanges += 1
        try:
            seconds = self._answer_seconds if self._has_answered else max(CONNECT_SECONDS, self._answer_seconds)
            answer = await in_time(exchange(), seconds)
        except StoreGone:
            self.failures += 1
            self.is_silent = True
            raise
        self.is_silent = False
        self._has_answered = True
        return answer


def needed(account: LocalAccount, now: float) -> tuple[Sum, Sum]:
    """What the first that waits needs from the store, and what would be good to have."""
    need = account.need(account.wanted[0].amount, account.wanted[0].tokens) if account.wanted else NOTHING
    amount, tokens = account.chunk(now)
    for wanted in account.wanted:
        amount, tokens = EXACT.add(amount, wanted.amount), tokens + wanted.tokens
    want = account.need(amount, tokens)
    return need, Sum(max(need.money, want.money), max(need.tokens, want.tokens))


async def in_time(exchange: Coroutine[Any, Any, Answer], seconds: float) -> Answer:
    """The answer, if it comes within this time; where this process itself was late, it gets a little more. Raises
    StoreGone."""
    loop = asyncio.get_running_loop()
    task = loop.create_task(exchange)
    task.add_done_callback(seen)
    try:
        started = loop.time()
        await asyncio.wait((task,), timeout=seconds)
        if not task.done() and loop.time() - started > 1.2 * seconds:
            await asyncio.wait((task,), timeout=seconds / 2)
        if not task.done():
            raise StoreGone("slow")
        return task.result()
    finally:
        task.cancel()


def seen(task: asyncio.Task[Answer]) -> None:
    """Of an answer that came too late nobody wants to know."""
    if not task.cancelled():
        task.exception()
