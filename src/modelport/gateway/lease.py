"""The right to one call: what it has reserved, and the record that it leaves behind, once, however it ends."""

from __future__ import annotations

import sys
from functools import partial
from typing import Protocol

from msgspec.structs import replace

from modelport.core.catalog import Deployment, Target
from modelport.core.clock import Clock
from modelport.core.errors import Unavailable
from modelport.core.ports.quota import Reservation
from modelport.core.ports.records import Journal, Observer
from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.core.quota import QuotaState
from modelport.core.usage import Ending, TokenUsage, UsageRecord, UsageSource
from modelport.gateway.admissions import Admissions, Asked
from modelport.gateway.afford import CallHold
from modelport.gateway.charge import NOT_PRICED, Charge
from modelport.gateway.estimate import Need
from modelport.gateway.facts import NOTHING, CallFacts

UNWRITTEN_RETRY_SECONDS = 5
BEYOND_ANY_COUNT = sys.maxsize


class Meter(Protocol):
    """Whatever counts a call's tokens; `gateway.count.Count` is one."""

    def usage(self) -> TokenUsage:
        """What was made until now."""
        ...

    @property
    def source(self) -> UsageSource:
        """Where those counts come from."""
        ...


class CallLease:
    """One admitted call. Made by `admit`; settled by the driver, always, once."""

    __slots__ = (
        "_admissions",
        "_answered_model",
        "_asked",
        "_bounded",
        "_charge",
        "_clock",
        "_facts",
        "_first_event_seconds",
        "_hold",
        "_journal",
        "_observer",
        "_prompt_tokens",
        "_reservation",
        "_service_tier",
        "_step",
        "_target",
        "_wait_seconds",
        "covered_tokens",
        "meter",
        "settled",
    )

    def __init__(
        self,
        facts: CallFacts,
        deployment: Deployment,
        need: Need,
        reservation: Reservation,
        journal: Journal,
        observer: Observer,
        clock: Clock,
        *,
        admissions: Admissions | None = None,
        asked: Asked | None = None,
        charge: Charge | None = None,
        hold: CallHold | None = None,
        is_open: bool = False,
    ) -> None:
        facts.deployment = deployment.name
        self._charge = charge
        self._hold = hold
        self._admissions = admissions
        self._asked = asked
        self._wait_seconds = deployment.limits.wait_seconds
        self._facts = facts
        self._reservation = reservation
        self._journal = journal
        self._observer = observer
        self._clock = clock
        self._bounded = need.bounded
        self._prompt_tokens = need.prompt
        self._step = max(1, need.step)
        self._target: Target | None = None
        self._answered_model: str | None = None
        self._service_tier: str | None = None
        self._first_event_seconds: float | None = None
        self.covered_tokens = BEYOND_ANY_COUNT if need.bounded else need.completion
        """So many tokens of answer may be passed on before `cover` must be asked."""
        self.meter: Meter | None = None
        self.settled = False
        if not is_open:  # its line is queued
            journal.open(self._opened())

    @property
    def target(self) -> Target | None:
        """Where the call went last."""
        return self._target

    def asked(self, target: Target) -> None:
        """The call goes to this target now."""
        self._target = target

    def answered(self, model: str | None) -> None:
        """The name that the target gives its model."""
        self._answered_model = model

    def served_as(self, service_tier: str | None) -> None:
        """The tier that the target says it has used."""
        self._service_tier = service_tier

    def first_event(self) -> None:
        """The first event is here; later calls change nothing."""
        if self._first_event_seconds is None:
            self._first_event_seconds = self._clock.monotonic() - self._facts.started

    def cover(self, output_tokens: int) -> bool | NeedsWaiting[bool]:
        """Makes sure that the reservation holds so many tokens of answer, in equal steps; False if the limit forbids.
        NeedsWaiting: room may come, or a store has to be asked; until then nothing more may be passed on.

        A larger reservation is with the kernel before this returns, so that what is made under it is not lost with the
        process. Raises Unavailable if it cannot be written. A call that named its `max_tokens` always passes: what it
        takes beyond that is booked at the end.
        """
        short = output_tokens - self.covered_tokens
        if short <= 0:
            return True
        tokens = -(-short // self._step) * self._step
        taken = self._reservation.top_up(tokens)
        if taken is True:
            return self._cover(tokens)
        if taken or self._wait_seconds > 0:
            return NeedsWaiting(partial(self._covered_later, tokens, taken))
        return False

    def _cover(self, tokens: int) -> bool | NeedsWaiting[bool]:
        paid = self._hold is None or self._hold.top_up(tokens)
        if isinstance(paid, NeedsWaiting):
            return NeedsWaiting(partial(self._paid_later, tokens, paid))
        return self._paid(tokens, paid)

    async def _paid_later(self, tokens: int, needs: NeedsWaiting[bool]) -> bool:
        return self._paid(tokens, (await needs.resume()) is True)

    def _paid(self, tokens: int, is_paid: bool) -> bool:
        if not is_paid or self.settled:
            self._reservation.give_back(tokens)
            return False
        self.covered_tokens += tokens
        self._journal.open(self._opened())
        write_out(self._journal)
        return True

    async def _covered_later(self, tokens: int, taken: bool | NeedsWaiting[bool]) -> bool | Refusal:
        is_taken = taken is True
        if isinstance(taken, NeedsWaiting):
            is_taken = (await taken.resume()) is True
        if not is_taken and self._admissions is not None and self._asked is not None:
            until = self._clock.monotonic() + self._wait_seconds
            if self._facts.deadline is not None:
                until = min(until, self._facts.deadline)
            is_taken = await self._admissions.topped_up(self._reservation, tokens, replace(self._asked, until=until))
        covered = is_taken and self._cover(tokens)
        return await covered.resume() if isinstance(covered, NeedsWaiting) else covered

    @property
    def reserved_completion(self) -> int:
        """The most that the call may become, as far as it is reserved."""
        return max(0, self._reservation.reserved_tokens - self._prompt_tokens)

    def quota(self) -> QuotaState:
        """What the tightest of the call's limits leave now."""
        asked, admissions = self._asked, self._admissions
        if asked is None or admissions is None or not asked.budgets:
            return self._reservation.state()
        return admissions.state(asked)

    def settle(
        self,
        ending: str,
        usage: TokenUsage | None = None,
        *,
        status: int = 200,
        error_code: str | None = None,
        source: UsageSource | None = None,
    ) -> None:
        """Ends the call: gives back what was not used, queues its `close` line, tells the observer. Synchronous and
        idempotent: the first call counts. Without `usage`, it is what the meter says was made."""
        if self.settled:
            return
        self.settled = True
        if usage is None:
            usage = self.meter.usage() if self.meter is not None else NOTHING
        if source is None:
            source = self._source(usage)
        self._reservation.settle(usage.total)
        if self._admissions is not None and is_our_failure(status) and not usage.total:
            self._admissions.failures.note(self._facts.repeat, self._clock.monotonic())
        duration_seconds = self._clock.monotonic() - self._facts.started
        priced = NOT_PRICED
        if self._charge is not None:
            priced = self._charge.of(usage, source, ending, self._target, duration_seconds, self._service_tier)
        if self._hold is not None:
            self._hold.settle(priced.amount, usage.total)
        record = self._facts.record(
            ending=ending,
            status=status,
            error_code=error_code,
            usage=usage,
            usage_source=source,
            answered_model=self._answered_model,
            target=self._target_name(),
            reserved_tokens=self._reservation.reserved_tokens,
            first_event_seconds=self._first_event_seconds,
            duration_seconds=duration_seconds,
            provider=self._target.provider if self._target is not None else None,
            priced=priced,
        )
        self._journal.close(record)
        self._observer.call_ended(record)

    def _source(self, usage: TokenUsage) -> UsageSource:
        if not usage.total:
            return UsageSource.NONE
        return self.meter.source if self.meter is not None else UsageSource.REPORTED

    def _opened(self) -> UsageRecord:
        """The record as it would stand if nothing more were ever heard of the call: all that is reserved, by class."""
        reserved = self._reservation.reserved_tokens
        prompt = min(reserved, self._prompt_tokens)
        return self._facts.record(
            ending=Ending.LOST,
            status=0,
            usage=TokenUsage(input=prompt, output=reserved - prompt),
            usage_source=UsageSource.ESTIMATED if reserved else UsageSource.NONE,
            target=self._target_name(),
            reserved_tokens=reserved,
            provider=self._target.provider if self._target is not None else None,
            priced=self._charge.bound(prompt, reserved - prompt) if self._charge is not None else NOT_PRICED,
        )

    def _target_name(self) -> str | None:
        return f"{self._target.provider}/{self._target.model}" if self._target is not None else None


def is_our_failure(status: int) -> bool:
    """Whether the caller may come again with the same call and be excused."""
    return status == 429 or status >= 500


def write_out(journal: Journal) -> None:
    """Puts every queued line with the kernel. Raises Unavailable: what cannot be recorded is not served."""
    try:
        journal.flush()
    except OSError as cause:
        raise unrecordable() from cause


def unrecordable() -> Unavailable:
    """The caller's view of a journal that takes no lines. Nothing of the cause is told."""
    return Unavailable("The server cannot record this call now.", retry_after=UNWRITTEN_RETRY_SECONDS)
