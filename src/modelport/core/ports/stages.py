"""What the gateway needs of others, as promises. Push-style and sans-I/O where it can be.

A *stage* is a plain synchronous function over the Snapshot and local state. It returns its value, or a Refusal, or
NeedsWaiting: nothing was taken, and `resume()` is a coroutine function that gives the same stage's value.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar, final

from msgspec import Struct

from modelport.core.catalog import Snapshot
from modelport.core.errors import ModelportError
from modelport.core.identity import Credential, Identified

Value = TypeVar("Value")


@final
class Refusal(Struct, frozen=True):
    """This stage says no. `spill_to` names the deployment that may be tried instead, once."""

    error: ModelportError
    spill_to: str | None = None


@final
class NeedsWaiting(Struct, Generic[Value], frozen=True):
    """This stage cannot answer without waiting. Nothing is held until `resume` returns."""

    resume: Callable[[], Awaitable[Value | Refusal]]


class Authenticator(Protocol):
    """Finds out whose a credential is, from the current snapshot. `now`: unix seconds.

    A Refusal leaves the credential to the next authenticator; its error is the caller's answer if no authenticator
    knows the credential. NeedsWaiting: something has to be fetched first, such as a set of signing keys. What `resume`
    raises ends the call at once. A caller that leaves cancels `resume`, so a fetch that others share is shielded.
    """

    def __call__(
        self, credential: Credential, snapshot: Snapshot, now: float
    ) -> Identified | Refusal | NeedsWaiting[Identified]: ...


def passed(outcome: Value | Refusal) -> Value:
    """The stage's value; raises what it refuses with."""
    if isinstance(outcome, Refusal):
        raise outcome.error
    return outcome
