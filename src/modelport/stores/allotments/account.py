"""What one process holds of one subject: what it may spend without asking, what its calls have reserved, what it has
used and not told yet. No I/O and no clock."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Literal

from modelport.core.catalog import RateLimits
from modelport.core.ports.quota import QuotaRefusal
from modelport.core.quota import BUCKETS, WINDOW_SECONDS, QuotaState
from modelport.stores.allotments.bank import UNLIMITED, Amount, Answer, Ask
from modelport.stores.memory.quota import REMEMBERED_CALLS, Account

Kind = Literal["requests", "tokens", "concurrency"]
SLOTS_PER_SECOND: Final = 4
LIFETIME_SECONDS: Final = 10.0
SURE_SECONDS: Final = 8.0
"""Less than the lifetime: we stop spending before the store takes us for dead."""
REFUSED_SECONDS: Final = 0.1
"""A refusal of the store holds for so long, so that a flood of calls is not a flood of questions."""
IDLE_SECONDS: Final = 2.0
"""Without a call for so long, nothing is kept that others could use."""
SMALLEST_CHUNK: Final = 64
"""A chunk is at least this part of the limit, where the store has it to spare."""


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
        "demand",
        "epoch",
        "free",
        "frozen",
        "generation",
        "held_tokens",
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
        "running",
        "store_empty_at",
        "store_free",
        "subject",
        "sure_until",
        "talking",
        "told_at",
        "wanted",
    )

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.limits = RateLimits()
        self.epoch = ""
        self.number = 0
        self.generation = 0
        """Grows when everything that was granted is void."""
        self.sure_until = -math.inf
        self.told_at = -math.inf
        self.free = [0, 0, 0]
        """Tokens, requests and places that may be spent without asking."""
        self.held_tokens = 0
        self.running = 0
        self.pending: dict[int, list[float]] = {}
        """Used and not told yet: slot of time → the latest moment in it, tokens, requests."""
        self.frozen: dict[int, list[float]] = {}
        """Told in a message that may have been lost: told again, under the same number."""
        self.batch = 0
        self.own = Account()
        """What this process alone has used in the last minute: all that is known while the store is gone."""
        self.holders = 1
        self.is_recovering = False
        """The store has lost its data, and grants nothing until everybody has told what they have used."""
        self.is_untold = False
        """The store was gone or has lost data, and has not heard since what was used here."""
        self.store_free = Amount()
        self.store_empty_at = -math.inf
        self.demand = [0, 0, 0]
        self.last_demand = [0, 0, 0]
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
        if now >= self.sure_until and any(self.free):
            self.lapse()
        self.limits = limits
        free = self.free
        backed = Amount(
            tokens if limits.tokens_per_minute is not None else 0,
            requests if limits.requests_per_minute is not None else 0,
            0 if limits.concurrent_requests is None else 1,
        )
        if backed.tokens > free[0] or backed.requests > free[1] or backed.places > free[2]:
            return None
        free[0] -= backed.tokens
        free[1] -= backed.requests
        free[2] -= backed.places
        self.started(tokens, requests, now)
        return backed

    def started(self, tokens: int, requests: int, now: float) -> None:
        """A call is let in."""
        self.held_tokens += tokens
        self.own.held_tokens += tokens
        self.running += 1
        self.own.running += 1
        self.demand[0] += tokens
        self.demand[1] += requests
        self.demand[2] += 1
        self.last_used = now
        if requests:
            self.use(0, requests, now)
            self.own.requests.add(requests, now)

    def use(self, tokens: int, requests: int, now: float) -> None:
        """It is used now; the store will hear of it."""
        slot = self.pending.setdefault(int(now * SLOTS_PER_SECOND), [now, 0, 0])
        if len(self.pending) > BUCKETS * SLOTS_PER_SECOND:
            del self.pending[next(iter(self.pending))]  # too old to count, after a long silence of the store
        slot[0] = max(slot[0], now)
        slot[1] += tokens
        slot[2] += requests

    def overdraw(self, tokens: int) -> None:
        """Used beyond a reservation: out of what is at hand, as far as that goes, and the rest out of the store's."""
        at_hand = min(tokens, self.free[0])
        self.free[0] -= at_hand
        store = self.store_free
        self.store_free = Amount(store.tokens - (tokens - at_hand), store.requests, store.places)

    def unuse_requests(self, requests: int, then: float) -> bool:
        """Undoes it, if the store has not heard of it."""
        slot = self.pending.get(int(then * SLOTS_PER_SECOND))
        if slot is None or slot[2] < requests:
            return False
        slot[2] -= requests
        self.own.requests.take_back(requests, then)
        return True

    def lapse(self) -> None:
        """The store may take us for dead: what was granted and not spent is not ours any more."""
        self.generation += 1
        self.free = [0, 0, 0]
        self.sure_until = -math.inf

    # --- the store ---------------------------------------------------------------------------------------------------

    def is_dirty(self) -> bool:
        """Whether the store should hear something."""
        return bool(self.pending or self.frozen)

    def holds(self) -> bool:
        """Whether the store must go on counting us in."""
        return bool(self.running or any(self.free))

    def is_idle(self, now: float) -> bool:
        """Whether forgetting it changes nothing."""
        return not self.is_dirty() and not self.holds() and self.own.is_idle(now)

    def ask(self, need: Amount, want: Amount, now: float, holder: str, fresh_epoch: str) -> Ask:
        """The next message."""
        if now >= self.sure_until and any(self.free):
            self.lapse()
        if now - self.told_at > BUCKETS and not self.holds():
            self.epoch = ""  # the store may have forgotten the subject, and so may we
        self.number += 1
        if not self.frozen and self.pending:
            self.frozen, self.pending = self.pending, {}
            self.batch += 1
        pending_tokens = int(sum(slot[1] for slot in self.pending.values()))
        pending_requests = int(sum(slot[2] for slot in self.pending.values()))
        keep = Amount(
            self.held_tokens + pending_tokens + self.free[0],
            pending_requests + self.free[1],
            self.running + self.free[2],
        )
        limits = self.limits
        return Ask(
            subject=self.subject,
            holder=holder,
            number=self.number,
            epoch=self.epoch,
            fresh_epoch=fresh_epoch,
            keep=keep,
            batch=self.batch,
            spent=tuple(
                (int((now - latest) * 1000), int(tokens), int(requests))
                for latest, tokens, requests in self.frozen.values()
            ),
            need=need,
            want=want,
            limits=Amount(
                told(limits.tokens_per_minute), told(limits.requests_per_minute), told(limits.concurrent_requests)
            ),
            lifetime_ms=int(LIFETIME_SECONDS * 1000),
        )

    def learn(self, answer: Answer, sent_at: float, now: float) -> None:
        """What the store has said to the last message. `stale` and `lost` are not for here."""
        self.epoch = answer.epoch
        self.frozen = {}
        self.told_at = now
        self.sure_until = sent_at + SURE_SECONDS
        self.holders = max(1, answer.holders)
        self.is_recovering = answer.status == "recovering"
        self.is_untold = False
        if self.is_recovering:
            return
        self.store_free = answer.free
        self.store_empty_at = now + answer.empty_ms / 1000
        if answer.status == "refused":
            self.leaving = answer.leaving
            self.refused_until = now + REFUSED_SECONDS
            return
        self.refused_until = -math.inf
        for index, granted in enumerate((answer.granted.tokens, answer.granted.requests, answer.granted.places)):
            self.free[index] += granted

    def refusal(self, need: Amount, now: float) -> QuotaRefusal | None:
        """The limit that keeps this need waiting longest, by the store's last refusal; None: nothing forbids it."""
        limits, free = self.limits, self.store_free
        waits: list[tuple[int, Kind, int]] = []
        if limits.concurrent_requests is not None and 0 < need.places > free.places:
            waits.append((self.mean_seconds(), "concurrency", limits.concurrent_requests))
        if limits.requests_per_minute is not None and 0 < need.requests > free.requests:
            freed = self.seconds_until(2, need.requests - free.requests)
            waits.append((freed, "requests", limits.requests_per_minute))
        if limits.tokens_per_minute is not None and 0 < need.tokens > free.tokens:
            never = need.tokens > limits.tokens_per_minute
            freed = WINDOW_SECONDS if never else self.seconds_until(1, need.tokens - free.tokens)
            waits.append((freed, "tokens", limits.tokens_per_minute))
        if not waits:
            return None
        seconds, kind, limit = max(waits)
        return QuotaRefusal(kind, limit, seconds, self.state(limits, now))

    def seconds_until(self, index: int, excess: int) -> int:
        """Until the window lets go of so much; if it does not hold so much, until a call ends."""
        for one in self.leaving:
            excess -= one[index]
            if excess <= 0:
                return one[0]
        return self.mean_seconds()

    def mean_seconds(self) -> int:
        """How long calls lasted lately, as a time to wait."""
        return min(WINDOW_SECONDS, max(1, math.ceil(self.own.mean_seconds)))

    def forget_store(self, epoch: str, now: float) -> None:
        """The store has lost its data: it must hear all that the last minute has used."""
        self.lapse()
        self.epoch = epoch
        self.pending = {}
        self.frozen = {}
        self.batch += 1
        for second, tokens, requests in history(self.own, now):
            self.frozen[second * SLOTS_PER_SECOND] = [min(now, second + 1.0), tokens, requests]

    def chunk(self, now: float) -> Amount:
        """How much is worth having at hand: what two seconds need, or a small part of the limit."""
        if now - self.last_used > IDLE_SECONDS and not self.wanted:
            return Amount()
        limits = self.limits
        return Amount(
            max(2 * self.peak(0), (limits.tokens_per_minute or 0) // SMALLEST_CHUNK),
            max(2 * self.peak(1), (limits.requests_per_minute or 0) // SMALLEST_CHUNK),
            max(self.peak(2), (limits.concurrent_requests or 0) // SMALLEST_CHUNK),
        )

    def peak(self, index: int) -> int:
        """What calls have asked for in the last second or so."""
        return max(self.demand[index], self.last_demand[index])

    def turn_second(self) -> None:
        """A second has passed."""
        self.last_demand, self.demand = self.demand, [0, 0, 0]

    def give_back_surplus(self, now: float) -> bool:
        """Lets go of what nobody here has needed lately; whether there was any. The next message tells."""
        kept = self.chunk(now)
        surplus = False
        for index, most in enumerate((kept.tokens, kept.requests, kept.places)):
            if self.free[index] > most:
                self.free[index] = most
                surplus = True
        return surplus

    # --- what callers see --------------------------------------------------------------------------------------------

    def state(self, limits: RateLimits, now: float) -> QuotaState:
        """What is left, as far as is known here."""
        if limits.requests_per_minute is None and limits.tokens_per_minute is None:
            return QuotaState()
        own = self.own
        empty_at = max(
            self.store_empty_at - now, own.requests.seconds_until_empty(now), own.tokens.seconds_until_empty(now)
        )
        return QuotaState(
            limit_requests=limits.requests_per_minute,
            remaining_requests=remaining(limits.requests_per_minute, self.store_free.requests + self.free[1]),
            limit_tokens=limits.tokens_per_minute,
            remaining_tokens=remaining(limits.tokens_per_minute, self.store_free.tokens + self.free[0]),
            reset_seconds=max(0, math.ceil(empty_at)),
        )


def missing(free: list[int], amount: Amount) -> Amount:
    """What is missing of an amount."""
    return Amount(max(0, amount.tokens - free[0]), max(0, amount.requests - free[1]), max(0, amount.places - free[2]))


def told(limit: int | None) -> int:
    """A limit in a message."""
    return UNLIMITED if limit is None else limit


def remaining(limit: int | None, free: int) -> int | None:
    """What a limit leaves; None is unlimited."""
    return None if limit is None else max(0, min(limit, free))


def history(own: Account, now: float) -> list[tuple[int, int, int]]:
    """(second, tokens, requests) of the last minute."""
    tokens, requests = dict(own.tokens.by_second(now)), dict(own.requests.by_second(now))
    return [(at, tokens.get(at, 0), requests.get(at, 0)) for at in sorted(tokens.keys() | requests.keys())]


def mean(before: float, seconds: float) -> float:
    """How long calls lasted lately."""
    return before + (seconds - before) / REMEMBERED_CALLS
