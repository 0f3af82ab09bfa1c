"""The way, top to bottom: what happens to every inference call, whatever door it came in by.

    identify → read and decode → resolve → authorize → shape → admit → guard → dispatch → count → guard → answer

This is the coroutine driver. The stages are synchronous functions over the snapshot and local state; only reading the
body, asking a target and what says NeedsWaiting are awaited. From the moment we know who asks, the call leaves exactly
one record, however it ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from random import Random
from typing import TypeVar

from modelport.core.catalog import Deployment, Snapshot, Target
from modelport.core.clock import Clock
from modelport.core.errors import (
    InternalError,
    ModelportError,
    RateLimited,
    TokensLimitReached,
    UpstreamFailed,
    UpstreamGivenUp,
)
from modelport.core.events import Event
from modelport.core.identity import Principal
from modelport.core.ports.dispatch import GiveUp, Send, TargetFailed, Wait
from modelport.core.ports.money import Budgets
from modelport.core.ports.providers import OpeningProvider, Provider, Readiness, Runtime
from modelport.core.ports.quota import Quota
from modelport.core.ports.records import Journal, Observer
from modelport.core.ports.stages import Authenticator, NeedsWaiting, Refusal
from modelport.core.redaction import Redactor
from modelport.core.requests import Request
from modelport.core.usage import Ending
from modelport.gateway import guard
from modelport.gateway.admissions import Admissions
from modelport.gateway.admit import admit
from modelport.gateway.ask import ask
from modelport.gateway.authorize import authorize
from modelport.gateway.call import Answer, Call
from modelport.gateway.count import Count
from modelport.gateway.dispatch import InOrder
from modelport.gateway.facts import CallFacts, note_unauthenticated, record_refusal
from modelport.gateway.identify import identify
from modelport.gateway.lease import CallLease, write_out
from modelport.gateway.resolve import requested_model, resolve
from modelport.gateway.shape import Shaped, shape
from modelport.gateway.target_failures import TargetFailures
from modelport.gateway.waiting import until_ready

T = TypeVar("T")
ERROR_BODY_BYTES = 64 * 1024


class Pipeline:
    """The coroutine driver. One per process; holds no state of a call."""

    def __init__(
        self,
        *,
        snapshot: Callable[[], Snapshot],
        runtime: Runtime,
        authenticators: Sequence[Authenticator],
        quota: Quota,
        journal: Journal,
        observer: Observer,
        clock: Clock,
        random: Random,
        budgets: Budgets | None = None,
        redactor: Redactor | None = None,
    ) -> None:
        self.snapshot = snapshot
        self.runtime = runtime
        self.authenticators = authenticators
        self.quota = Admissions.over(quota, clock)
        self.quota.budgets = budgets if budgets is not None else self.quota.budgets
        self.journal = journal
        self.observer = observer
        self.clock = clock
        self.random = random
        self.target_failures = TargetFailures(redactor or Redactor(), clock)

    @asynccontextmanager
    async def run(self, call: Call) -> AsyncIterator[Answer]:
        """The answer, once its first event exists. Leaving early stops the work; leaving always settles.

        Raises ModelportError for every refusal and for every failure before the first event."""
        snapshot, runtime = self.snapshot(), self.runtime
        principal = self._identified(call, snapshot)
        facts = CallFacts.of(call, principal, snapshot, self.clock)
        self.observer.call_started(call.operation, call.surface)
        lease: CallLease | None = None
        ending, status, code = Ending.CANCELLED, 499, None
        count: Count | None = None
        try:
            request = ask(call, await call.read(), snapshot, principal)
            facts.asked(request.stream, requested_model(call.selector, request.model))
            deployment = passed(resolve(call.selector, request.model, request.operation, snapshot, principal))
            facts.deployment = deployment.name
            deployment, shaped, lease = await self._admitted(call, request, principal, deployment, facts, snapshot)
            request = shaped.request
            await self._cleared(guard.prompt(request, deployment))
            write_out(self.journal)
            count = Count(lease, request, can_wait=True)
            async with aclosing(self._counted(request, deployment, lease, count, runtime)) as events:
                first = await anext(events, None)
                yield Answer(
                    request=request,
                    deployment=deployment,
                    principal=principal,
                    snapshot=snapshot,
                    events=joined(first, events),
                    dropped=not_carried_out(request, shaped.dropped, provider_of(lease, runtime)),
                    quota=lease.quota(),
                )
            ending, status = Ending.COMPLETED if lease.settled else Ending.CANCELLED, 200
        except ModelportError as error:
            ending, status, code = ended_by(error, facts, count)
            raise
        except (asyncio.CancelledError, GeneratorExit):
            if (told := call.why_cancelled()) is not None:
                ending, status, code = ended_by(told, facts, count)
            raise
        except Exception:
            ending, status, code = Ending.FAILED, 500, InternalError.code
            raise
        finally:
            if lease is None:
                record_refusal(facts, ending, status, code, self.journal, self.observer, self.clock)
            else:
                lease.settle(ending, status=status, error_code=code)
            with suppress(OSError):  # the lines stay queued; the next call that must be recorded says so
                self.journal.flush()

    async def _admitted(
        self,
        call: Call,
        request: Request,
        principal: Principal,
        deployment: Deployment,
        facts: CallFacts,
        snapshot: Snapshot,
    ) -> tuple[Deployment, Shaped, CallLease]:
        """The right to this call, from the deployment that was named or, once, from the one that takes over."""
        shaped = passed(shaped_for(call, request, principal, deployment, snapshot))
        outcome = await self._asked_for(deployment, shaped.request, facts, snapshot)
        if not isinstance(outcome, Refusal):
            return deployment, shaped, outcome
        second = snapshot.deployment(outcome.spill_to) if outcome.spill_to is not None else None
        if second is None or request.operation not in second.profile.operations:
            raise outcome.error
        # The caller has not named the second: where that one says no to it, the first's answer stands.
        spilled = shaped_for(call, request, principal, second, snapshot)
        if isinstance(spilled, Refusal):
            raise outcome.error
        facts.spilled_from = deployment.name
        lease = await self._asked_for(second, spilled.request, facts, snapshot)
        if isinstance(lease, Refusal):
            facts.spilled_from = None
            raise sooner(outcome.error, lease.error)
        return second, spilled, lease

    async def _asked_for(
        self, deployment: Deployment, request: Request, facts: CallFacts, snapshot: Snapshot
    ) -> CallLease | Refusal:
        """`admit`, awaited where it must wait."""
        outcome = admit(deployment, request, facts, snapshot, self.quota, self.journal, self.observer, self.clock)
        return await outcome.resume() if isinstance(outcome, NeedsWaiting) else outcome

    def _identified(self, call: Call, snapshot: Snapshot) -> Principal:
        """Who asks. A stranger leaves a number in the metrics and nothing else."""
        found = identify(call.credential, snapshot, self.authenticators, self.clock.now())
        if isinstance(found, Refusal):
            note_unauthenticated(call, found.error, self.observer, self.clock)
            raise found.error
        return found

    async def _counted(
        self, request: Request, deployment: Deployment, lease: CallLease, count: Count, runtime: Runtime
    ) -> AsyncGenerator[list[Event], None]:
        """The target's events, counted and filtered. Its normal end settles the lease and puts the lines on disk."""
        completion = guard.Completion()
        async with aclosing(self._dispatched(request, deployment, lease, count, runtime)) as source:
            async for batch in source:
                passed_on = completion.feed(count.feed(batch))
                if passed_on:
                    yield passed_on
                while count.waiting is not None:
                    granted = await count.waiting.resume()
                    if passed_on := completion.feed(count.resumed(granted)):
                        yield passed_on
                if count.stopped:
                    break
        if not count.is_begun:
            raise UpstreamFailed("The model gave an empty answer.")
        rest = [*completion.end(), *count.end()]
        if rest:
            yield rest
        lease.settle(Ending.COMPLETED, count.usage(), status=200)
        write_out(self.journal)

    async def _dispatched(
        self, request: Request, deployment: Deployment, lease: CallLease, count: Count, runtime: Runtime
    ) -> AsyncGenerator[list[Event], None]:
        """Targets in turn until one gives a first event; after that there is no other."""
        dispatch = InOrder(deployment.targets, self.random)
        outcome: TargetFailed | None = None
        while True:
            step = dispatch.next(outcome, self.clock.monotonic())
            if isinstance(step, GiveUp):
                raise step.error
            if isinstance(step, Wait):
                await asyncio.sleep(max(0.0, step.until - self.clock.monotonic()))
                continue
            assert isinstance(step, Send)
            lease.asked(step.target)
            begun = False
            try:
                async with aclosing(self._asked(request, deployment, step.target, count, runtime)) as events:
                    async for batch in events:
                        begun = True
                        yield batch
                return
            except ModelportError as error:
                count.failed(error)
                outcome = self.target_failures.take(step.target, error, request)
                if begun:
                    raise

    async def _asked(
        self, request: Request, deployment: Deployment, target: Target, count: Count, runtime: Runtime
    ) -> AsyncGenerator[list[Event], None]:
        """One target's answer as events, in batches of one read each."""
        provider = runtime.provider(target.provider)
        if isinstance(provider, Readiness):
            ready = provider.readiness()
            if isinstance(ready, NeedsWaiting):
                ready = await until_ready(ready, deployment.timeouts.queue)
            if isinstance(ready, Refusal):
                raise ready.error
        if isinstance(provider, Provider):
            async for batch in self._relayed(provider, request, deployment, target, count):
                yield batch
            return
        count.asked(shows_progress=request.stream)
        async with timed_events(provider, request, deployment, target) as events:
            async for event in events:
                yield [event]

    async def _relayed(
        self, provider: Provider, request: Request, deployment: Deployment, target: Target, count: Count
    ) -> AsyncGenerator[list[Event], None]:
        """A codec's answer over HTTP."""
        upstream = provider.encode(request, target)
        if not upstream.queued:
            count.asked(shows_progress=upstream.shows_progress)
        async with self.runtime.transport.send(provider.address, upstream, deployment.timeouts) as answer:
            if not 200 <= answer.status < 300:
                raise provider.failure(answer.status, answer.headers, await answer.body(ERROR_BODY_BYTES))
            count.asked(shows_progress=upstream.shows_progress)
            decoder = provider.decoder(request)
            try:
                async for chunk in answer.chunks():
                    if batch := decoder.feed(chunk):
                        yield batch
                if batch := decoder.end():
                    yield batch
            except BaseException:
                count.cut_short(decoder.reported())
                raise

    async def _cleared(self, outcome: Refusal | NeedsWaiting[None] | None) -> None:
        """Waits where a stage needs it; raises where it refuses."""
        if isinstance(outcome, NeedsWaiting):
            outcome = await outcome.resume()
        if isinstance(outcome, Refusal):
            raise outcome.error


def provider_of(lease: CallLease, runtime: Runtime) -> Provider | OpeningProvider | None:
    """The provider that was asked last."""
    return runtime.provider(lease.target.provider) if lease.target is not None else None


def not_carried_out(request: Request, dropped: tuple[str, ...], provider: object) -> tuple[str, ...]:
    """What was dropped of a request, and what its target says that it ignores (a provider's `ignored`)."""
    ignored = getattr(provider, "ignored", None)
    if ignored is None:
        return dropped
    return (*dropped, *(name for name in ignored(request) if name not in dropped))


@asynccontextmanager
async def timed_events(
    provider: OpeningProvider, request: Request, deployment: Deployment, target: Target
) -> AsyncIterator[AsyncIterator[Event]]:
    """The events of a provider that makes them itself, under the deployment's time-outs."""
    source = provider.open(request, target)
    timeouts = deployment.timeouts

    async def events() -> AsyncIterator[Event]:
        limit = timeouts.first_event
        loop = asyncio.get_running_loop()
        end = loop.time() + timeouts.whole
        while True:
            try:
                async with asyncio.timeout_at(min(loop.time() + limit, end)):
                    event = await anext(source, None)
            except TimeoutError:
                raise UpstreamGivenUp("The model did not answer in time.") from None
            if event is None:
                return
            limit = timeouts.between_events
            given_at = loop.time()
            yield event
            end += loop.time() - given_at  # the reader's own pace, or its wait for quota, is not the target's

    try:
        yield events()
    finally:
        close = getattr(source, "aclose", None)
        if close is not None:
            await close()


async def joined(first: list[Event] | None, rest: AsyncIterator[list[Event]]) -> AsyncIterator[list[Event]]:
    """The batch that was waited for, then the others."""
    if first is not None:
        yield first
    async for batch in rest:
        yield batch


def shaped_for(
    call: Call, request: Request, principal: Principal, deployment: Deployment, snapshot: Snapshot
) -> Shaped | Refusal:
    """What this deployment would be asked, if this caller may."""
    if (no := authorize(principal, request.operation)) is not None:
        return no
    return shape(
        request,
        deployment,
        header=call.extra_parameters,
        checks_extras=call.checks_extras,
        strict=snapshot.strict,
    )


def sooner(first: ModelportError, second: ModelportError) -> ModelportError:
    """Of two refusals for want of room, the one that ends first; one that no time ends is the last resort."""
    if isinstance(second, TokensLimitReached):
        return first
    if isinstance(first, TokensLimitReached):
        return second
    if isinstance(second, RateLimited) and (second.retry_after or 1) >= (first.retry_after or 1):
        return first
    return second


def ended_by(error: ModelportError, facts: CallFacts, count: Count | None) -> tuple[Ending, int, str]:
    """What the record says of a call that ended like this; its status is the one that the caller saw."""
    begun = count is not None and count.is_begun
    ending = Ending.FAILED if begun or error.status >= 500 else Ending.REFUSED
    return ending, 200 if begun and facts.streamed else error.status, error.code


def passed(outcome: T | Refusal | NeedsWaiting[T]) -> T:
    """The stage's value; raises what it refuses with."""
    if isinstance(outcome, Refusal):
        raise outcome.error
    assert not isinstance(outcome, NeedsWaiting)
    return outcome
