"""core.ports.money.Budgets for several processes: calls spend what this process holds, and only an empty allotment
waits for the store.

Every message to the store has 50 ms; connecting has its own time, before anybody calls and beside the calls. A store
that is slower or gone is left alone until it answers in time again; what is held here may still be spent, since nobody
else is given it. After that calls are refused, or let in and told afterwards, as the operator has declared.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from decimal import Decimal
from functools import partial
from typing import Final, Literal

from modelport.core.budgets import THRESHOLDS, Budget, BudgetCrossed, OnStoreOutage, Period, window_of
from modelport.core.clock import Clock
from modelport.core.errors import Unavailable
from modelport.core.ports.money import BudgetHold, BudgetRefusal
from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.core.pricing import NONE
from modelport.core.quota import QuotaState, tokens_left
from modelport.stores.allotments import keep_open
from modelport.stores.budgets.account import LocalAccount, Wanted, money
from modelport.stores.budgets.bank import Answer, Bank
from modelport.stores.budgets.hold import Part, SharedHold
from modelport.stores.budgets.talk import ANSWER_SECONDS, ATTEMPTS, SEED_SECONDS, Seeds, Talk

TICK_SECONDS: Final = 0.25
TICKS_A_SECOND: Final = 4
RENEW_SECONDS: Final = 2.5
PROBE_SECONDS: Final = 0.5
RETRY_SECONDS: Final = 1


class SharedBudgets:
    """One per process."""

    def __init__(
        self,
        bank: Bank,
        seeds: Seeds,
        clock: Clock,
        *,
        thresholds: tuple[int, ...] = THRESHOLDS,
        on_outage: OnStoreOutage = "refuse",
        answer_seconds: float = ANSWER_SECONDS,
        attempts: int = ATTEMPTS,
    ) -> None:
        self._bank = bank
        self._clock = clock
        self._thresholds = tuple(sorted(thresholds))
        self._on_outage = on_outage
        self._talk = Talk(bank, seeds, clock, self._tell_of, answer_seconds, attempts)
        self._accounts: dict[tuple[str, Period], LocalAccount] = {}
        self._ended: list[LocalAccount] = []
        """Of windows that are over, until their calls are."""
        self._tell: Callable[[BudgetCrossed], None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._next_probe = -math.inf
        self.refused_for_outage = 0

    @property
    def is_silent(self) -> bool:
        """The store does not answer in time."""
        return self._talk.is_silent

    @property
    def exchanges(self) -> int:
        """Messages to the store."""
        return self._talk.exchanges

    @property
    def failures(self) -> int:
        """Messages that were not answered in time."""
        return self._talk.failures

    @property
    def is_degraded(self) -> bool:
        """Whether calls may have to do without the store."""
        accounts = self._accounts.values()
        return self.is_silent or any(account.is_unread or account.is_recovering for account in accounts)

    @property
    def is_unread(self) -> bool:
        """Whether the ledger does not say what was used before."""
        return any(account.is_unread for account in self._accounts.values())

    # --- the port ----------------------------------------------------------------------------------------------------

    def reserve(
        self, budgets: tuple[Budget, ...], amount: Decimal, tokens: int, now: float
    ) -> BudgetHold | BudgetRefusal | Refusal | NeedsWaiting[BudgetHold | BudgetRefusal | Refusal]:
        """Takes it from what is here; NeedsWaiting asks the store."""
        accounts = tuple(self._account(budget, now) for budget in budgets)
        if self._took(accounts, amount, tokens):
            return self._held(accounts, amount, tokens)
        refused = [account for account in accounts if self._refuses(account, amount, tokens)]
        if refused:
            return refusal_of(refused)
        if self._would_ask_in_vain(accounts, amount, tokens):
            return self._without_store(accounts, amount, tokens)
        return NeedsWaiting(partial(self._reserved, accounts, amount, tokens))

    def states(self, budgets: tuple[Budget, ...], now: float, below: int | None = None) -> list[QuotaState]:
        """What is left of those that bound tokens and that the store has told of."""
        states = []
        for budget in budgets:
            if budget.tokens is None or not (account := self._account(budget, now)).epoch:
                continue
            left = account.store_free.tokens + account.free_tokens
            if below is None or left <= below:
                states.append(tokens_left(budget, account.window, budget.tokens - left, now))
        return states

    def on_crossing(self, tell: Callable[[BudgetCrossed], None]) -> None:
        """Who is told of thresholds that this process is to tell of."""
        self._tell = tell

    def spent(self, budget: Budget, now: float) -> tuple[Decimal, int]:
        """Money and tokens settled in the budget's window by all, as far as is known here."""
        account = self._account(budget, now)
        said, heard = account.statement()[0], account.acknowledged[0]
        return money(account.total.money + said.money - heard.money), account.total.tokens + said.tokens - heard.tokens

    async def start(self, budgets: tuple[Budget, ...] = ()) -> None:
        """Connects, keeps the store told from now on, and reads how these stand, as far as that can be read."""
        if not self._tasks:
            tried = asyncio.Event()
            opening = keep_open(self._bank, lambda _: tried.set())
            self._tasks.append(asyncio.create_task(self._tick_for_ever(), name="budgets"))
            self._tasks.append(asyncio.create_task(opening, name="budgets' store"))
            await tried.wait()
        accounts = [self._account(budget, self._clock.now()) for budget in budgets]
        for account in accounts:
            self._talk.begin(account)
        talking = [account.talking for account in accounts if account.talking is not None]
        if talking:
            await asyncio.wait(talking, timeout=SEED_SECONDS)

    async def close(self) -> None:
        """Tells the store what was used and gives everything back."""
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        self._talk.is_closing = True
        if not self.is_silent:
            await self.tell()
        await self._bank.close()

    async def tell(self) -> None:
        """Tells the store everything now."""
        for account in self._all():
            if account.epoch or account.running or account.spent_tokens:
                self._talk.begin(account)
            if account.talking is not None:
                await account.talking

    # --- for calls ---------------------------------------------------------------------------------------------------

    def top_up(self, hold: SharedHold, amount: Decimal, tokens: int) -> bool | NeedsWaiting[bool]:
        """Desk"""
        accounts = tuple(part.account for part in hold.parts)
        if self._took(accounts, amount, tokens):
            hold.grow(amount, tokens, (True,) * len(accounts))
            return True
        if any(self._refuses(account, amount, tokens) for account in accounts):
            return False
        if self._would_ask_in_vain(accounts, amount, tokens):
            if not self._may_pass(accounts, amount, tokens):
                return False
            hold.grow(amount, tokens, self._forced(accounts, amount, tokens))
            return True
        return NeedsWaiting(partial(self._topped_up, hold, accounts, amount, tokens))

    def _account(self, budget: Budget, now: float) -> LocalAccount:
        key = (budget.subject, budget.per)
        account = self._accounts.get(key)
        if account is None or now >= account.window.ends_at:
            if account is not None:
                self._ended.append(account)
            account = self._accounts[key] = LocalAccount(budget, window_of(budget.per, now))
        return account

    def _took(self, accounts: tuple[LocalAccount, ...], amount: Decimal, tokens: int) -> bool:
        """From all, or from none. Who waits for the store goes first."""
        if any(account.wanted or not account.has(amount, tokens) for account in accounts):
            return False
        now = self._clock.monotonic()
        for account in accounts:
            account.take(amount, tokens, now)
        return True

    def _held(self, accounts: tuple[LocalAccount, ...], amount: Decimal, tokens: int) -> SharedHold:
        return SharedHold(self, tuple(Part(account, amount, tokens) for account in accounts), amount, tokens)

    def _refuses(self, account: LocalAccount, amount: Decimal, tokens: int) -> bool:
        """Whether the store's last answer, while it is fresh, says so."""
        if self._clock.monotonic() >= account.refused_until or account.wanted or not account.lacks(amount, tokens):
            return False
        return account.is_refused(amount, tokens) and not account.others_have(amount, tokens)

    def _would_ask_in_vain(self, accounts: tuple[LocalAccount, ...], amount: Decimal, tokens: int) -> bool:
        """Whether nobody answers for those that have not enough."""
        asked = [account for account in accounts if not account.has(amount, tokens)]
        cut_off = (self.is_silent or account.is_unread or account.is_recovering for account in asked)
        return bool(asked) and all(cut_off)

    def _without_store(self, accounts: tuple[LocalAccount, ...], amount: Decimal, tokens: int) -> SharedHold | Refusal:
        if not self._may_pass(accounts, amount, tokens):
            self.refused_for_outage += 1
            return Refusal(Unavailable("The budgets of this call cannot be checked now.", retry_after=RETRY_SECONDS))
        hold = SharedHold(self, tuple(Part(account, NONE, 0) for account in accounts), NONE, 0)
        hold.grow(amount, tokens, self._forced(accounts, amount, tokens))
        return hold

    def _may_pass(self, accounts: tuple[LocalAccount, ...], amount: Decimal, tokens: int) -> bool:
        """Whether every budget that lacks it lets calls pass without the store."""
        lacking = (account.budget.on_store_outage for account in accounts if account.lacks(amount, tokens))
        return all((declared or self._on_outage) == "allow" for declared in lacking)

    def _forced(self, accounts: tuple[LocalAccount, ...], amount: Decimal, tokens: int) -> tuple[bool, ...]:
        """Takes it where it is, and holds it where it is not. Where it was."""
        now, backed = self._clock.monotonic(), []
        for account in accounts:
            backed.append(account.take(amount, tokens, now))
            if not backed[-1]:
                account.hold(amount, tokens, now)
        return tuple(backed)

    # --- waiting for the store ---------------------------------------------------------------------------------------

    async def _reserved(
        self, accounts: tuple[LocalAccount, ...], amount: Decimal, tokens: int
    ) -> BudgetHold | BudgetRefusal | Refusal:
        taken = await self._taken(accounts, amount, tokens)
        if taken is True:
            return self._held(accounts, amount, tokens)
        return refusal_of(taken) if taken else self._without_store(accounts, amount, tokens)

    async def _topped_up(
        self, hold: SharedHold, accounts: tuple[LocalAccount, ...], amount: Decimal, tokens: int
    ) -> bool:
        taken = await self._taken(accounts, amount, tokens)
        if hold.is_settled and taken is True:
            undo(accounts, amount, tokens)
            return False
        if taken is True:
            hold.grow(amount, tokens, (True,) * len(accounts))
            return True
        if taken or hold.is_settled or not self._may_pass(accounts, amount, tokens):
            return False
        hold.grow(amount, tokens, self._forced(accounts, amount, tokens))
        return True

    async def _taken(
        self, accounts: tuple[LocalAccount, ...], amount: Decimal, tokens: int
    ) -> Literal[True] | list[LocalAccount]:
        """True: it is held with all of them. Else nothing is; which have refused it: none, if the store is gone."""
        held: list[LocalAccount] = []
        refused: list[LocalAccount] = []
        is_kept = is_gone = False
        try:
            for account in accounts:
                outcome = await self._wanted(account, amount, tokens)
                if outcome is True:
                    held.append(account)
                elif outcome is False:
                    refused.append(account)
                else:
                    is_gone = True
                    break
            is_kept = not refused and not is_gone
        finally:
            if not is_kept:
                undo(tuple(held), amount, tokens)
        return True if is_kept else refused

    async def _wanted(self, account: LocalAccount, amount: Decimal, tokens: int) -> bool | None:
        """Whether it is held, or None if the store is gone."""

        def take() -> bool:
            return account.take(amount, tokens, self._clock.monotonic())

        if not account.wanted and account.has(amount, tokens) and take():
            return True
        future: asyncio.Future[bool | None] = asyncio.get_running_loop().create_future()
        account.wanted.append(Wanted(amount, tokens, take, future))
        self._talk.begin(account)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.result() is True:
                undo((account,), amount, tokens)
            raise

    def _tell_of(self, account: LocalAccount, answer: Answer) -> None:
        """Tells of the thresholds that it falls to this process to tell of."""
        if self._tell is None:
            return
        spans = list(zip(answer.crossed[::2], answer.crossed[1::2], strict=True))
        for threshold in self._thresholds:
            if any(before < threshold <= after for before, after in spans):
                self._tell(
                    BudgetCrossed(
                        subject=account.budget.subject,
                        per=account.budget.per,
                        window=account.window.name,
                        percent=threshold,
                        amount=account.budget.amount,
                        spent=money(answer.total.money),
                        tokens=account.budget.tokens,
                        spent_tokens=answer.total.tokens,
                    )
                )

    # --- in the background -------------------------------------------------------------------------------------------

    async def _tick_for_ever(self) -> None:
        ticks = 0
        while True:
            await asyncio.sleep(TICK_SECONDS)
            ticks += 1
            self._tick(ticks % TICKS_A_SECOND == 0)

    def _tick(self, is_second: bool) -> None:
        """Tells the store what it should know, fetches what will be needed, forgets what is over."""
        now, due = self._clock.monotonic(), []
        for account in self._all():
            if is_second:
                account.turn_second()
            account.give_back_surplus(now)
            if account.is_due(now, RENEW_SECONDS) or account.is_low(now):
                due.append(account)
            elif account in self._ended and not account.running and not account.wanted:
                self._ended.remove(account)
        if self.is_silent and now >= self._next_probe and self._accounts:
            self._next_probe = now + PROBE_SECONDS
            due = due[:1] or list(self._accounts.values())[:1]
        elif self.is_silent:
            due = []
        for account in due:
            self._talk.begin(account)

    def _all(self) -> Iterator[LocalAccount]:
        yield from (*self._accounts.values(), *self._ended)


def undo(accounts: tuple[LocalAccount, ...], amount: Decimal, tokens: int) -> None:
    """As if it had never been taken."""
    for account in accounts:
        account.release(amount, tokens, amount, tokens)


def refusal_of(refused: list[LocalAccount]) -> BudgetRefusal:
    """By the one that begins anew last."""
    account = max(refused, key=lambda account: account.window.ends_at)
    return BudgetRefusal(account.budget, account.window.ends_at)
