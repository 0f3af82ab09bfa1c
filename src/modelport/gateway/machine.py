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

import msgspec

from modelport.core.catalog import Deployment, Snapshot
from modelport.core.errors import InternalError, ModelportError, Unavailable, UpstreamTimedOut
from modelport.core.faults import drop_frames, frames
from modelport.core.identity import Identified
from modelport.core.ports.providers import Runtime
from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.core.requests import Request
from modelport.core.usage import Ending
from modelport.gateway import guard
from modelport.gateway.admit import admit, sooner
from modelport.gateway.ask import as_sent, ask, everything_wrong
from modelport.gateway.call import Arrival, CallHead, Reply, Shell
from modelport.gateway.exchange import TargetExchange
from modelport.gateway.explain import explain
from modelport.gateway.facts import CallFacts, ended_by, note_unauthenticated, record_refusal
from modelport.gateway.gateway import Gateway
from modelport.gateway.identify import identify
from modelport.gateway.lease import CallLease
from modelport.gateway.plan import Caller, CallPlan
from modelport.gateway.resolve import requested_model
from modelport.gateway.shape import Shaped

STOPPED_RETRY_SECONDS: Final = 5
log = logging.getLogger("modelport.surfaces")
encoded = msgspec.json.Encoder().encode

Steps = Generator[NeedsWaiting[Any], Any, None]


class CallMachine(TargetExchange):
    """One call."""

    __slots__ = (
        "_arrival",
        "_body",
        "_body_refusal",
        "_caller",
        "_deadline",
        "_gateway",
        "_given",
        "_is_ending",
        "_is_reading",
        "_is_recorded",
        "_is_streamed",
        "_next",
        "_requested_model",
        "_started",
        "_started_at",
        "_steps",
    )

    _body_refusal: ModelportError | None
    _caller: Caller | None
    """Once we know who asks."""
    _given: Any
    """What a stage has waited for."""
    _next: Callable[[], None] | None
    """What to do once the journal's lines are written."""
    _requested_model: str | None
    _started: float
    """When we knew who asks, on the monotonic clock; `_started_at`: in unix seconds."""
    _steps: Steps | None
    """The stages, while one of them waits."""

    def __init__(self, gateway: Gateway, shell: Shell, reply: Reply, arrival: Arrival) -> None:
        # All of it here, and in one step: a class with a frame for each base would pay for three.
        self._gateway, self._pipeline, self._shell = gateway, gateway.pipeline, shell
        self._arrival, self.reply = arrival, reply
        self._caller = self._known = self._requested_model = self._steps = self._body_refusal = self._next = None
        self._is_ending = self._is_recorded = self._is_streamed = self._is_leased = False
        self._dispatch = self._load_seconds = self._whole_answer = None
        self.answering = self.completion = self.count = None
        self._asking = self._collected = self._decoder = self._refused_with = self._relay = None
        self._then = self._waiting = None
        self._has_begun = self._has_stopped_asking = False
        self._body = self._error_body = self._unread = b""
        """`_body`: what has arrived before we know who asks."""
        self._held_back = []
        self._is_reading = True
        self._deadline = shell.now() + arrival.request_seconds
        gateway.calls.add(self)

    # --- before a target is asked ------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Finds out who asks. A body that arrives while that takes time is looked at afterwards."""
        pipeline = self._pipeline
        self._started_at = now = pipeline.clock.now()
        caller = pipeline.callers.find(self._arrival.key, pipeline.snapshot(), now)
        if caller is not None and not self._gateway.draining:
            self._caller = caller
            self.guarded(self._is_known)
        else:
            self.guarded(self._asks_who)

    def _asks_who(self) -> None:
        pipeline = self._pipeline
        if self._gateway.draining:
            self.turn_away(stopped())
            return
        head, snapshot, runtime = self._arrival.head(), pipeline.snapshot(), pipeline.runtime
        found = identify(head.credential, snapshot, pipeline.authenticators, pipeline.clock)
        if isinstance(found, NeedsWaiting):
            self.wait(found.resume, partial(self._identified_late, head, snapshot, runtime))
        else:
            self._identified(head, snapshot, runtime, found)

    def _identified_late(
        self, head: CallHead, snapshot: Snapshot, runtime: Runtime, found: Identified | Refusal
    ) -> None:
        self._started_at = self._pipeline.clock.now()
        self._identified(head, snapshot, runtime, found)

    def _identified(self, head: CallHead, snapshot: Snapshot, runtime: Runtime, found: Identified | Refusal) -> None:
        pipeline, arrival = self._pipeline, self._arrival
        if isinstance(found, Refusal):
            note_unauthenticated(arrival, head, found.error, pipeline.observer, pipeline.clock)
            self.turn_away(found.error)
            return
        caller = Caller(head, found, snapshot, runtime, pipeline.observer, pipeline.callers.planned)
        pipeline.callers.note_use(caller.principal, self._started_at)
        pipeline.callers.keep(arrival.key, caller)
        self._caller = caller
        self._is_known()

    def _is_known(self) -> None:
        pipeline, caller = self._pipeline, self._caller
        assert caller is not None
        head, self._started = caller.head, pipeline.clock.monotonic()
        if head.explains:
            self._is_recorded = True  # nobody is told of it
        else:
            pipeline.observer.call_started(head.operation, head.surface)
        if self._body_refusal is not None:
            self.turn_away(self._body_refusal)
        elif self._is_reading:
            self._shell.want_body()
        else:
            self._received(self._body)

    def begin_with(self, body: bytes) -> None:
        """As `begin`, where all of the body is here."""
        self._body, self._is_reading = body, False
        self.begin()

    def body_received(self, body: bytes) -> None:
        """All of it is here."""
        if self._is_reading and not self._is_ending:
            self._is_reading = False
            if self._caller is not None:
                self.guarded_with(self._received, body)
            else:
                self._body = body

    def refuse_body(self, error: ModelportError) -> None:
        """The body cannot be taken. A caller that is not known yet is told so once it is."""
        if self._caller is not None:
            self.turn_away(error)
        else:
            self._body_refusal = self._body_refusal or error

    def _received(self, body: bytes) -> None:
        self._steps = self._stages(body)
        self._step()

    def _step(self) -> None:
        """The next of the stages, until one has to wait or all are passed."""
        assert self._steps is not None
        if (waiting := next(self._steps, None)) is None:
            self._steps = None
            self._when_written(self.ask_next if self._is_leased else self._finish)
        else:
            self.wait(waiting.resume, self._resume_stages)

    def _resume_stages(self, given: object) -> None:
        self._given = given
        self._step()

    def _stages(self, body: bytes) -> Steps:
        """What do you ask, of which deployment, may you (now), and is it safe? Nothing is taken before `admit`."""
        caller, pipeline = self._caller, self._pipeline
        assert caller is not None
        request, wrong = ask(caller.head, body)
        plan = caller.plan(request.model)
        if wrong is None:
            self._is_streamed = request.stream
            if isinstance(plan, CallPlan):
                self._known = plan
            else:
                self._requested_model = requested_model(caller.head.selector, request.model)
        if not isinstance(plan, CallPlan):
            raise wrong or plan.error
        full: ModelportError | None = None
        while True:
            shaped = plan.shaped(request)
            if wrong is not None:
                raise everything_wrong(wrong, shaped)
            if caller.head.explains:
                self._whole_answer = encoded(explain(plan, request, shaped, pipeline))
                return
            if not isinstance(shaped, Shaped):  # the caller has not named the second: there, the first's answer stands
                raise full or as_sent(shaped.error, body)
            facts = CallFacts(self._arrival, caller, self._started_at, self._started, plan, request.stream)
            outcome = admit(plan, shaped.request, facts, pipeline)
            if not isinstance(outcome, CallLease) and isinstance(outcome, NeedsWaiting):
                yield outcome
                outcome = self._given
            if isinstance(outcome, CallLease):
                break
            assert isinstance(outcome, Refusal)
            if full is not None:
                raise sooner(full, outcome.error)
            full = outcome.error
            plan = caller.plan_beside(plan, spilled_to(outcome, request, caller.snapshot))
        self.leased(outcome, plan, shaped)
        policy = plan.deployment.content_filter
        content_filter = guard.filter_of(pipeline.filters, policy)
        if content_filter is not guard.NO_FILTER:
            judged = guard.prompt(content_filter, policy, caller.principal, shaped.request)
            if isinstance(judged, NeedsWaiting):
                yield judged
                judged = self._given
            self.judged(content_filter, judged)

    def _when_written(self, step: Callable[[], None]) -> None:
        self._next = step
        self._shell.when_written(self)

    def written(self, failure: ModelportError | None) -> None:
        """gateway.call.Written. Who is turned away has made nothing that must be recorded first."""
        step, self._next = self._next, None
        if step is None:
            return
        if failure is not None and not self._is_ending:
            self.guarded_with(self._fail, failure)
        else:
            self.guarded(step)

    # --- the end -----------------------------------------------------------------------------------------------------

    def is_complete(self) -> None:
        """All is counted, and the lease is settled: the last bytes wait for its line."""
        self._is_recorded = True
        self._when_written(self._finish)

    def _finish(self) -> None:
        if self._whole_answer is not None:
            self.reply.whole(self._whole_answer, self._origin())
        else:
            assert self.answering is not None
            self.answering.end()
        self._over()

    def turn_away(self, error: ModelportError) -> None:
        """For a call that nothing is known of, or nothing is taken for: its record, if it leaves one, is queued, and
        the answer waits for it, as any other, and for what still comes of the request."""
        if self._is_ending:
            return
        self._settle(*ended_by(error, False, False))
        self._is_ending = True
        self._when_written(partial(self._shell.when_read, partial(self.guarded_with, self._end, error)))

    def guarded(self, step: Callable[[], None]) -> None:
        """Runs a step, unless the call is over. What it raises ends the call."""
        if self.reply.response_complete:
            return
        try:
            step()
        except Exception as error:  # noqa: BLE001 - the end of a request
            self._raised(error)
        if self._is_streamed:
            self.reply.flush()

    def guarded_with(self, step: Callable[[Any], None], given: object) -> None:
        """As `guarded`, for a step that is given something."""
        if self.reply.response_complete:
            return
        try:
            step(given)
        except Exception as error:  # noqa: BLE001 - the end of a request
            self._raised(error)
        if self._is_streamed:
            self.reply.flush()

    def _raised(self, error: Exception) -> None:
        if isinstance(error, ModelportError):
            self._fail(error)
        else:
            operation = self._caller.head.operation if self._caller is not None else "call"
            told = (type(error).__name__, operation, self._arrival.id, frames(error))
            log.error("unhandled %s: %s request_id=%s\n%s", *told)
            self._fail(InternalError(), Ending.FAILED, 500)
        drop_frames(error)

    def _fail(self, error: ModelportError, ending: Ending | None = None, status: int = 0) -> None:
        """Ends the call with this error."""
        if not self._is_leased and not self._is_ending:
            self.turn_away(error)
            return
        found = ended_by(error, self.count is not None and self.count.is_begun, self.reply.response_started)
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
        if self._is_leased:
            self.counting()
            self._lease.settle(ending, status=status, error_code=code)
        elif self._caller is not None:
            when, named = (self._started_at, self._started), self._requested_model
            facts = CallFacts(self._arrival, self._caller, *when, self._known, self._is_streamed, named)
            record_refusal(facts, ending, status, code, pipeline.journal, pipeline.observer, pipeline.clock)

    def _end(self, error: ModelportError) -> None:
        reply = self.reply
        try:
            if reply.response_started:
                assert self.answering is not None
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
            self.guarded_with(self._fail, too_late())

    def end_now(self) -> None:
        """The time to drain is over."""
        self.guarded_with(self._fail, stopped())

    def _over(self) -> None:
        calls = self._gateway.calls
        if self not in calls:
            return
        calls.remove(self)
        self._next = None  # else it would hold itself, until a collector comes
        if self._whole_answer is None:
            self.forget()
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
