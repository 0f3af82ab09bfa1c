"""The quota of one process, in its memory.

A reservation counts in full from `reserve` to `settle`, however long that takes; what was really used is booked into
the window at `settle`. So at every moment what is held and what the last minute has used together stay within the
limit, whatever moment between its start and its end one ascribes a token to. Only a call that uses more than it
reserved can go beyond: that excess is booked at once and keeps later calls waiting.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, Literal

from modelport.core.catalog import RateLimits
from modelport.core.clock import Clock
from modelport.core.ports.quota import QuotaRefusal, Reservation
from modelport.core.quota import WINDOW_SECONDS, QuotaState, RollingWindow, seconds_left

SWEEP_AT: Final = 1024
REMEMBERED_CALLS: Final = 8


class MemoryQuota:
    """Rolling minute windows and concurrency, per subject. Holds nothing of subjects that have been idle for a minute
    once there are many."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._accounts: dict[str, Account] = {}
        self._sweep_at = SWEEP_AT
        self.wake: Callable[[], None] | None = None

    def reserve(
        self, subject: str, limits: RateLimits, tokens: int, now: float, *, requests: int = 1
    ) -> Reservation | QuotaRefusal:
        """Takes `requests`, one place and `tokens` tokens in one step, or nothing."""
        account = self._accounts.get(subject)
        if account is None:
            account = self._opened(subject, now)
        if now >= account.rolls_at:
            account.roll(now)
        if not account.has_room(limits, tokens, requests):
            refusal = account.refusal(limits, tokens, now, requests)
            if refusal is not None:
                return refusal
        if requests:
            account.requests.book(requests, now)
        account.running += 1
        account.held_tokens += tokens
        return Held(self, account, limits, tokens, requests, now)

    def state(self, subject: str, limits: RateLimits, now: float) -> QuotaState:
        """What is left now."""
        return (self._accounts.get(subject) or Account()).state(limits, now)

    def account(self, subject: str, now: float) -> Account:
        """core.ports.quota.DirectQuota"""
        account = self._accounts.get(subject)
        return self._opened(subject, now) if account is None else account

    def held(self, account: Account, limits: RateLimits, tokens: int, now: float) -> Reservation:
        """core.ports.quota.DirectQuota"""
        return Held(self, account, limits, tokens, 1, now)

    def when_freed(self, wake: Callable[[], None] | None) -> None:
        """`wake` is called whenever a reservation ends or shrinks."""
        self.wake = wake

    def monotonic(self) -> float:
        """The moment, for reservations that end."""
        return self._clock.monotonic()

    def __len__(self) -> int:
        return len(self._accounts)

    def _opened(self, subject: str, now: float) -> Account:
        if len(self._accounts) >= self._sweep_at:
            for name in [name for name, account in self._accounts.items() if account.is_idle(now)]:
                self._accounts.pop(name).is_open = False
            self._sweep_at = max(SWEEP_AT, 2 * len(self._accounts))
        account = self._accounts[subject] = Account(self)
        return account


class Account:
    """What one subject holds now and has used in the last minute."""

    __slots__ = ("_quota", "held_tokens", "is_open", "mean_seconds", "requests", "rolls_at", "running", "tokens")

    def __init__(self, quota: MemoryQuota | None = None) -> None:
        self._quota = quota
        self.is_open = True
        """Until it is forgotten."""
        self.requests = RollingWindow()
        self.tokens = RollingWindow()
        self.rolls_at = 0.0
        """When both windows must roll again."""
        self.running = 0
        self.held_tokens = 0
        self.mean_seconds = 1.0
        """How long calls lasted lately: when a place is likely to be free."""

    def is_idle(self, now: float) -> bool:
        """Whether forgetting it changes nothing."""
        return not (self.running or self.requests.roll(now) or self.tokens.roll(now))

    def take(self, limits: RateLimits, tokens: int, now: float) -> bool:
        """core.ports.quota.DirectAccount"""
        if now >= self.rolls_at:
            self.roll(now)
        requests = self.requests
        most = limits.requests_per_minute
        if most is not None and requests.total >= most:
            return False
        held = self.held_tokens + tokens
        most = limits.tokens_per_minute
        if most is not None and self.tokens.total + held > most:
            return False
        most = limits.concurrent_requests
        if most is not None and self.running >= most:
            return False
        requests.total += 1  # RollingWindow.book, written out: it is called twice for each call
        index = requests.index
        requests.buckets[index] += 1
        requests.times[index] = requests.last = now
        self.running += 1
        self.held_tokens = held
        return True

    def settle(self, limits: RateLimits, reserved: int, actual: int, seconds: float, now: float) -> QuotaState:
        """core.ports.quota.DirectAccount"""
        if now >= self.rolls_at:
            self.roll(now)
        requests, tokens, held = self.requests, self.tokens, self.held_tokens
        used, taken = tokens.total, requests.total
        last = requests.last if taken else 0.0
        if used and tokens.last > last:
            last = tokens.last
        reset = WINDOW_SECONDS if now - last < 1.0 else seconds_left(last, now) if last else 0
        self.running -= 1
        self.held_tokens = held - reserved
        if actual:
            tokens.total = used + actual
            index = tokens.index
            tokens.buckets[index] += actual
            tokens.times[index] = tokens.last = now
        self.mean_seconds += (seconds - self.mean_seconds) / REMEMBERED_CALLS
        quota = self._quota
        if quota is not None and quota.wake is not None:
            quota.wake()
        of_requests, of_tokens = limits.requests_per_minute, limits.tokens_per_minute
        left_requests = left_tokens = None
        if of_requests is not None:
            left_requests = of_requests - taken if of_requests > taken else 0
        if of_tokens is not None:
            held += used
            left_tokens = of_tokens - held if of_tokens > held else 0
        return QuotaState(of_requests, left_requests, of_tokens, left_tokens, reset)

    def roll(self, now: float) -> None:
        """Lets both windows roll, once or twice a second."""
        self.requests.roll(now)
        self.tokens.roll(now)
        self.rolls_at = min(int(now) + 1.0, self.requests.leaves_at(), self.tokens.leaves_at())

    def has_room(self, limits: RateLimits, tokens: int, requests: int) -> bool:
        """Whether no limit stands in the way: what `refusal` finds, without the words for it. After `roll`."""
        most = limits.requests_per_minute
        if most is not None and self.requests.total + requests > most:
            return False
        most = limits.tokens_per_minute
        if most is not None and self.tokens.total + self.held_tokens + tokens > most:
            return False
        most = limits.concurrent_requests
        return most is None or self.running < most

    def refusal(self, limits: RateLimits, tokens: int, now: float, requests: int = 1) -> QuotaRefusal | None:
        """The limit that keeps this call waiting longest, if any does."""
        waits: list[tuple[int, Literal["requests", "tokens", "concurrency"], int]] = []
        if limits.concurrent_requests is not None and self.running >= limits.concurrent_requests:
            waits.append((self._seconds_until_a_call_ends(), "concurrency", limits.concurrent_requests))
        if requests and limits.requests_per_minute is not None:
            excess = self.requests.roll(now) + requests - limits.requests_per_minute
            if excess > 0:
                seconds = self.requests.seconds_until_freed(excess, now)
                waits.append((seconds or WINDOW_SECONDS, "requests", limits.requests_per_minute))
        if limits.tokens_per_minute is not None:
            excess = self.tokens_beyond(limits.tokens_per_minute, tokens, now)
            if excess > 0:
                seconds = self._seconds_until_tokens(excess, tokens, limits.tokens_per_minute, now)
                waits.append((seconds, "tokens", limits.tokens_per_minute))
        if not waits:
            return None
        seconds, kind, limit = max(waits)
        return QuotaRefusal(kind=kind, limit=limit, retry_after_seconds=seconds)

    def state(self, limits: RateLimits, now: float) -> QuotaState:
        """What is left now. `reset_seconds`: when all of it is back, if nothing more is taken."""
        of_requests, of_tokens = limits.requests_per_minute, limits.tokens_per_minute
        if of_requests is None and of_tokens is None:
            return QuotaState()
        if now >= self.rolls_at:
            self.roll(now)
        requests, tokens = self.requests, self.tokens
        last = max(requests.last if requests.total else 0.0, tokens.last if tokens.total else 0.0)
        return QuotaState(
            of_requests,
            left(of_requests, requests.total),
            of_tokens,
            left(of_tokens, tokens.total + self.held_tokens),
            seconds_left(last, now) if last else 0,
        )

    def tokens_beyond(self, limit: int, tokens: int, now: float) -> int:
        """By how much `tokens` more would exceed the limit."""
        return self.tokens.roll(now) + self.held_tokens + tokens - limit

    def _seconds_until_tokens(self, excess: int, tokens: int, limit: int, now: float) -> int:
        if tokens > limit:
            return WINDOW_SECONDS  # It never fits: there is no better time to name.
        rolled = self.tokens.seconds_until_freed(excess, now)
        # What the window alone cannot free must come from calls that still run, and give back what they do not use.
        return rolled if rolled is not None else self._seconds_until_a_call_ends()

    def _seconds_until_a_call_ends(self) -> int:
        return min(WINDOW_SECONDS, max(1, math.ceil(self.mean_seconds)))


class Held:
    """One call's reservation."""

    __slots__ = ("_account", "_is_settled", "_limits", "_quota", "_requests", "_started", "reserved_tokens")

    def __init__(
        self, quota: MemoryQuota, account: Account, limits: RateLimits, tokens: int, requests: int, now: float
    ) -> None:
        self._quota = quota
        self._account = account
        self._limits = limits
        self._requests = requests
        self._started = now
        self._is_settled = False
        self.reserved_tokens = tokens

    def top_up(self, tokens: int) -> bool:
        """Takes `tokens` more; False (and nothing taken) if the limit forbids it, or the call is settled."""
        limit = self._limits.tokens_per_minute
        if self._is_settled:
            return False
        if limit is not None and self._account.tokens_beyond(limit, tokens, self._quota.monotonic()) > 0:
            return False
        self._account.held_tokens += tokens
        self.reserved_tokens += tokens
        return True

    def give_back(self, tokens: int) -> None:
        """Undoes a part of what was taken; never more than is held."""
        if self._is_settled:
            return
        tokens = min(tokens, self.reserved_tokens)
        self._account.held_tokens -= tokens
        self.reserved_tokens -= tokens
        self._tell()

    def settle(self, actual_tokens: int) -> None:
        """Books what was used, gives back the rest, frees the place. Only the first call counts."""
        if self._is_settled:
            return
        now, account, quota = self._quota.monotonic(), self._account, self._quota
        self._is_settled = True
        account.running -= 1
        account.held_tokens -= self.reserved_tokens
        if now >= account.rolls_at:
            account.roll(now)
        if actual_tokens > 0:
            account.tokens.book(actual_tokens, now)
        account.mean_seconds += (now - self._started - account.mean_seconds) / REMEMBERED_CALLS
        if quota.wake is not None:
            quota.wake()

    def cancel(self) -> None:
        """Gives everything back, the request too."""
        if self._is_settled:
            return
        self._end()
        self._account.requests.take_back(self._requests, self._started)
        self._tell()

    def state(self) -> QuotaState:
        """What is left now."""
        return self._account.state(self._limits, self._quota.monotonic())

    def _end(self) -> None:
        self._is_settled = True
        self._account.running -= 1
        self._account.held_tokens -= self.reserved_tokens

    def _tell(self) -> None:
        if self._quota.wake is not None:
            self._quota.wake()


def left(limit: int | None, used: int) -> int | None:
    """What a limit leaves; None is unlimited."""
    if limit is None:
        return None
    return limit - used if limit > used else 0
