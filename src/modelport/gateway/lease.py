"""The right to one call: what it has reserved, and the record that it leaves behind, once, however it ends."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any, Final

import msgspec

from modelport.core.answers import PlainAnswer
from modelport.core.catalog import Target
from modelport.core.errors import ModelportError, Unavailable, UpstreamGivenUp
from modelport.core.excerpts import optional_excerpt
from modelport.core.ports.money import BudgetHold
from modelport.core.ports.quota import DirectAccount, Reservation
from modelport.core.ports.records import Journal
from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.core.pricing import NONE
from modelport.core.quota import QuotaState, tightest
from modelport.core.requests import Request
from modelport.core.usage import Ending, TokenUsage, UsageRecord, UsageRow, UsageSource
from modelport.gateway.afford import grown
from modelport.gateway.charge import USUAL, Charge
from modelport.gateway.estimate import Need, byte_length
from modelport.gateway.facts import CallFacts
from modelport.gateway.forms import encoded
from modelport.gateway.parts import Meter, Parts
from modelport.gateway.plan import CallPlan
from modelport.gateway.verdicts import FoundCategories
from modelport.gateway.waiting import RUNNING, Turn

UNWRITTEN_RETRY_SECONDS = 5
BEYOND_ANY_COUNT = sys.maxsize
NOTHING: Final = TokenUsage()
ROWS: Final = msgspec.json.Decoder(UsageRow)


class CallLease:
    """One admitted call. Made by `admit`; settled by the machine, always, once."""

    __slots__ = (
        "_first_event_seconds",
        "_left",
        "_parts",
        "_plan",
        "_reservation",
        "_service_tier",
        "accounts",
        "answered_model",
        "charge",
        "covered_tokens",
        "facts",
        "found_categories",
        "hold",
        "is_asked",
        "is_in_one_piece",
        "meter",
        "need",
        "prices",
        "reserved_tokens",
        "settled",
        "taken_at",
        "target",
    )

    _first_event_seconds: float | None
    _left: QuotaState | None
    """What its limits left when it was settled."""
    _reservation: Reservation | None
    _service_tier: str | None
    accounts: tuple[DirectAccount, ...]
    """What it needs has been taken from these, at `taken_at` of the monotonic clock; none: it is reserved in another
    way."""
    answered_model: str | None
    """The name that the target gives its model."""
    found_categories: FoundCategories | None
    """What its content filter has found, where it has one."""
    hold: BudgetHold | None
    """What it can cost, held at its budgets."""
    is_asked: bool
    """A target works on the request, or has worked."""
    is_in_one_piece: bool
    """What it makes shows only when all is made."""
    meter: Meter | None
    target: Target | None
    """Where the call went last."""

    def __init__(self, facts: CallFacts, plan: CallPlan, request: Request, need: Need, parts: Parts) -> None:
        self.facts, self._plan, self.need, self._parts = facts, plan, need, parts
        self.prices = prices = plan.prices(request, need, facts.started_at)
        if prices is not None:
            self.charge = prices.charge
        else:
            self.charge = Charge(plan.caller.snapshot, plan.deployment, request, facts.started_at)
        self.reserved_tokens = need.total
        self.covered_tokens = BEYOND_ANY_COUNT if need.bounded else need.completion
        """So many tokens of answer may be passed on before `cover` must be asked."""
        self.accounts, self.taken_at = (), 0.0
        self.settled = self.is_asked = self.is_in_one_piece = False
        self._reservation = self.hold = self._left = self._first_event_seconds = self._service_tier = None
        self.meter = self.target = self.answered_model = self.found_categories = None

    # --- how it begins -----------------------------------------------------------------------------------------------

    def reserves(self, reservation: Reservation) -> None:
        """What it needs is reserved in this way."""
        self._reservation = reservation

    def opened(self) -> CallLease | Refusal:
        """This, with its line queued."""
        prices, need, facts, plan = self.prices, self.need, self.facts, self._plan
        id, prompt, completion = facts.arrival.id, need.prompt, need.completion
        try:
            if prices is None or not need.total:
                self._parts.journal.open(self._opened())
                return self
            client, price = facts.arrival.client_request_id, prices.unpriced or prices.bound(prompt, completion)
            values = encoded((id, facts.started_at, {"input": prompt, "output": completion}, need.total, client, price))
            self._parts.journal.open_formed(
                id, plan.openings.get(facts.streamed) or plan.opened(facts.streamed), values
            )
        except OSError:
            self.cancel()
            return Refusal(unrecordable())
        except BaseException:
            self.cancel()
            raise
        return self

    def cancel(self) -> None:
        """It has not taken place."""
        self._reserved().cancel()
        if self.hold is not None:
            self.hold.settle(NONE, 0)

    def _reserved(self) -> Reservation:
        if self._reservation is None:
            plan, accounts, self.accounts = self._plan, self.accounts, ()
            self._reservation = self._parts.quota.reserved(accounts, plan.claims, self.need.total, self.taken_at)
        return self._reservation

    # --- its answer --------------------------------------------------------------------------------------------------

    def asked(self, *, shows_progress: bool) -> None:
        """A target works on the request from now on."""
        self.is_asked, self.is_in_one_piece = True, not shows_progress

    def failed(self, error: ModelportError) -> None:
        """The target has ended its work without an answer, unless the gateway has only stopped waiting."""
        if not isinstance(error, UpstreamGivenUp):
            self.is_asked = False

    def covers(self, answer: PlainAnswer) -> bool:
        """Whether this may be all of the answer, as its source has counted it; what is reserved must be enough for
        sure, even if each byte is a token."""
        covered = self.covered_tokens
        return answer.prompt > 0 and (covered == BEYOND_ANY_COUNT or byte_length(answer.text) <= covered)

    def answered(self, model: str | None) -> None:
        """The name that the target gives its model."""
        self.answered_model = model

    def served_as(self, service_tier: str | None) -> None:
        """The tier that the target says it has used."""
        self._service_tier = service_tier

    def first_event(self) -> None:
        """The first event is here; later calls change nothing."""
        if self._first_event_seconds is None:
            self._first_event_seconds = self._parts.clock.monotonic() - self.facts.started

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
        step = max(1, self.need.step)
        tokens = -(-short // step) * step
        taken = self._reserved().top_up(tokens)
        if taken is True:
            return self._cover(tokens)
        if taken or self._plan.deployment.limits.wait_seconds > 0:
            return NeedsWaiting(partial(self._covered_later, tokens, taken))
        return False

    def _cover(self, tokens: int) -> bool | NeedsWaiting[bool]:
        paid = self.hold is None or grown(self.hold, self.charge, self.need, tokens)
        if isinstance(paid, NeedsWaiting):
            return NeedsWaiting(partial(self._paid_later, tokens, paid))
        return self._paid(tokens, paid)

    async def _paid_later(self, tokens: int, needs: NeedsWaiting[bool]) -> bool:
        return self._paid(tokens, (await needs.resume()) is True)

    def _paid(self, tokens: int, is_paid: bool) -> bool:
        reservation = self._reserved()
        if not is_paid or self.settled:
            reservation.give_back(tokens)
            return False
        self.covered_tokens += tokens
        self.reserved_tokens = reservation.reserved_tokens
        self._parts.journal.open(self._opened())
        write_out(self._parts.journal)
        return True

    async def _covered_later(self, tokens: int, taken: bool | NeedsWaiting[bool]) -> bool | Refusal:
        is_taken = taken is True
        if isinstance(taken, NeedsWaiting):
            is_taken = (await taken.resume()) is True
        if not is_taken:
            wait_seconds = self._plan.deployment.limits.wait_seconds
            until = min(self._parts.clock.monotonic() + wait_seconds, self.facts.deadline)
            plan, caller = self._plan, self._plan.caller.principal
            turn = Turn(caller.name, caller.weight, RUNNING, tokens)
            is_taken = await self._parts.quota.topped_up(self._reserved(), tokens, plan.claims, turn, until)
        covered = is_taken and self._cover(tokens)
        return await covered.resume() if isinstance(covered, NeedsWaiting) else covered

    @property
    def reserved_completion(self) -> int:
        """The most that the call may become, as far as it is reserved."""
        return max(0, self.reserved_tokens - self.need.prompt)

    def quota(self) -> QuotaState:
        """What the tightest of the call's limits leave now, or left when it was settled."""
        if self._left is not None:
            return self._left
        plan = self._plan
        if self._reservation is None or plan.budgets:
            return self._parts.quota.state(plan.claims, plan.budgets)
        return self._reservation.state()

    # --- how it ends -------------------------------------------------------------------------------------------------

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
        if usage is None:
            usage = self.meter.usage() if self.meter is not None else NOTHING
        if source is None:
            source = self._source(usage)
        seconds = self._parts.clock.monotonic() - self.facts.started
        priced = self.charge.of(usage, source, ending, self.target, seconds, self._service_tier)
        self.settled = True
        self._give_back(usage.total, seconds)
        if is_our_failure(status) and not usage.total:
            self._parts.quota.failures.note(self.facts.repeat, self._parts.clock.monotonic())
        if self.hold is not None:
            self.hold.settle(NONE if priced.amount is None else priced.amount, usage.total)
        record = self.facts.record(
            ending=ending,
            status=status,
            error_code=optional_excerpt(error_code),
            usage=usage,
            usage_source=source,
            answered_model=optional_excerpt(self.answered_model),
            first_event_seconds=self._first_event_seconds,
            duration_seconds=seconds,
            content_filter=str(self.found_categories or "") or None,
            **self._about_target(),
            **priced.fields,
        )
        self._parts.journal.close(record)
        self._parts.observer.call_ended(record)

    def complete(self, answer: PlainAnswer) -> None:
        """As `settle`, for an answer that came at once and was counted by its source."""
        prices, target, parts, usage = self.prices, self.target, self._parts, answer.usage
        prompt, completion, tier = answer.prompt, answer.completion, answer.service_tier
        assert target is not None
        self.answered_model, self._service_tier = answer.model, tier
        seconds = parts.clock.monotonic() - self.facts.started
        if prices is None or not self.need.total or (tier is not None and tier not in USUAL):
            self._first_event_seconds = seconds
            usage = usage or TokenUsage(input=prompt, output=completion)
            self.settle(Ending.COMPLETED, usage, source=UsageSource.REPORTED)
            return
        amount, price = None, prices.unpriced
        if price is None:
            used = usage or TokenUsage(input=prompt, output=completion)
            priced = prices.charge.of(used, UsageSource.REPORTED, Ending.COMPLETED, target, seconds)
            amount, price = priced.amount, prices.written(priced)
        total, reserved, plan, facts = prompt + completion, self.reserved_tokens, self._plan, self.facts
        arrival, named = facts.arrival, plan.named.get(answer.model) or plan.named_json(answer.model)
        made, client = usage or {"input": prompt, "output": completion}, arrival.client_request_id
        values = encoded((arrival.id, facts.started_at, named, made, reserved, seconds, seconds, client, price))
        self.settled = True
        self._give_back(total, seconds)
        if self.hold is not None:
            self.hold.settle(NONE if amount is None else amount, total)
        form = plan.closings.get(id(target)) or plan.closed(target)
        parts.journal.close_formed(arrival.id, form, values)
        if usage is None:
            (plan.counted or plan.series()).completed(form, values, seconds, prompt, completion, reserved)
        else:
            parts.observer.call_ended(ROWS.decode(form.filled(values)).record())

    def _give_back(self, tokens: int, seconds: float) -> None:
        """Books what was used, and gives back the rest."""
        plan, parts = self._plan, self._parts
        if self._reservation is not None:
            self._left = self.quota()
            self._reservation.settle(tokens)
            return
        now, reserved, accounts = self.facts.started + seconds, self.need.total, self.accounts
        if len(accounts) == 1 and not plan.budgets:
            self._left = accounts[0].settle(plan.deployment.limits, reserved, tokens, seconds, now)
            return
        left = []
        for account, claim in zip(accounts, plan.claims):  # noqa: B905 - as many
            left.append(account.settle(claim.limits, reserved, tokens, seconds, now))
        if plan.budgets and parts.quota.budgets is not None:
            left += parts.quota.budgets.states(plan.budgets, self.facts.started_at + seconds, left[0].remaining_tokens)
        self._left = tightest(left)

    def _source(self, usage: TokenUsage) -> UsageSource:
        if not usage.total:
            return UsageSource.NONE
        return self.meter.source if self.meter is not None else UsageSource.REPORTED

    def _opened(self) -> UsageRecord:
        """The record as it would stand if nothing more were ever heard of the call: all that is reserved, by class."""
        reserved = self.reserved_tokens
        prompt = min(reserved, self.need.prompt)
        return self.facts.record(
            ending=Ending.LOST,
            status=0,
            usage=TokenUsage(input=prompt, output=reserved - prompt),
            usage_source=UsageSource.ESTIMATED if reserved else UsageSource.NONE,
            **self._about_target(),
            **self.charge.bound(prompt, reserved - prompt).fields,
        )

    def _about_target(self) -> dict[str, Any]:
        target = self.target
        return {
            "target": None if target is None else f"{target.provider}/{target.model}",
            "provider": None if target is None else target.provider,
            "reserved_tokens": self.reserved_tokens,
        }


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
