"""What the gateway needs of others, as promises. Push-style and sans-I/O where it can be, so that two drivers
(coroutines now, protocol callbacks later) run the same stages.

A *stage* is a plain synchronous function over the Snapshot and local state. It returns its value, or a Refusal, or
NeedsWaiting: nothing was taken, and `resume()` is a coroutine function that gives the same stage's value.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from decimal import Decimal
from typing import Any, Generic, Literal, Protocol, TypeVar, runtime_checkable

from msgspec import Struct

from modelport.core.budgets import Budget, BudgetCrossed
from modelport.core.catalog import Deployment, RateLimits, Snapshot, Target, Timeouts
from modelport.core.errors import ModelportError
from modelport.core.events import Event
from modelport.core.identity import Principal
from modelport.core.operations import Operation
from modelport.core.pricing import Price, ServiceTier, UnpricedPolicy
from modelport.core.quota import QuotaState as QuotaState
from modelport.core.requests import Request
from modelport.core.usage import UsageRecord

Value = TypeVar("Value")


class Refusal(Struct, frozen=True):
    """This stage says no. `spill_to` names the deployment that may be tried instead, once."""

    error: ModelportError
    spill_to: str | None = None


class NeedsWaiting(Struct, Generic[Value], frozen=True):
    """This stage cannot answer without waiting. Nothing is held until `resume` returns."""

    resume: Callable[[], Awaitable[Value | Refusal]]


# --- providers -----------------------------------------------------------------------------------------------------


class UpstreamRequest(Struct, frozen=True):
    """One HTTP request to a target, without its address: the transport knows where."""

    path: str
    """Below the target's base address, with the leading slash."""
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    streamed: bool = False
    method: str = "POST"


class Decoder(Protocol):
    """Turns one successful answer's bytes into events, however they are cut."""

    def feed(self, data: bytes) -> list[Event]:
        """The events completed by `data`. Raises UpstreamFailed when it cannot be an answer."""
        ...

    def end(self) -> list[Event]:
        """The body has ended. Raises UpstreamFailed when the answer was cut short."""
        ...


@runtime_checkable
class Provider(Protocol):
    """A codec plus an address: it opens no socket."""

    @property
    def address(self) -> Address:
        """Where it is now. Asked before each request: a restarted worker has moved."""
        ...

    def encode(self, request: Request, target: Target) -> UpstreamRequest:
        """The upstream's own request. Raises ModelportError when this provider cannot ask that."""
        ...

    def decoder(self, request: Request) -> Decoder:
        """A fresh decoder for one answer."""
        ...

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ModelportError:
        """Our error for the upstream's. Header names are lower case; `body` is at most 64 KiB of it."""
        ...


@runtime_checkable
class OpeningProvider(Protocol):
    """A provider that makes its events itself (the scripted one). Closing the iterator cancels the work."""

    def open(self, request: Request, target: Target) -> AsyncIterator[Event]:
        """The answer's events. Raises ModelportError before or between them."""
        ...


@runtime_checkable
class Readiness(Protocol):
    """A provider that is not always ready: an engine that loads."""

    def readiness(self) -> Refusal | NeedsWaiting[None] | None:
        """None: ready now. A Refusal is a 503 with Retry-After."""
        ...


class Address(Struct, frozen=True):
    """Where a provider is. `unix_socket` wins over the host of `base_url`, whose path is kept."""

    base_url: str
    unix_socket: str | None = None
    verify_tls: bool = True
    ca_file: str | None = None
    proxy: str | None = None


class Transport(Protocol):
    """Sends one request and hands back the answer as it comes. One pool per address; closing cancels upstream."""

    def send(self, address: Address, request: UpstreamRequest, timeouts: Timeouts) -> UpstreamExchange:
        """An async context manager; leaving it early aborts the upstream's work.

        Raises UpstreamFailed / UpstreamTimedOut on entering and while iterating."""
        ...

    async def close(self) -> None:
        """Ends every pool."""
        ...


class UpstreamExchange(Protocol):
    """One request under way."""

    async def __aenter__(self) -> UpstreamAnswer: ...

    async def __aexit__(self, *exc: object) -> None: ...


class UpstreamAnswer(Protocol):
    """Status and headers are here; the body comes as it is read. `first_event` and `between_events` bound the reads."""

    status: int
    headers: Mapping[str, str]

    def chunks(self) -> AsyncIterator[bytes]:
        """The body, as read."""
        ...

    async def body(self, limit: int) -> bytes:
        """At most `limit` bytes of it (for error bodies)."""
        ...


class Runtime(Protocol):
    """The live things behind a snapshot."""

    transport: Transport

    def provider(self, name: str) -> Provider | OpeningProvider:
        """The provider of this name."""
        ...


# --- dispatch ------------------------------------------------------------------------------------------------------


class Send(Struct, frozen=True):
    """Ask this target now."""

    target: Target


class Wait(Struct, frozen=True):
    """Ask again at this moment of the monotonic clock."""

    until: float


class GiveUp(Struct, frozen=True):
    """No target is left to try."""

    error: ModelportError


class TargetFailed(Struct, frozen=True):
    """What came of a Send, before its first event."""

    target: Target
    error: ModelportError


Step = Send | Wait | GiveUp


class Dispatch(Protocol):
    """A clockless state machine: which target is asked, in which order, and when to stop trying."""

    def next(self, outcome: TargetFailed | None, now: float) -> Step:
        """The next step; `outcome` is None at the start. `now` is the monotonic clock's."""
        ...


# --- money --------------------------------------------------------------------------------------------------------


class PriceBook(Protocol):
    """The prices that a snapshot holds. Asked once a call, so it answers from memory."""

    @property
    def version(self) -> str:
        """A short hash of every price in it and of how they are looked up."""
        ...

    @property
    def currency(self) -> str:
        """That of every price which it gives."""
        ...

    @property
    def unpriced(self) -> UnpricedPolicy:
        """What becomes of calls that it has no price for."""
        ...

    def price(
        self, deployment: Deployment, target: Target, started_at: float, tier: ServiceTier = "standard"
    ) -> Price | None:
        """What this target's answer costs in a call that started at this moment (unix seconds). None: not known."""
        ...


class BudgetRefusal(Struct, frozen=True):
    """Which budget has no room for the call, and when it begins anew (unix seconds)."""

    budget: Budget
    resets_at: float


class BudgetHold(Protocol):
    """What one call has taken from its budgets. It counts in the windows in which it began, however long it lasts."""

    def top_up(self, amount: Decimal, tokens: int) -> bool | NeedsWaiting[bool]:
        """Takes more; False (and nothing taken) if a budget has no room for it. NeedsWaiting: a store has to be asked
        first; what its `resume` gives is final."""
        ...

    def settle(self, amount: Decimal, tokens: int) -> None:
        """Books what was used and gives back the rest. Only the first call counts."""
        ...


Afforded = BudgetHold | BudgetRefusal | Refusal
"""What budgets say once they know."""


class Budgets(Protocol):
    """What may be spent in a day or month. Settled and held together stay within each budget where what is held bounds
    what is used; what goes beyond is booked all the same."""

    def reserve(
        self, budgets: tuple[Budget, ...], amount: Decimal, tokens: int, now: float
    ) -> Afforded | NeedsWaiting[Afforded]:
        """Takes from all of them in one step, or from none. `now` is in unix seconds. NeedsWaiting: a store has to be
        asked first. A Refusal: the store is gone."""
        ...

    def on_crossing(self, tell: Callable[[BudgetCrossed], None]) -> None:
        """`tell` is called when a budget reaches a threshold. It must not block or raise."""
        ...


# --- quota, journal, metrics ---------------------------------------------------------------------------------------


class QuotaRefusal(Struct, frozen=True):
    """Which limit said no, and in how many seconds it may say yes."""

    kind: Literal["requests", "tokens", "concurrency"]
    limit: int
    retry_after_seconds: int
    state: QuotaState = QuotaState()


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

    def when_freed(self, wake: Callable[[], None] | None) -> None:
        """`wake` is called whenever something may have been given back; None: nobody waits any more."""
        ...


class DirectAccount(Protocol):
    """What one subject has taken, where that is in this process's memory: the same steps as Quota's and Reservation's,
    for who knows beforehand that nothing special will happen."""

    is_open: bool
    """Once it is not, ask the quota for the subject's account again."""

    def take(self, limits: RateLimits, tokens: int, now: float) -> bool:
        """One request and so many tokens, or nothing. Whoever is refused asks Quota.reserve for the reason."""
        ...

    def settle(
        self, limits: RateLimits, reserved: int, actual: int, seconds: float, now: float
    ) -> tuple[int, int, int, int]:
        """Books what was used, gives back the rest. `seconds`: how long it was held. What was left before that:
        (requests, seconds until all is back, tokens, the same seconds); 0 for what has no limit."""
        ...


@runtime_checkable
class DirectQuota(Protocol):
    """A Quota in this process's memory."""

    def account(self, subject: str, now: float) -> DirectAccount: ...

    def held(self, account: Any, limits: RateLimits, tokens: int, now: float) -> Reservation:
        """The reservation of what was taken from this account at that moment."""
        ...


class Journal(Protocol):
    """Append-only and local. Lines are with the kernel when `flush` returns: one `os.write` for all of them."""

    def open(self, record: UsageRecord) -> None:
        """The call holds a reservation (`record.reserved_tokens`)."""
        ...

    def close(self, record: UsageRecord) -> None:
        """The call has ended: its final record. A call that was refused before `open` has only this line."""
        ...

    def open_encoded(self, id: str, record: bytes) -> None:
        """As `open`, with the record as the JSON of a core.usage.UsageRow: who makes many alike writes them from a form
        (gateway/forms.py)."""
        ...

    def close_encoded(self, id: str, record: bytes) -> None:
        """As `close`, likewise."""
        ...

    def flush(self) -> None:
        """Writes every line queued since the last flush. Raises OSError (a full disk)."""
        ...


class Observer(Protocol):
    """Metrics and the access line; cheap, never raises."""

    def call_started(self, operation: Operation, surface: str) -> None: ...

    def call_ended(self, record: UsageRecord) -> None: ...

    def series(self, surface: str, operation: Operation, deployment: str) -> Series:
        """Where completed calls of one kind are told of, without a record of each being made."""
        ...


class Series(Protocol):
    """Calls of one surface, operation and deployment that are answered whole with a 200."""

    in_flight: int
    """How many are under way. Who counts one here does not tell `call_started` of it."""

    def completed(self, record: bytes, seconds: float, prompt: int, completion: int, reserved: int) -> None:
        """As `call_ended` with this record (the JSON of a core.usage.UsageRow), and one less under way. All its tokens
        are of the two usual classes, and the first event came with the last."""
        ...


class Authenticator(Protocol):
    """Finds out whose a credential is, from the current snapshot."""

    def __call__(self, shown: tuple[str, ...], snapshot: Snapshot, now: float) -> Principal | Refusal: ...


class StoreState(Struct, frozen=True):
    """A store that this process shares with others. `degraded`: it does not answer, and calls go on as was declared;
    `gone`: they do not."""

    name: str
    state: Literal["ready", "degraded", "gone"]
    reason: str | None = None


class DeploymentState(Struct, frozen=True):
    """What an operator sees of a deployment, and why, in one line."""

    deployment: Deployment
    state: Literal["ready", "loading", "restarting", "failed", "unloaded"]
    reason: str | None = None
