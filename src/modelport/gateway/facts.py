"""What is known of a call, and the record made from it; also of calls that never held a lease."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from modelport.core.clock import Clock
from modelport.core.errors import ModelportError, TooManyFailures
from modelport.core.excerpts import optional_excerpt
from modelport.core.ports.records import Journal, Observer, UnknownCaller
from modelport.core.usage import Ending, UsageRecord
from modelport.gateway.admissions import Repeat
from modelport.gateway.call import Arrival, CallHead
from modelport.gateway.charge import nothing_made
from modelport.gateway.plan import Caller, CallPlan


class CallFacts(Struct, frozen=True):
    """One call: who asks and when, and how much is known of what it asks."""

    arrival: Arrival
    caller: Caller
    started_at: float
    """Unix seconds."""
    started: float
    """The same moment on the monotonic clock, which durations are measured by."""
    plan: CallPlan | None = None
    streamed: bool = False
    requested_model: str | None = None
    """Where there is no plan."""

    @property
    def deadline(self) -> float:
        """The moment of the monotonic clock at which nobody waits for the answer any more."""
        return self.started + self.arrival.request_seconds

    @property
    def repeat(self) -> Repeat | None:
        """What a repetition of this call is recognised by."""
        id = self.arrival.client_request_id
        return None if id is None else (self.caller.principal.name, id)

    def record(self, **about: Any) -> UsageRecord:
        """The immutable line."""
        known = {
            "id": self.arrival.id,
            "started_at": self.started_at,
            "client_request_id": self.arrival.client_request_id,
            "streamed": self.streamed,
            **about,
        }
        if self.plan is not None:
            return self.plan.record(**known)
        return self.caller.record(requested_model=optional_excerpt(self.requested_model), **known)


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
        error_code=optional_excerpt(error_code),
        duration_seconds=clock.monotonic() - facts.started,
        **nothing_made(facts.caller.snapshot.prices).fields,
    )
    journal.close(record)
    observer.call_ended(record)


def note_unauthenticated(
    arrival: Arrival, head: CallHead, error: ModelportError, observer: Observer, clock: Clock
) -> None:
    """Counts a call of nobody we know. It leaves no record: anyone could fill the journal."""
    observer.call_started(head.operation, head.surface)
    record = UsageRecord(
        id=arrival.id,
        started_at=clock.now(),
        principal="",
        key_id=None,
        surface=head.surface,
        operation=head.operation,
        streamed=False,
        requested_model=None,
        deployment=None,
        status=error.status,
        ending=Ending.REFUSED,
        error_code=optional_excerpt(error.code),
        client_request_id=arrival.client_request_id,
    )
    is_logged = not isinstance(error, TooManyFailures) or error.is_logged
    observer.call_ended(record, UnknownCaller(error.reason, head.credential.peer.address, is_logged))


def ended_by(error: ModelportError, has_begun: bool, is_answered: bool) -> tuple[Ending, int, str]:
    """What the record says of a call that ended like this; its status is the one that the caller saw: 200 if the head
    of its answer was written."""
    ending = Ending.FAILED if has_begun or error.status >= 500 else Ending.REFUSED
    return ending, 200 if is_answered else error.status, error.code
