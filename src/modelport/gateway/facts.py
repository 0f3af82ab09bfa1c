"""What is known of a call, stage by stage, and the record made from it; also of calls that never held a lease."""

from __future__ import annotations

from modelport.core.budgets import Budget
from modelport.core.catalog import RateLimits, Snapshot
from modelport.core.clock import Clock
from modelport.core.errors import ModelportError, Unauthenticated
from modelport.core.excerpts import optional_excerpt
from modelport.core.identity import Principal
from modelport.core.ports.money import PriceBook
from modelport.core.ports.records import Journal, Observer
from modelport.core.usage import Ending, TokenUsage, UsageRecord, UsageSource
from modelport.gateway.admissions import Repeat
from modelport.gateway.call import CallHead
from modelport.gateway.charge import NOT_PRICED, Priced, nothing_made

NOTHING = TokenUsage()


class CallFacts:
    """What is known of a call so far. The driver adds to it stage by stage; only the record made from it is kept."""

    __slots__ = (
        "budgets",
        "client_request_id",
        "deadline",
        "deployment",
        "id",
        "key_id",
        "limits",
        "operation",
        "prices",
        "principal",
        "project",
        "requested_model",
        "snapshot",
        "spilled_from",
        "started",
        "started_at",
        "streamed",
        "surface",
        "weight",
    )

    def __init__(
        self,
        *,
        id: str,
        surface: str,
        operation: str,
        principal: str,
        key_id: str | None,
        snapshot: str | None,
        started_at: float,
        started: float,
        client_request_id: str | None = None,
        limits: RateLimits | None = None,
        weight: int = 1,
        deadline: float | None = None,
        project: str | None = None,
        budgets: tuple[Budget, ...] = (),
        prices: PriceBook | None = None,
    ) -> None:
        self.id = id
        self.surface = surface
        self.operation = operation
        self.principal = principal
        self.key_id = key_id
        self.snapshot = snapshot
        self.started_at = started_at
        """Unix seconds."""
        self.started = started
        """The same moment on the monotonic clock, which durations are measured by."""
        self.client_request_id = client_request_id
        self.limits = limits
        """The caller's own, beside the deployment's."""
        self.weight = weight
        self.deadline = deadline
        """The moment of the monotonic clock at which nobody waits for the answer any more."""
        self.project = project
        self.budgets = budgets
        """The caller's and its project's, beside the deployment's."""
        self.prices = prices
        self.streamed = False
        self.requested_model: str | None = None
        self.deployment: str | None = None
        self.spilled_from: str | None = None

    @classmethod
    def of(cls, call: CallHead, principal: Principal, snapshot: Snapshot, clock: Clock) -> CallFacts:
        """The facts at the moment that we know who asks."""
        return cls(
            id=call.request_id,
            surface=call.surface,
            operation=call.operation,
            principal=principal.name,
            key_id=principal.key_id,
            snapshot=snapshot.id,
            started_at=clock.now(),
            started=clock.monotonic(),
            client_request_id=call.client_request_id,
            limits=principal.limits,
            weight=principal.weight,
            deadline=call.deadline,
            project=principal.project,
            budgets=principal.budgets,
            prices=snapshot.prices,
        )

    @property
    def repeat(self) -> Repeat | None:
        """What a repetition of this call is recognised by."""
        return None if self.client_request_id is None else (self.principal, self.client_request_id)

    def asked(self, streamed: bool, requested_model: str | None) -> None:
        """The body is read."""
        self.streamed = streamed
        self.requested_model = optional_excerpt(requested_model)

    def record(
        self,
        *,
        ending: str,
        status: int,
        error_code: str | None = None,
        usage: TokenUsage = NOTHING,
        usage_source: str = UsageSource.NONE,
        answered_model: str | None = None,
        target: str | None = None,
        reserved_tokens: int = 0,
        first_event_seconds: float | None = None,
        duration_seconds: float = 0.0,
        provider: str | None = None,
        priced: Priced = NOT_PRICED,
    ) -> UsageRecord:
        """The immutable line."""
        return UsageRecord(
            id=self.id,
            started_at=self.started_at,
            principal=self.principal,
            key_id=self.key_id,
            surface=self.surface,
            operation=self.operation,
            streamed=self.streamed,
            requested_model=self.requested_model,
            deployment=self.deployment,
            answered_model=optional_excerpt(answered_model),
            target=target,
            status=status,
            ending=ending,
            error_code=optional_excerpt(error_code),
            usage=usage,
            usage_source=usage_source,
            reserved_tokens=reserved_tokens,
            first_event_seconds=first_event_seconds,
            duration_seconds=duration_seconds,
            client_request_id=self.client_request_id,
            snapshot=self.snapshot,
            spilled_from=self.spilled_from,
            cost=priced.cost,
            currency=priced.currency,
            price_version=priced.version,
            pricing=priced.pricing,
            project=self.project,
            provider=provider,
            service_tier=priced.service_tier,
        )


def record_refusal(
    facts: CallFacts,
    ending: str,
    status: int,
    error_code: str | None,
    journal: Journal,
    observer: Observer,
    clock: Clock,
) -> None:
    """Leaves the one record of a call that never held a lease: refused (404, 422, 429 …), failed or hung up."""
    record = facts.record(
        ending=ending,
        status=status,
        error_code=error_code,
        duration_seconds=clock.monotonic() - facts.started,
        priced=nothing_made(facts.prices),
    )
    journal.close(record)
    observer.call_ended(record)


def note_unauthenticated(call: CallHead, error: ModelportError, observer: Observer, clock: Clock) -> None:
    """Counts a call of nobody we know. It leaves no record: anyone could fill the journal."""
    facts = CallFacts(
        id=call.request_id,
        surface=call.surface,
        operation=call.operation,
        principal="",
        key_id=None,
        snapshot=None,
        started_at=clock.now(),
        started=clock.monotonic(),
        client_request_id=call.client_request_id,
    )
    observer.call_started(call.operation, call.surface)
    reason = error.reason if isinstance(error, Unauthenticated) else None
    observer.call_ended(facts.record(ending=Ending.REFUSED, status=error.status, error_code=error.code), reason)


def ended_by(error: ModelportError, is_streamed: bool, has_begun: bool) -> tuple[Ending, int, str]:
    """What the record says of a call that ended like this; its status is the one that the caller saw."""
    ending = Ending.FAILED if has_begun or error.status >= 500 else Ending.REFUSED
    return ending, 200 if has_begun and is_streamed else error.status, error.code
