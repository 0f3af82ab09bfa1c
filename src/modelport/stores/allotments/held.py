"""One call's reservation with an account of this process."""

from __future__ import annotations

from typing import Protocol

from modelport.core.catalog import RateLimits
from modelport.core.ports.stages import NeedsWaiting
from modelport.core.quota import QuotaState
from modelport.stores.allotments.account import LocalAccount, mean
from modelport.stores.allotments.bank import Amount


class Desk(Protocol):
    """What a reservation needs of the quota that it belongs to."""

    def monotonic(self) -> float: ...

    def freed(self) -> None: ...

    def top_up(self, held: SharedHeld, tokens: int) -> bool | NeedsWaiting[bool]: ...


class SharedHeld:
    """What one call has taken. `backed` is the part of it that was granted to this process, and goes back to it."""

    __slots__ = (
        "_desk",
        "_is_settled",
        "_requests",
        "_started",
        "account",
        "backed",
        "generation",
        "limits",
        "reserved_tokens",
    )

    def __init__(
        self,
        desk: Desk,
        account: LocalAccount,
        limits: RateLimits,
        tokens: int,
        requests: int,
        backed: Amount,
        now: float,
    ) -> None:
        self._desk = desk
        self._requests = requests
        self._started = now
        self._is_settled = False
        self.account = account
        self.limits = limits
        self.backed = backed
        self.generation = account.generation
        self.reserved_tokens = tokens

    @property
    def is_settled(self) -> bool:
        """Whether it is over."""
        return self._is_settled

    def top_up(self, tokens: int) -> bool | NeedsWaiting[bool]:
        """Takes `tokens` more from what is here; if it is not here, from the store."""
        return False if self._is_settled else self._desk.top_up(self, tokens)

    def grow(self, tokens: int, backed: int) -> None:
        """`tokens` more, of which so many were granted to this process."""
        self.account.held_tokens += tokens
        self.account.own.held_tokens += tokens
        self.account.demand[0] += tokens
        self.reserved_tokens += tokens
        self.backed = Amount(self.backed.tokens + backed, self.backed.requests, self.backed.places)

    def give_back(self, tokens: int) -> None:
        """Undoes a part of what was taken; never more than is held."""
        if self._is_settled:
            return
        tokens = min(tokens, self.reserved_tokens)
        backed = min(tokens, self.backed.tokens)
        self.account.held_tokens -= tokens
        self.account.own.held_tokens -= tokens
        self.reserved_tokens -= tokens
        self.backed = Amount(self.backed.tokens - backed, self.backed.requests, self.backed.places)
        self._credit(backed, 0, 0)

    def settle(self, actual_tokens: int) -> None:
        """Books what was used, gives back the rest, frees the place. Only the first call counts."""
        if self._is_settled:
            return
        now, actual, own = self._desk.monotonic(), max(0, actual_tokens), self.account.own
        self._end()
        if actual:
            self.account.use(actual, 0, now)
        own.tokens.add(actual, now)
        own.mean_seconds = mean(own.mean_seconds, now - self._started)
        if actual > self.reserved_tokens and self.limits.tokens_per_minute is not None:
            self.account.overdraw(actual - self.reserved_tokens)
        self._credit(max(0, self.backed.tokens - actual), 0, self.backed.places)

    def cancel(self) -> None:
        """Gives everything back, the request too if the store has not been told of it."""
        if self._is_settled:
            return
        self._end()
        undone = bool(self._requests) and self.account.unuse_requests(self._requests, self._started)
        self._credit(self.backed.tokens, self.backed.requests if undone else 0, self.backed.places)

    def state(self) -> QuotaState:
        """What is left now."""
        return self.account.state(self.limits, self._desk.monotonic())

    def _end(self) -> None:
        self._is_settled = True
        account = self.account
        account.running -= 1
        account.own.running -= 1
        account.held_tokens -= self.reserved_tokens
        account.own.held_tokens -= self.reserved_tokens

    def _credit(self, tokens: int, requests: int, places: int) -> None:
        account = self.account
        if self.generation == account.generation:  # else it was void before it came back
            account.free[0] += tokens
            account.free[1] += requests
            account.free[2] += places
        account.refused_until = self._desk.monotonic()
        self._desk.freed()
