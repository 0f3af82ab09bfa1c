"""What the gateway needs of a quota."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol, runtime_checkable

from msgspec import Struct

from modelport.core.catalog import RateLimits
from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.core.quota import QuotaState


class QuotaRefusal(Struct, frozen=True):
    """Which limit said no, and in how many seconds it may say yes."""

    kind: Literal["requests", "tokens", "concurrency"]
    limit: int
    retry_after_seconds: int


class Reservation(Protocol):
    """What one call has taken. Settling twice is the same as once."""

    @property
    def reserved_tokens(self) -> int:
        """What it holds, or held until it was settled."""
        ...

    def top_up(self, tokens: int) -> bool | NeedsWaiting[bool]:
        """Takes `tokens` more; False (and nothing taken) if the limit forbids it. NeedsWaiting: a store has to be asked
        first; what its `resume` gives is final."""
        ...

    def give_back(self, tokens: int) -> None:
        """Undoes a part of what was taken, before anything was made with it."""
        ...

    def settle(self, actual_tokens: int) -> None:
        """Gives back what was not used, or books what was used beyond it; frees the concurrency slot."""
        ...

    def cancel(self) -> None:
        """As if it had never been taken: the request is given back too. For what was not started at all."""
        ...

    def state(self) -> QuotaState:
        """What is left now."""
        ...


Taken = Reservation | QuotaRefusal
"""What a quota says once it knows."""


class Quota(Protocol):
    """Rolling minute windows and concurrency, per subject (a deployment, a key)."""

    def reserve(
        self, subject: str, limits: RateLimits, tokens: int, now: float, *, requests: int = 1
    ) -> Taken | Refusal | NeedsWaiting[Taken]:
        """Takes `requests` (one, or none for a repeat) and `tokens` tokens in one step, or nothing. `now` is the
        monotonic clock's. NeedsWaiting: a store has to be asked first. A Refusal: the store that decides is gone."""
        ...

    def state(self, subject: str, limits: RateLimits, now: float) -> QuotaState:
        """What is left now, as far as this process knows; it asks no store. Empty where it knows nothing."""
        ...

    def when_freed(self, wake: Callable[[], None] | None) -> None:
        """`wake` is called whenever something may have been given back; None: nobody waits any more."""
        ...


class DirectAccount(Protocol):
    """What one subject may take without anybody being asked: the same steps as Quota's and Reservation's, for who knows
    beforehand that nothing special will happen."""

    is_open: bool
    """Once it is not, ask the quota for the subject's account again."""

    def take(self, limits: RateLimits, tokens: int, now: float) -> bool:
        """One request and so many tokens, or nothing. Whoever is refused asks Quota.reserve for the reason."""
        ...

    def settle(self, limits: RateLimits, reserved: int, actual: int, seconds: float, now: float) -> QuotaState:
        """Books what was used, gives back the rest. `seconds`: how long it was held. What was left before that."""
        ...


@runtime_checkable
class DirectQuota(Protocol):
    """A Quota that knows in this process's memory what may be taken now."""

    def account(self, subject: str, now: float) -> DirectAccount: ...

    def held(self, account: Any, limits: RateLimits, tokens: int, now: float) -> Reservation:
        """The reservation of what was taken from this account at that moment."""
        ...
