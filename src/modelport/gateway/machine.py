"""One inference call, from the head of its request to the last byte of its answer. No socket, no timer, no task.

    begin → body_received → the stages → (journal written) → ask → the answer → (journal written) → last bytes

What happens is told to it (the body, a target's answer, a client that goes, a deadline); what it wants is asked of its
Shell. `_stages` is the order of everything before a target is asked. From the moment we know who asks, a call leaves
exactly one record, however it ends. `gateway/exchange.py` is what happens between a target and the answer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, Final

from modelport.core.catalog import Deployment, Snapshot
from modelport.core.errors import InternalError, ModelportError, Unavailable, UpstreamTimedOut
from modelport.core.faults import drop_frames, frames
from modelport.core.identity import Identified, Principal
from modelport.core.ports.providers import Runtime
from modelport.core.ports.quota import Reservation
from modelport.core.ports.stages import NeedsWaiting, Refusal, passed
from modelport.core.requests import Request
from modelport.core.usage import Ending
from modelport.gateway import guard
from modelport.gateway.admit import admit, adopted, sooner
from modelport.gateway.ask import ask, shaped_for
from modelport.gateway.call import Asking, CallHead, Reply, Shell
from modelport.gateway.exchange import TargetExchange
from modelport.gateway.facts import CallFacts, ended_by, note_unauthenticated, record_refusal
from modelport.gateway.gateway import Gateway
from modelport.gateway.identify import identify
from modelport.gateway.lease import CallLease
from modelport.gateway.resolve import requested_model, resolve

STOPPED_RETRY_SECONDS: Final = 5
log = logging.getLogger("modelport.surfaces")

Steps = Generator[NeedsWaiting[Any], Any, None]


class CallMachine(TargetExchange):
    """One call."""

    __slots__ = (
        "_awaits_lines",
        "_body",
        "_body_refusal",
        "_deadline",
        "_facts",
        "_gateway",
        "_head",
        "_is_ending",
        "_is_reading",
        "_is_recorded",
        "_next",
        "_principal",
        "_snapshot",
        "_steps",
    )

    _snapshot: Snapshot
    _principal: Principal

    def __init__(self, gateway: Gateway, shell: Shell, head: CallHead, reply: Reply, request_seconds: float) -> None:
        super().__init__(gateway.pipeline, shell, head, reply)
        self._gateway = gateway
        self._facts: CallFacts | None = None
        """Once we know who asks."""
        self._next: Callable[[], None] = self.ask_first
        """What to do once the journal's lines are written, which it `_awaits_lines` for."""
        self._steps: Steps | None = None
        """The stages, while one of them waits."""
        self._is_reading = True
        self._body = b""
        """What has arrived before we know who asks."""
        self._body_refusal: ModelportError | None = None
        self._is_ending = self._is_recorded = self._awaits_lines = False
        self._deadline = shell.now() + request_seconds
        gateway.running += 1
        gateway.calls.add(self)

    # --- before a target is asked ------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Finds out who asks. A body that arrives while that takes time is looked at afterwards."""
        self.guarded(self._begin)

    def _begin(self) -> None:
        pipeline, head = self._pipeline, self._head
        self._snapshot = snapshot = pipeline.snapshot()
        if self._gateway.draining:
            self.turn_away(stopped())
            return
        found = identify(head.credential, snapshot, pipeline.authenticators, pipeline.clock)
        if isinstance(found, NeedsWaiting):
            self.wait(found.resume, self._identified)
        else:
            self._identified(found)

    def _identified(self, found: Identified | Refusal) -> None:
        pipeline, head = self._pipeline, self._head
        if isinstance(found, Refusal):
            note_unauthenticated(head, found.error, pipeline.observer, pipeline.clock)
            self.turn_away(found.error)
            return
        self._knows(found.principal)
        pipeline.observer.call_started(head.operation, head.surface)
        if self._body_refusal is not None:
            self.turn_away(self._body_refusal)
        elif self._is_reading:
            self._shell.want_body()
        else:
            body, self._body = self._body, b""
            self._received(body)

    def _knows(self, principal: Principal) -> None:
        self._principal = principal
        self._facts = CallFacts.of(self._head, principal, self._snapshot, self._pipeline.clock)

    def body_received(self, body: bytes) -> None:
        """All of it is here."""
        if self._is_reading and not self._is_ending:
            self._is_reading = False
            if self._facts is not None:
                self.guarded(self._received, body)
            else:
                self._body = body

    def refuse_body(self, error: ModelportError) -> None:
        """The body cannot be taken. A caller that is not known yet is told so once it is."""
        if self._facts is not None:
            self.turn_away(error)
        else:
            self._body_refusal = self._body_refusal or error

    def _received(self, body: bytes) -> None:
        self._steps = self._stages(body)
        self._step(None)

    def _step(self, value: object) -> None:
        """The next of the stages, until one has to wait or all are passed."""
        assert self._steps is not None
        try:
            waiting = self._steps.send(value)
        except StopIteration:
            self._steps = None
            self._when_written(self.ask_first)
        else:
            self.wait(waiting.resume, self._step)

    def _stages(self, body: bytes) -> Steps:
        """What do you ask, of which deployment, may you (now), and is it safe? Nothing is taken before `admit`."""
        head, facts, snapshot, principal = self._head, self._facts, self._snapshot, self._principal
        pipeline = self._pipeline
        assert facts is not None
        request = ask(head, body, snapshot, principal)
        facts.asked(request.stream, requested_model(head.selector, request.model))
        deployment = passed(resolve(head.selector, request.model, request.operation, snapshot, principal))
        facts.deployment = deployment.name
        full: Deployment | None = None
        error: ModelportError | None = None
        while True:
            shaped = shaped_for(head, request, principal, deployment, snapshot)
            if isinstance(shaped, Refusal):  # the caller has not named the second: there, the first's answer stands
                raise error or shaped.error
            facts.spilled_from = full.name if full is not None else None
            outcome = admit(
                deployment,
                shaped.request,
                facts,
                snapshot,
                pipeline.quota,
                pipeline.journal,
                pipeline.observer,
                pipeline.clock,
            )
            if isinstance(outcome, NeedsWaiting):
                outcome = yield outcome
            if isinstance(outcome, CallLease):
                break
            assert isinstance(outcome, Refusal)
            if error is not None:
                facts.spilled_from = None
                raise sooner(error, outcome.error)
            error, full = outcome.error, deployment
            deployment = spilled_to(outcome, request, snapshot)
        self.leased(outcome, shaped.request, deployment, snapshot, shaped.dropped)
        policy = deployment.content_filter
        content_filter = guard.filter_of(pipeline.filters, policy)
        judged = guard.prompt(content_filter, policy, principal, shaped.request)
        if isinstance(judged, NeedsWaiting):
            judged = yield judged
        self.cleared(content_filter, principal, passed(judged))

    def adopt(
        self,
        body: bytes,
        snapshot: Snapshot,
        runtime: Runtime,
        principal: Principal,
        reservation: Reservation,
        started: tuple[float, float],
        deadline: float,
        asking: Asking | None,
        *,
        is_asked: bool,
        is_settled: bool,
    ) -> None:
        """Takes over what lane.plain.PlainCall has begun: its reservation, whose line is journalled, and its request,
        if that is under way. `started`: by both clocks."""
        head, pipeline = self._head, self._pipeline
        self._snapshot, self._runtime = snapshot, runtime
        self._deadline, self._is_reading = deadline, False
        self._gateway.running -= 1  # it has been counted
        self._knows(principal)
        assert self._facts is not None
        request = ask(head, body, snapshot, principal)
        self._facts.asked(request.stream, requested_model(head.selector, request.model))
        deployment = passed(resolve(head.selector, request.model, request.operation, snapshot, principal))
        shaped = passed(shaped_for(head, request, principal, deployment, snapshot))
        self._facts.started_at, self._facts.started = started
        lease = adopted(
            deployment,
            shaped.request,
            self._facts,
            snapshot,
            reservation,
            pipeline.quota,
            pipeline.journal,
            pipeline.observer,
            pipeline.clock,
        )
        self.leased(lease, shaped.request, deployment, snapshot, shaped.dropped)
        lease.settled = self._is_recorded = is_settled
        self._awaits_lines = not is_asked
        if is_asked:
            self.is_asked_already(asking)

    def _when_written(self, step: Callable[[], None]) -> None:
        self._next, self._awaits_lines = step, True
        self._shell.when_written(self)

    def written(self, failure: ModelportError | None) -> None:
        """gateway.call.Written. Who is turned away has made nothing that must be recorded first."""
        if not self._awaits_lines:
            return
        self._awaits_lines = False
        if failure is not None and not self._is_ending:
            self.guarded(self._fail, failure)
        else:
            self.guarded(self._next)

    # --- the end -----------------------------------------------------------------------------------------------------

    def is_complete(self) -> None:
        """All is counted, and the lease is settled: the last bytes wait for its line."""
        self._is_recorded = True
        self._when_written(self._finish)

    def _finish(self) -> None:
        self.answering.end()
        self._over()

    def turn_away(self, error: ModelportError) -> None:
        """For a call that nothing is known of, or nothing is taken for: its record, if it leaves one, is queued, and
        the answer waits for it, as any other, and for what still comes of the request."""
        if self._is_ending:
            return
        self._settle(*ended_by(error, False, False))
        self._is_ending = True
        self._when_written(partial(self._shell.when_read, partial(self.guarded, self._end, error)))

    def guarded(self, step: Callable[..., None], *arguments: Any) -> None:
        """Runs a step, unless the call is over. What it raises ends the call."""
        if self.reply.response_complete:
            return
        try:
            step(*arguments)
        except ModelportError as error:
            self._fail(error)
            drop_frames(error)
        except Exception as error:  # noqa: BLE001 - the end of a request
            head = self._head
            told = (type(error).__name__, head.operation, head.request_id, frames(error))
            log.error("unhandled %s: %s request_id=%s\n%s", *told)
            self._fail(InternalError(), Ending.FAILED, 500)
            drop_frames(error)
        self.reply.flush()

    def _fail(self, error: ModelportError, ending: Ending | None = None, status: int = 0) -> None:
        """Ends the call with this error."""
        if self._lease is None and not self._is_ending:
            self.turn_away(error)
            return
        is_streamed = self._facts is not None and self._facts.streamed
        found = ended_by(error, is_streamed, self._lease is not None and self.count.is_begun)
        self._settle(*(found if ending is None else (ending, status, error.code)))
        self._shell.write_lines()
        self._end(error)

    def _settle(self, ending: Ending, status: int, code: str | None) -> None:
        """Leaves the record, once."""
        self.stop()
        if self._steps is not None:
            self._steps.close()
            self._steps = None
        if self._is_recorded:
            return
        self._is_recorded = True
        pipeline = self._pipeline
        if self._lease is not None:
            self._lease.settle(ending, status=status, error_code=code)
        elif self._facts is not None:
            record_refusal(self._facts, ending, status, code, pipeline.journal, pipeline.observer, pipeline.clock)

    def _end(self, error: ModelportError) -> None:
        reply = self.reply
        try:
            if reply.response_started:
                assert self.answering.writer is not None
                reply.cut(self.answering.writer.broken(error))
            else:
                reply.refuse(error)
        finally:
            self._over()

    def client_gone(self) -> None:
        """The connection is lost: the work stops, and what was made is settled."""
        if self.reply.response_complete:
            return  # it has ended already
        self.reply.abandoned()
        self._settle(Ending.CANCELLED, 499, None)
        self._shell.write_lines()
        self._over()

    def sweep(self, now: float) -> None:
        """Ends a call that outlasts the request's own limit."""
        if now > self._deadline and not self._is_reading and not self._is_ending:
            self.guarded(self._fail, too_late())

    def end_now(self) -> None:
        """The time to drain is over."""
        self.guarded(self._fail, stopped())

    def _over(self) -> None:
        if self._next is nothing_more:
            return
        self._next = nothing_more  # else it would hold itself, until a collector comes
        self.forget()
        self._gateway.running -= 1
        self._gateway.calls.discard(self)
        self._shell.call_over(self.reply)


def spilled_to(refusal: Refusal, request: Request, snapshot: Snapshot) -> Deployment:
    """The deployment that takes over. Raises what was refused where there is none."""
    second = snapshot.deployment(refusal.spill_to) if refusal.spill_to is not None else None
    if second is None or request.operation not in second.profile.operations:
        raise refusal.error
    return second


def stopped() -> Unavailable:
    """What a call hears that comes, or still runs, when the server ends."""
    return Unavailable("The server is shutting down.", retry_after=STOPPED_RETRY_SECONDS)


def too_late() -> UpstreamTimedOut:
    """The answer outlasted the request's own limit."""
    return UpstreamTimedOut("The answer took longer than the server allows for one request.")


def nothing_more() -> None:
    """The step of a call that is over."""
