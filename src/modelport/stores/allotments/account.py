"""What one process holds of one subject: what it may spend without asking, what its calls have reserved, what it has
used and not told yet. No I/O and no clock."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from modelport.core.catalog import RateLimits
from modelport.core.quota import BUCKETS, WINDOW_SECONDS, QuotaState, seconds_left
from modelport.stores.allotments.bank import Amount
from modelport.stores.memory.quota import REMEMBERED_CALLS, Account

SLOTS_PER_SECOND: Final = 4


class Bell:
    """Rung when something comes back to this process, if anybody waits for that."""

    __slots__ = ("ring",)

    def __init__(self) -> None:
        self.ring: Callable[[], None] | None = None


class Slot:
    """What was used in a quarter of a second. `latest`: the last moment of use."""

    __slots__ = ("latest", "requests", "tokens")

    def __init__(self, latest: float, tokens: int = 0, requests: int = 0) -> None:
        self.latest = latest
        self.tokens = tokens
        self.requests = requests


class Grant:
    """core.ports.quota.DirectAccount. Once it is void (`is_open`), nothing comes back to it: what calls hold that took
    from it counts as used by a process that is dead."""

    __slots__ = ("account", "is_open", "places", "requests", "tokens")

    def __init__(self, account: LocalAccount) -> None:
        self.account = account
        self.is_open = True
        self.tokens = 0
        self.requests = 0
        self.places = 0

    def __bool__(self) -> bool:
        return bool(self.tokens or self.requests or self.places)

    # --- one call, directly ------------------------------------------------------------------------------------------

    def take(self, limits: RateLimits, tokens: int, now: float) -> bool:
        """core.ports.quota.DirectAccount. LocalAccount.take, written out."""
        account = self.account
        if now >= account.sure_until or account.wanted:
            return False
        is_counted = limits.requests_per_minute is not None
        if is_counted and not self.requests:
            return False
        if limits.tokens_per_minute is not None:
            left = self.tokens - tokens
            if left < 0:
                return False
        else:
            left = 0
        if limits.concurrent_requests is not None:
            if not self.places:
                return False
            self.places -= 1
        if is_counted:
            self.requests -= 1
        self.tokens = left
        if now >= account.slot_ends:
            account.begin_slot(now)
        account.limits = limits
        account.last_used = account.slot.latest = now
        account.slot.requests += 1
        account.demand_tokens += tokens
        account.demand_calls += 1
        own = account.own
        own.held_tokens += tokens
        own.running += 1
        requests = own.requests
        requests.total += 1
        index = requests.index
        requests.buckets[index] += 1
        requests.times[index] = requests.last = now
        return True

    def settle(self, limits: RateLimits, reserved: int, actual: int, seconds: float, now: float) -> QuotaState:
        """core.ports.quota.DirectAccount. SharedHeld.settle, written out."""
        account = self.account
        if now >= account.slot_ends:
            account.begin_slot(now)
        own, free, grant = account.own, account.store_free, account.grant
        requests, tokens = own.requests, own.tokens
        used = tokens.total
        last = requests.last if requests.total else 0.0
        if used and tokens.last > last:
            last = tokens.last
        reset = seconds_left(last, now) if last else 0
        if account.store_used_at > last and now - account.store_used_at < WINDOW_SECONDS:
            reset = seconds_left(account.store_used_at, now)
        own.running -= 1
        own.held_tokens -= reserved
        own.mean_seconds += (seconds - own.mean_seconds) / REMEMBERED_CALLS
        if actual:
            tokens.total = used + actual
            index = tokens.index
            tokens.buckets[index] += actual
            tokens.times[index] = tokens.last = now
            slot = account.slot
            slot.latest = now
            slot.tokens += actual
        of_requests = of_tokens = None
        most_requests = limits.requests_per_minute
        if most_requests is not None:
            of_requests = free.requests + grant.requests
            if not 0 <= of_requests <= most_requests:
                of_requests = 0 if of_requests < 0 else most_requests
        most = limits.tokens_per_minute
        if most is not None:
            of_tokens = free.tokens + grant.tokens
            if not 0 <= of_tokens <= most:
                of_tokens = 0 if of_tokens < 0 else most
            if actual > reserved:
                account.overdraw(actual - reserved)
            else:
                self.tokens += reserved - actual  # nobody looks any more if it is void
        if limits.concurrent_requests is not None:
            self.places += 1
        account.refused_until = now
        ring = account.bell.ring
        if ring is not None:
            ring()
        return QuotaState(most_requests, of_requests, most, of_tokens, reset)

    # --- the account's -----------------------------------------------------------------------------------------------

    def spend(self, amount: Amount) -> bool:
        """Takes it, or nothing."""
        if amount.tokens > self.tokens or amount.requests > self.requests or amount.places > self.places:
            return False
        self.tokens -= amount.tokens
        self.requests -= amount.requests
        self.places -= amount.places
        return True

    def add(self, amount: Amount) -> None:
        """More is granted, or has come back."""
        self.tokens += amount.tokens
        self.requests += amount.requests
        self.places += amount.places

    def missing(self, amount: Amount) -> Amount:
        """What is not here of an amount."""
        return Amount(
            max(0, amount.tokens - self.tokens),
            max(0, amount.requests - self.requests),
            max(0, amount.places - self.places),
        )

    def keep(self, most: Amount) -> bool:
        """Lets go of what is more; whether there was any."""
        before = self.tokens, self.requests, self.places
        self.tokens = min(self.tokens, most.tokens)
        self.requests = min(self.requests, most.requests)
        self.places = min(self.places, most.places)
        return (self.tokens, self.requests, self.places) != before


class Wanted:
    """What one call waits for: `take` takes it if it is here by now, `undo` gives it back."""

    __slots__ = ("amount", "future", "take", "undo")

    def __init__(
        self,
        amount: Amount,
        take: Callable[[float], Any],
        undo: Callable[[Any], None],
        future: asyncio.Future[Any],
    ) -> None:
        self.amount = amount
        self.take = take
        self.undo = undo
        self.future = future


class LocalAccount:
    """One subject of one process."""

    __slots__ = (
        "batch",
        "bell",
        "demand_calls",
        "demand_tokens",
        "epoch",
        "frozen",
        "grant",
        "holders",
        "is_recovering",
        "is_untold",
        "last_demand",
        "last_used",
        "leaving",
        "limits",
        "must_tell",
        "number",
        "own",
        "pending",
        "refused_until",
        "slot",
        "slot_ends",
        "store_free",
        "store_used_at",
        "subject",
        "sure_until",
        "talking",
        "told_at",
        "wanted",
    )

    def __init__(self, subject: str, bell: Bell, number: int = 0) -> None:
        """`number`: no message of this process about the subject has had a higher one."""
        self.subject = subject
        self.bell = bell
        self.limits = RateLimits()
        self.epoch = ""
        self.number = self.batch = number
        self.grant = Grant(self)
        """Another one when all that was granted is void."""
        self.sure_until = -math.inf
        self.told_at = -math.inf
        self.pending: dict[int, Slot] = {}
        """Used and not told yet."""
        self.slot = Slot(0.0)
        """The last of them."""
        self.slot_ends = -math.inf
        """When there must be another one, and the windows of `own` may have to roll."""
        self.frozen: dict[int, Slot] = {}
        """Told in a message that may have been lost: told again, under the same number."""
        self.own = Account()
        """What calls here hold, and what this process alone has used in the last minute: all that is known while the
        store is gone."""
        self.holders = 1
        self.is_recovering = False
        """The store has lost its data, and grants nothing until everybody has told what they have used."""
        self.is_untold = False
        """The store was gone or has lost data, and has not heard since what was used here."""
        self.store_free = Amount()
        self.store_used_at = -math.inf
        """When any process has used anything last, as far as the store has told."""
        self.demand_tokens = 0
        self.demand_calls = 0
        """Of this second. Calls that are repeats need no request; what is fetched for them is another's."""
        self.last_demand = (0, 0)
        self.last_used = -math.inf
        self.leaving: tuple[tuple[int, int, int], ...] = ()
        self.refused_until = -math.inf
        self.wanted: deque[Wanted] = deque()
        """Calls that wait for the store's answer."""
        self.must_tell = False
        self.talking: asyncio.Task[None] | None = None

    # --- calls -------------------------------------------------------------------------------------------------------

    def take(self, limits: RateLimits, tokens: int, requests: int, now: float) -> Amount | None:
        """Reserves for one call what is free here; what was taken from it, or None if it is not enough."""
        if now >= self.sure_until and self.grant:
            self.lapse()
        self.limits = limits
        backed = backing(limits, tokens, requests)
        if not self.grant.spend(backed):
            return None
        self.started(tokens, requests, now)
        return backed

    def started(self, tokens: int, requests: int, now: float) -> None:
        """A call is let in."""
        own = self.own
        own.held_tokens += tokens
        own.running += 1
        self.demand_tokens += tokens
        self.demand_calls += 1
        self.last_used = now
        if requests:
            self.use(0, requests, now)
            own.requests.book(requests, now)

    def use(self, tokens: int, requests: int, now: float) -> None:
        """It is used now; the store will hear of it."""
        if now >= self.slot_ends:
            self.begin_slot(now)
        slot = self.slot
        slot.latest = now
        slot.tokens += tokens
        slot.requests += requests

    def begin_slot(self, now: float) -> None:
        """The slot of this moment, and the windows as they are now."""
        self.own.roll(now)
        number = int(now * SLOTS_PER_SECOND)
        self.slot = self.pending.setdefault(number, Slot(now))
        self.slot_ends = (number + 1) / SLOTS_PER_SECOND
        if len(self.pending) > BUCKETS * SLOTS_PER_SECOND:
            del self.pending[next(iter(self.pending))]  # too old to count, after a long silence of the store

    def overdraw(self, tokens: int) -> None:
        """Used beyond a reservation: out of what is at hand, as far as that goes, and the rest out of the store's."""
        at_hand = min(tokens, self.grant.tokens)
        self.grant.tokens -= at_hand
        store = self.store_free
        self.store_free = Amount(store.tokens - (tokens - at_hand), store.requests, store.places)

    def unuse_requests(self, requests: int, then: float) -> bool:
        """Undoes it, if the store has not heard of it."""
        slot = self.pending.get(int(then * SLOTS_PER_SECOND))
        if slot is None or slot.requests < requests:
            return False
        slot.requests -= requests
        self.own.requests.take_back(requests, then)
        return True

    def lapse(self) -> None:
        """The store may take us for dead: what was granted and not spent is not ours any more."""
        self.grant.is_open = False
        self.grant = Grant(self)
        self.sure_until = -math.inf

    # --- the store ---------------------------------------------------------------------------------------------------

    def is_dirty(self) -> bool:
        """Whether the store should hear something."""
        return bool(self.pending or self.frozen)

    def holds(self) -> bool:
        """Whether the store must go on counting us in."""
        return bool(self.own.running or self.grant)

    def is_idle(self, now: float) -> bool:
        """Whether forgetting it changes nothing."""
        return not self.is_dirty() and not self.holds() and self.own.is_idle(now)

    # --- what callers see --------------------------------------------------------------------------------------------

    def state(self, limits: RateLimits, now: float) -> QuotaState:
        """What is left, as far as is known here."""
        if limits.requests_per_minute is None and limits.tokens_per_minute is None:
            return QuotaState()
        own = self.own
        of_store = seconds_left(self.store_used_at, now) if now - self.store_used_at < WINDOW_SECONDS else 0
        return QuotaState(
            limit_requests=limits.requests_per_minute,
            remaining_requests=remaining(limits.requests_per_minute, self.store_free.requests + self.grant.requests),
            limit_tokens=limits.tokens_per_minute,
            remaining_tokens=remaining(limits.tokens_per_minute, self.store_free.tokens + self.grant.tokens),
            reset_seconds=max(of_store, own.requests.seconds_until_empty(now), own.tokens.seconds_until_empty(now)),
        )


def backing(limits: RateLimits, tokens: int, requests: int) -> Amount:
    """What one call needs of a grant."""
    return Amount(
        tokens if limits.tokens_per_minute is not None else 0,
        requests if limits.requests_per_minute is not None else 0,
        0 if limits.concurrent_requests is None else 1,
    )


def remaining(limit: int | None, free: int) -> int | None:
    """What a limit leaves; None is unlimited."""
    return None if limit is None else max(0, min(limit, free))
