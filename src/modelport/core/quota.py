"""The arithmetic of quotas: rolling windows, honest waiting times, which limits a deployment has. Reads no clock."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from modelport.core.budgets import Budget, Window
from modelport.core.catalog import Model, RateLimits, Sku

WINDOW_SECONDS: Final = 60
BUCKETS: Final = WINDOW_SECONDS + 1
"""One more than the seconds of a window: the oldest bucket still holds a part of it."""
RESOLUTION_SECONDS: Final = 1e-6
"""Of a clock: an age that is shorter than the window by less counts as the window."""

TOKENS_PER_CAPACITY_UNIT: Final = 1_000
REQUESTS_PER_CAPACITY_UNIT: Final = 6
"""Azure couples the two for its Standard types: six requests a minute for each thousand tokens a minute."""
DEFAULT_TOKENS_PER_MINUTE: Final = 200_000
DEFAULT_REQUESTS_PER_MINUTE: Final = 1_000
CAPACITY_FORMAT: Final = "openai"
CAPACITY_SKUS: Final = frozenset({"standard", "globalstandard", "datazonestandard"})


class QuotaState(Struct, frozen=True):
    """What is left of a limit on requests and of one on tokens, for `x-ratelimit-*`. None: unlimited."""

    limit_requests: int | None = None
    remaining_requests: int | None = None
    limit_tokens: int | None = None
    remaining_tokens: int | None = None
    reset_seconds: int = 0
    reset_tokens_seconds: int | None = None
    """None: as the requests'."""


def tightest(states: Sequence[QuotaState]) -> QuotaState:
    """Of several limits that hold for one call, the one that leaves the fewest requests and the one that leaves the
    fewest tokens."""
    if not states:
        return QuotaState()
    requests = tokens = states[0]
    for state in states[1:]:
        left, least = state.remaining_requests, requests.remaining_requests
        if left is not None and (
            least is None
            or left < least
            or (left == least and (state.limit_requests or 0) < (requests.limit_requests or 0))
        ):
            requests = state
        left, least = state.remaining_tokens, tokens.remaining_tokens
        if left is not None and (
            least is None or left < least or (left == least and (state.limit_tokens or 0) < (tokens.limit_tokens or 0))
        ):
            tokens = state
    if requests is tokens:
        return requests
    reset = tokens.reset_seconds if tokens.reset_tokens_seconds is None else tokens.reset_tokens_seconds
    most, left_requests, seconds = requests.limit_requests, requests.remaining_requests, requests.reset_seconds
    return QuotaState(most, left_requests, tokens.limit_tokens, tokens.remaining_tokens, seconds, reset)


def tokens_left(budget: Budget, window: Window, used_tokens: int, now: float) -> QuotaState:
    """What a budget of tokens leaves until its day or month ends."""
    limit, seconds = budget.tokens or 0, -int((now - window.ends_at) // 1)  # rounded up
    left = limit - used_tokens if limit > used_tokens else 0
    return QuotaState(None, None, limit, left, seconds if seconds > 1 else 1)


def effective_limits(explicit: Mapping[str, Any], sku: Sku | None, model: Model) -> RateLimits:
    """The limits of a deployment. `explicit` has the fields of RateLimits that were written down: None in it means
    unlimited, a missing name means that the next rule decides: capacity, for OpenAI models on Standard types (`sku` is
    None where none was written down), then what Azure gives every deployment."""
    tokens, requests = DEFAULT_TOKENS_PER_MINUTE, DEFAULT_REQUESTS_PER_MINUTE
    if sku is not None and model.format.lower() == CAPACITY_FORMAT and sku.name.lower() in CAPACITY_SKUS:
        tokens = sku.capacity * TOKENS_PER_CAPACITY_UNIT
        requests = sku.capacity * REQUESTS_PER_CAPACITY_UNIT
    return RateLimits(
        tokens_per_minute=explicit.get("tokens_per_minute", tokens),
        requests_per_minute=explicit.get("requests_per_minute", requests),
        concurrent_requests=explicit.get("concurrent_requests"),
        wait_seconds=explicit.get("wait_seconds", 0.0),
    )


class RollingWindow:
    """What was taken in the last 60 seconds, in buckets of one second. Rounds towards refusing: a bucket leaves 60
    seconds after the last amount that was put into it, so no span of 60 seconds holds more than `total` ever was, and
    no amount stays longer than 60 seconds after the last of its second. `now` never goes back; if it does, it stands
    still."""

    __slots__ = ("buckets", "index", "last", "second", "times", "total")

    def __init__(self) -> None:
        self.buckets = [0] * BUCKETS
        self.times = [0.0] * BUCKETS
        """When the last amount of each bucket was put into it."""
        self.second = self.index = 0
        """The running second, and its bucket."""
        self.last = 0.0
        self.total = 0

    def roll(self, now: float) -> int:
        """Forgets what has left the window; what is left of it."""
        second = int(now)
        passed = second - self.second
        if passed > 0:
            self.second, self.index = second, second % BUCKETS
        if not self.total:
            return 0
        if passed >= BUCKETS:
            self.buckets = [0] * BUCKETS
            self.total = 0
            return 0
        for index in range(second - passed + 1, second + 1):
            self._drop(index % BUCKETS)
        if now >= self.leaves_at():
            self._drop((self.second + 1) % BUCKETS)
        return self.total

    def _drop(self, index: int) -> None:
        self.total -= self.buckets[index]
        self.buckets[index] = 0

    def leaves_at(self) -> float:
        """When the oldest bucket leaves, before its place is taken. After `roll`."""
        oldest = (self.second + 1) % BUCKETS
        return self.times[oldest] + WINDOW_SECONDS - RESOLUTION_SECONDS if self.buckets[oldest] else math.inf

    def add(self, amount: int, now: float) -> None:
        """Books `amount` (not negative) at `now`."""
        if not amount:
            return
        self.roll(now)
        self.book(amount, now)

    def book(self, amount: int, now: float) -> None:
        """As `add`, for who has just let it roll."""
        index = self.index
        self.buckets[index] += amount
        self.times[index] = self.last = now
        self.total += amount

    def take_back(self, amount: int, then: float) -> None:
        """Undoes an `add` at that moment, if it still counts."""
        second = int(then)
        if self.second - BUCKETS < second <= self.second:
            undone = min(amount, self.buckets[second % BUCKETS])
            self.buckets[second % BUCKETS] -= undone
            self.total -= undone

    def by_second(self, now: float) -> list[tuple[int, int]]:
        """(second, amount) of what the window holds."""
        self.roll(now)
        seconds = range(self.second - WINDOW_SECONDS, self.second + 1)
        return [(second, self.buckets[second % BUCKETS]) for second in seconds if self.buckets[second % BUCKETS]]

    def seconds_until_freed(self, amount: int, now: float) -> int | None:
        """Whole seconds, 1 to 60, until so much has left the window; None if it does not hold so much."""
        self.roll(now)
        if amount > self.total:
            return None
        freed = 0
        for second in range(self.second - WINDOW_SECONDS, self.second + 1):
            freed += self.buckets[second % BUCKETS]
            if freed >= amount and freed:
                return seconds_left(self.times[second % BUCKETS], now)
        return 1

    def seconds_until_empty(self, now: float) -> int:
        """Whole seconds until nothing of it is left; 0 if nothing is."""
        return seconds_left(self.last, now) if self.roll(now) else 0


def seconds_left(then: float, now: float) -> int:
    """Whole seconds, 1 to 60, until what was used `then` has left the window."""
    age = now - then
    return WINDOW_SECONDS if age < 1.0 else max(1, WINDOW_SECONDS - int(age))
