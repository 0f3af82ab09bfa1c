"""One call's reservation with an account of this process."""

from __future__ import annotations

from typing import Protocol

from modelport.core.catalog import RateLimits
from modelport.core.ports.stages import NeedsWaiting
from modelport.core.quota import QuotaState
from modelport.stores.allotments.account import Grant, LocalAccount
from modelport.stores.allotments.bank import Amount
from modelport.stores.memory.quota import REMEMBERED_CALLS


class Desk(Protocol):
    """What a reservation needs of the quota that it belongs to."""

    def monotonic(self) -> float: ...

    def top_up(self, held: SharedHeld, tokens: int) -> bool | NeedsWaiting[bool]: ...


class SharedHeld:
    """What one call has taken. `backed` is the part of it that came from the grant, and goes back to it unless it is
    void by then."""

    __slots__ = ("_desk", "_grant", "_is_settled", "_requests", "_started", "backed", "limits", "reserved_tokens")

    def __init__(
        self,
        desk: Desk,
        grant: Grant,
        limits: RateLimits,
        tokens: int,
        requests: int,
        backed: Amount,
        now: float,
    ) -> None:
        self._desk = desk
        self._grant = grant
        self._requests = requests
        self._started = now
        self._is_settled = False
        self.limits = limits
        self.backed = backed
        self.reserved_tokens = tokens

    @property
    def account(self) -> LocalAccount:
        """Where it was taken."""
        return self._grant.account

    @property
    def is_settled(self) -> bool:
        """Whether it is over."""
        return self._is_settled

    def top_up(self, tokens: int) -> bool | NeedsWaiting[bool]:
        """Takes `tokens` more from what is here; if it is not here, from the store."""
        return False if self._is_settled else self._desk.top_up(self, tokens)

    def grow(self, tokens: int, backed: int) -> None:
        """`tokens` more, of which so many were granted to this process."""
        account = self.account
        account.own.held_tokens += tokens
        account.demand_tokens += tokens
        self.reserved_tokens += tokens
        if self._grant.is_open:  # else it is another grant that they came from, and a part of a call does not go back
            self.backed = Amount(self.backed.tokens + backed, self.backed.requests, self.backed.places)

    def give_back(self, tokens: int) -> None:
        """Undoes a part of what was taken; never more than is held."""
        if self._is_settled:
            return
        tokens = min(tokens, self.reserved_tokens)
        backed = min(tokens, self.backed.tokens)
        self.account.own.held_tokens -= tokens
        self.reserved_tokens -= tokens
        self.backed = Amount(self.backed.tokens - backed, self.backed.requests, self.backed.places)
        self._credit(Amount(backed))

    def settle(self, actual_tokens: int) -> None:
        """Books what was used, gives back the rest, frees the place. Only the first call counts."""
        if self._is_settled:
            return
        account, actual = self.account, max(0, actual_tokens)
        now, own = self._desk.monotonic(), account.own
        self._end()
        if actual:
            account.use(actual, 0, now)
        own.tokens.add(actual, now)
        own.mean_seconds += (now - self._started - own.mean_seconds) / REMEMBERED_CALLS
        if actual > self.reserved_tokens and self.limits.tokens_per_minute is not None:
            account.overdraw(actual - self.reserved_tokens)
        self._credit(Amount(max(0, self.backed.tokens - actual), 0, self.backed.places))

    def cancel(self) -> None:
        """Gives everything back, the request too if the store has not been told of it."""
        if self._is_settled:
            return
        self._end()
        undone = bool(self._requests) and self.account.unuse_requests(self._requests, self._started)
        self._credit(Amount(self.backed.tokens, self.backed.requests if undone else 0, self.backed.places))

    def state(self) -> QuotaState:
        """What is left now."""
        return self.account.state(self.limits, self._desk.monotonic())

    def _end(self) -> None:
        self._is_settled = True
        own = self.account.own
        own.running -= 1
        own.held_tokens -= self.reserved_tokens

    def _credit(self, amount: Amount) -> None:
        self._grant.add(amount)  # nobody looks any more if it is void
        self.account.refused_until = self._desk.monotonic()
        ring = self.account.bell.ring
        if ring is not None:
            ring()
