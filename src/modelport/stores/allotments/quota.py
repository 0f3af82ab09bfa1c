"""core.ports.quota.Quota for several processes: calls spend what this process holds, and only an empty allotment
waits for the store.

Every message to the store has 50 ms; connecting has its own time, before anybody calls and beside the calls. A store
that is slower or gone is left alone until it answers in time again; so long calls that find nothing here are refused,
or let in as far as this process's share of the limit goes, as is declared for that limit or for all. What was used
meanwhile is told afterwards.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar

from modelport.core.catalog import OnStoreOutage, RateLimits
from modelport.core.clock import Clock
from modelport.core.errors import Unavailable
from modelport.core.ports.quota import QuotaRefusal, Taken
from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.core.quota import QuotaState
from modelport.stores.allotments.account import Bell, Grant, LocalAccount, Wanted, backing
from modelport.stores.allotments.bank import Amount, Answer, Bank, StoreGone
from modelport.stores.allotments.held import SharedHeld
from modelport.stores.allotments.opening import keep_open
from modelport.stores.allotments.telling import (
    ask,
    forget_store,
    give_back_surplus,
    is_low,
    learn,
    local_share,
    needed,
    refusal_of,
    serve,
    turn_second,
)

BUDGET_SECONDS: Final = 0.05
TICK_SECONDS: Final = 0.25
TICKS_A_SECOND: Final = 4
RENEW_SECONDS: Final = 2.5
PROBE_SECONDS: Final = 0.5
NOTHING: Final = Amount()
T = TypeVar("T")


class SharedQuota:
    """One per process."""

    def __init__(
        self,
        bank: Bank,
        clock: Clock,
        *,
        on_outage: OnStoreOutage = "local_cap",
        may_limits_declare: bool = True,
        budget_seconds: float = BUDGET_SECONDS,
        workers: int = 1,
        number: int = 0,
    ) -> None:
        """`on_outage` holds for limits that declare nothing themselves, or, unless they may, for all. This process is
        worker `number` of the `workers` of its server, which all draw from the bank."""
        self._bank = bank
        self._clock = clock
        self._on_outage = on_outage
        self._may_limits_declare = may_limits_declare
        self._budget_seconds = budget_seconds
        self._workers = workers
        self._number = number
        self._holders = 1
        """The most processes that shared any subject when the store was reached last."""
        self._holder = secrets.token_hex(8)
        self._accounts: dict[str, LocalAccount] = {}
        self._forgotten = 0
        """The highest number of a message about a subject that was forgotten: the store may hear such a one later."""
        self._bell = Bell()
        self._ticking: asyncio.Task[None] | None = None
        self._opening: asyncio.Task[None] | None = None
        self._has_tried = asyncio.Event()
        self._next_probe = 0.0
        self._untold_since = -math.inf
        self._is_closing = False
        self.is_silent = False
        """The store does not answer in time."""
        self.exchanges = 0
        self.failures = 0
        self.refused_for_outage = 0

    @property
    def is_degraded(self) -> bool:
        """Whether calls may have to do without the store."""
        return self.is_silent or any(a.is_recovering or a.is_untold for a in self._accounts.values())

    # --- the port ----------------------------------------------------------------------------------------------------

    def reserve(
        self, subject: str, limits: RateLimits, tokens: int, now: float, *, requests: int = 1
    ) -> Taken | Refusal | NeedsWaiting[Taken]:
        """Takes it from what is here; NeedsWaiting asks the store."""
        account = self._account(subject)
        # Who waits for the store goes first: a stream of small calls must not eat what is fetched for a large one.
        backed = account.take(limits, tokens, requests, now) if not account.wanted else None
        if backed is not None:
            return SharedHeld(self, account.grant, limits, tokens, requests, backed, now)
        if self.is_silent or account.is_recovering:
            return self._without_store(account, limits, tokens, requests, now)
        amount = Amount(tokens, requests, 1)
        if (refused := self._refused_lately(account, amount, now)) is not None:
            return refused
        return NeedsWaiting(partial(self._reserved, account, limits, amount))

    def state(self, subject: str, limits: RateLimits, now: float) -> QuotaState:
        """What is left now, if the store has said it lately."""
        account = self._accounts.get(subject)
        return account.state(limits, now) if account is not None and account.epoch else QuotaState()

    def account(self, subject: str, now: float) -> Grant:
        """core.ports.quota.DirectQuota"""
        return self._account(subject).grant

    def held(self, account: Grant, limits: RateLimits, tokens: int, now: float) -> SharedHeld:
        """core.ports.quota.DirectQuota"""
        return SharedHeld(self, account, limits, tokens, 1, backing(limits, tokens, 1), now)

    def when_freed(self, wake: Callable[[], None] | None) -> None:
        """`wake` is called when something comes back to this process."""
        self._bell.ring = wake

    def start(self) -> None:
        """Connects, and keeps the store told from now on."""
        if self._ticking is None:
            self._ticking = asyncio.create_task(self._tick_for_ever(), name="quota")
            self._opening = asyncio.create_task(keep_open(self._bank, self._tried), name="quota's store")

    async def opened(self) -> None:
        """After `start`: the store is there, or is known not to be."""
        await self._has_tried.wait()

    async def close(self) -> None:
        """Tells the store what was used and gives everything back."""
        for task in (self._ticking, self._opening):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        self._is_closing = True
        if not self.is_silent:
            await self.tell()
        await self._bank.close()

    async def tell(self) -> None:
        """Tells the store everything now."""
        for account in list(self._accounts.values()):
            self._talk(account)
            if account.talking is not None:
                await account.talking

    # --- for reservations --------------------------------------------------------------------------------------------

    def monotonic(self) -> float:
        """Desk"""
        return self._clock.monotonic()

    def top_up(self, held: SharedHeld, tokens: int) -> bool | NeedsWaiting[bool]:
        """Desk"""
        account, now = held.account, self._clock.monotonic()
        if topped_up(held, tokens, now):
            return True
        if self.is_silent or account.is_recovering:
            return self._top_up_without_store(held, tokens, now)
        amount = Amount(tokens, 0, 0)
        if self._refused_lately(account, amount, now) is not None:
            return False
        return NeedsWaiting(partial(self._topped_up, held, amount))

    # --- the store ---------------------------------------------------------------------------------------------------

    def _account(self, subject: str) -> LocalAccount:
        account = self._accounts.get(subject)
        if account is None:
            account = self._accounts[subject] = LocalAccount(subject, self._bell, self._forgotten)
        return account

    async def _reserved(self, account: LocalAccount, limits: RateLimits, amount: Amount) -> Taken | Refusal:
        def take(now: float) -> SharedHeld | None:
            backed = account.take(limits, amount.tokens, amount.requests, now)
            if backed is None:
                return None
            return SharedHeld(self, account.grant, limits, amount.tokens, amount.requests, backed, now)

        def undo(outcome: Any) -> None:
            if isinstance(outcome, SharedHeld):
                outcome.cancel()

        outcome = await self._wanted(account, amount, take, undo)
        if outcome is None:
            return self._without_store(account, limits, amount.tokens, amount.requests, self._clock.monotonic())
        found: Taken = outcome
        return found

    async def _topped_up(self, held: SharedHeld, amount: Amount) -> bool:
        def take(now: float) -> bool | None:
            return topped_up(held, amount.tokens, now) or None

        def undo(outcome: Any) -> None:
            if outcome is True:
                held.give_back(amount.tokens)

        outcome = await self._wanted(held.account, amount, take, undo)
        if outcome is None:
            return self._top_up_without_store(held, amount.tokens, self._clock.monotonic())
        return outcome is True

    async def _wanted(
        self, account: LocalAccount, amount: Amount, take: Callable[[float], Any], undo: Callable[[Any], None]
    ) -> Any:
        """What `take` gives once the store has granted it, a QuotaRefusal, or None if the store is gone."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        account.wanted.append(Wanted(amount, take, undo, future))
        self._talk(account)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                undo(future.result())
            raise

    def _talk(self, account: LocalAccount) -> None:
        account.must_tell = True
        if account.talking is None or account.talking.done():
            account.talking = asyncio.create_task(self._talked(account), name="quota of one subject")

    async def _talked(self, account: LocalAccount) -> None:
        """One message after the other, until nobody wants anything. Ends also when the store is gone."""
        while account.must_tell or account.wanted:
            account.must_tell = False
            need, want = needed(account, self._clock.monotonic())
            if self._is_closing:
                account.grant.keep(NOTHING)
                want = need
            try:
                answer = await self._exchange(account, need, want)
            except StoreGone:
                answer = None
            serve(account, answer, self._clock.monotonic())
            if self._bell.ring is not None:
                self._bell.ring()

    async def _exchange(self, account: LocalAccount, need: Amount, want: Amount) -> Answer:
        """One message and what comes of it. Raises StoreGone."""
        for _ in range(2):
            sent_at = self._clock.monotonic()
            message = ask(account, need, want, sent_at, self._holder, secrets.token_hex(8))
            self.exchanges += 1
            try:
                answer = await self._in_time(self._bank.exchange(message))
            except StoreGone:
                self.failures += 1
                if not self.is_silent:
                    self._holders = max(other.holders for other in self._accounts.values())
                self.is_silent = True
                raise
            now = self._clock.monotonic()
            is_lost = answer.status == "lost"
            if self.is_silent or (is_lost and account.told_at >= self._untold_since):
                # What one subject has lost, others may have lost that nobody has asked for since.
                self._untold_since = now
                for other in self._accounts.values():
                    other.is_untold = True
            self.is_silent = False
            if is_lost:
                forget_store(account, answer.epoch, now)
                continue
            if answer.status != "stale":
                learn(account, answer, sent_at, now)
            return answer
        raise StoreGone("the state changes again and again")

    async def _in_time(self, exchange: Coroutine[Any, Any, Answer]) -> Answer:
        """The answer, if it comes within the budget; where this process itself was late, it gets a little more."""
        loop = asyncio.get_running_loop()
        task = loop.create_task(exchange)
        task.add_done_callback(seen)
        try:
            started = loop.time()
            await asyncio.wait((task,), timeout=self._budget_seconds)
            if not task.done() and loop.time() - started > 1.2 * self._budget_seconds:
                await asyncio.wait((task,), timeout=self._budget_seconds / 2)
            if not task.done():
                raise StoreGone("slow")
            return task.result()
        finally:
            task.cancel()

    def _refused_lately(self, account: LocalAccount, amount: Amount, now: float) -> QuotaRefusal | None:
        """What the store's last refusal says of this, while it is fresh."""
        if now >= account.refused_until or account.wanted:
            return None
        return refusal_of(account, account.grant.missing(amount), now)

    # --- without the store -------------------------------------------------------------------------------------------

    def _without_store(
        self, account: LocalAccount, limits: RateLimits, tokens: int, requests: int, now: float
    ) -> SharedHeld | QuotaRefusal | Refusal:
        if self._refuses(limits):
            self.refused_for_outage += 1
            return Refusal(Unavailable("The limits of this deployment cannot be checked now.", retry_after=1))
        own = self._local_share(limits, account)
        if (refusal := account.own.refusal(own, tokens, now, requests)) is not None:
            return refusal
        account.started(tokens, requests, now)
        return SharedHeld(self, account.grant, limits, tokens, requests, NOTHING, now)

    def _top_up_without_store(self, held: SharedHeld, tokens: int, now: float) -> bool:
        limit = self._local_share(held.limits, held.account).tokens_per_minute
        if self._refuses(held.limits) or (limit is not None and held.account.own.tokens_beyond(limit, tokens, now) > 0):
            return False
        held.grow(tokens, 0)
        return True

    def _local_share(self, limits: RateLimits, account: LocalAccount) -> RateLimits:
        """Of all processes that are known: those that shared the store, and those of this server, which may never have
        reached it. Among the latter alone the limit is divided to the last unit."""
        if max(account.holders, self._holders) <= self._workers:
            return local_share(limits, self._workers, self._number)
        return local_share(limits, max(account.holders, self._holders))

    def _refuses(self, limits: RateLimits) -> bool:
        declared = limits.on_store_outage if self._may_limits_declare else None
        return (declared or self._on_outage) == "refuse"

    # --- in the background -------------------------------------------------------------------------------------------

    def _tried(self, is_open: bool) -> None:
        """As long as nothing has been said, this is all that is known of the store."""
        if not self._accounts:
            self.is_silent = not is_open
        self._has_tried.set()

    async def _tick_for_ever(self) -> None:
        ticks = 0
        while True:
            await asyncio.sleep(TICK_SECONDS)
            ticks += 1
            self._tick(ticks % TICKS_A_SECOND == 0)

    def _tick(self, is_second: bool) -> None:
        """Tells the store what it should know, fetches what will be needed, forgets who is idle."""
        now = self._clock.monotonic()
        due = []
        for account in list(self._accounts.values()):
            if is_second:
                turn_second(account)
            renews = account.holds() and now - account.told_at > RENEW_SECONDS
            is_owed = account.is_dirty() or account.is_recovering or account.is_untold
            if give_back_surplus(account, now) or is_owed or renews or is_low(account):
                due.append(account)
            elif not self.is_silent and account.is_idle(now) and not account.wanted:
                account.grant.is_open = False
                self._forgotten = max(self._forgotten, account.number)
                del self._accounts[account.subject]
        if not self.is_silent:
            for account in due:
                self._talk(account)
        elif now >= self._next_probe and self._accounts:
            self._next_probe = now + PROBE_SECONDS
            self._talk(due[0] if due else next(iter(self._accounts.values())))


def topped_up(held: SharedHeld, tokens: int, now: float) -> bool:
    """Takes it from what is here."""
    account = held.account
    if held.is_settled:
        return False
    if held.limits.tokens_per_minute is None:
        held.grow(tokens, 0)
        return True
    if now >= account.sure_until and account.grant:
        account.lapse()
    if account.grant.tokens < tokens:
        return False
    account.grant.tokens -= tokens
    held.grow(tokens, tokens)
    return True


def seen(task: asyncio.Task[Answer]) -> None:
    """Of an answer that came too late nobody wants to know."""
    if not task.cancelled():
        task.exception()
