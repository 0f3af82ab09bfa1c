"""Between a call and the targets that answer it: which one is asked, and what has to be waited for before that."""

from __future__ import annotations

from functools import partial

from modelport.core.answers import PlainAnswer
from modelport.core.catalog import Target
from modelport.core.errors import ContentFiltered, ModelportError, UpstreamFailed
from modelport.core.events import Event
from modelport.core.ports.dispatch import GiveUp, TargetFailed, Wait
from modelport.core.ports.filters import Annotations, ContentFilter, Cut
from modelport.core.ports.providers import Readiness
from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.core.quota import QuotaState
from modelport.core.safety import Source
from modelport.core.usage import Ending
from modelport.gateway import guard
from modelport.gateway.answering import Answering, whole_text
from modelport.gateway.call import Origin
from modelport.gateway.count import Count
from modelport.gateway.dispatch import InOrder
from modelport.gateway.lease import CallLease
from modelport.gateway.pipeline import Asked
from modelport.gateway.plan import CallPlan
from modelport.gateway.receiving import AnswerReceiver
from modelport.gateway.shape import Shaped
from modelport.gateway.verdicts import FoundCategories
from modelport.gateway.waiting import until_ready


class Made:
    """Stands where a decoder does, for a provider that makes its events itself."""

    def feed(self, data: bytes) -> list[Event]:
        """core.ports.providers.Decoder"""
        raise AssertionError

    def end(self) -> list[Event]:
        """core.ports.providers.Decoder"""
        return []

    def reported(self) -> list[Event]:
        """core.ports.providers.Decoder"""
        return []


class TargetExchange(AnswerReceiver):
    """The targets of one call, in turn."""

    __slots__ = (
        "_dispatch",
        "_dropped",
        "_is_leased",
        "_known",
        "_load_seconds",
        "_loading_since",
        "_plan",
        "_whole_answer",
    )

    _dispatch: InOrder | None
    """Where there is something to choose."""
    _dropped: tuple[str, ...]
    _is_leased: bool
    """Something is taken."""
    _known: CallPlan | None
    """Once we know which deployment is asked; a record says so."""
    _load_seconds: float | None
    _loading_since: float
    _plan: CallPlan
    _whole_answer: bytes | None
    """All of it, where nobody has seen its events."""

    def is_complete(self) -> None:
        """The answer is, and its lease is settled."""
        raise NotImplementedError

    # --- a target ----------------------------------------------------------------------------------------------------

    def leased(self, lease: CallLease, plan: CallPlan, shaped: Shaped) -> None:
        """From here on something is taken."""
        self._request, self._lease, self._plan, self._dropped = shaped.request, lease, plan, shaped.dropped
        self._is_leased = True

    def counting(self) -> Count:
        """What counts the answer."""
        if self.count is None:
            self.count = Count(self._lease, self._request, can_wait=True)
        return self.count

    def begin_answer(self) -> Answering:
        """Of what follows, the caller gets something."""
        clock = self._pipeline.clock
        self.completion = self.completion or guard.Completion()
        self.answering = Answering(self._plan, self._request, self.reply, self._origin, clock.now)
        return self.answering

    def judged(self, content_filter: ContentFilter, outcome: Annotations | Refusal) -> None:
        """What the filter says of the prompt, which may go to a target. Raises what it refuses with."""
        found = self._lease.found_categories = FoundCategories()
        if isinstance(outcome, Refusal):
            if isinstance(outcome.error, ContentFiltered):
                found.add(Source.PROMPT, outcome.error.results)
            raise outcome.error
        for annotation in outcome:
            found.note(annotation)
        request, plan, made = self._request, self._plan, content_filter.completion
        completion = made(plan.deployment.content_filter, plan.caller.principal, request) if made is not None else None
        self.completion = guard.Completion(completion, request.choices, outcome, found.note)

    def _origin(self) -> Origin:
        if not self._is_leased:  # it is only said what the call would do
            assert self._known is not None
            known = self._known
            return Origin(QuotaState(), known.deployment, known.caller.snapshot, kept={})
        asked, dropped = self._asked.codec or self._asked.maker, self._dropped
        if asked is not None and (ignored := asked.ignored(self._request)):
            dropped = (*dropped, *(name for name in ignored if name not in dropped))
        plan, seconds = self._plan, self._load_seconds
        return Origin(self._lease.quota(), plan.deployment, plan.caller.snapshot, dropped, seconds, plan.kept)

    def ask_next(self, outcome: TargetFailed | None = None) -> None:
        """The next target, or the first, until one takes the request."""
        plan, lease = self._plan, self._lease
        targets = plan.deployment.targets
        while True:
            target = targets[0] if outcome is None and len(targets) == 1 else self._chosen(outcome)
            if target is None:
                return
            lease.target = target
            self._asked = asked = plan.asked.get(target.provider) or self._looked_up(target.provider)
            try:
                if asked.readiness is None or self._is_ready(asked.readiness):
                    self._send(target)
                return
            except ModelportError as error:
                outcome = self.failed(error)

    def _looked_up(self, provider: str) -> Asked:
        plan = self._plan
        asked = plan.asked[provider] = self._pipeline.asked(provider, plan.caller.runtime)
        return asked

    def _chosen(self, outcome: TargetFailed | None) -> Target | None:
        """The target that is next. None: later. Raises what the last one has failed with."""
        targets, clock = self._plan.deployment.targets, self._pipeline.clock
        if self._dispatch is None:
            self._dispatch = InOrder(targets if outcome is None else (), self._pipeline.random)
        step = self._dispatch.next(outcome, clock.monotonic())
        if isinstance(step, GiveUp):
            raise step.error
        if isinstance(step, Wait):
            seconds = max(0.0, step.until - clock.monotonic())
            self._waiting = self._shell.later(seconds, partial(self._waited, outcome))
            return None
        return step.target

    def _waited(self, outcome: TargetFailed | None) -> None:
        self._waiting = None
        self.guarded_with(self.ask_next, outcome)

    def _is_ready(self, target: Readiness) -> bool:
        """Whether the target can be asked now; if it must be waited for, the waiting asks it."""
        ready = target.readiness()
        if isinstance(ready, Refusal):
            raise ready.error
        if isinstance(ready, NeedsWaiting):
            self._loading_since = self._pipeline.clock.monotonic()
            self.wait(partial(until_ready, ready, self._plan.deployment.timeouts.queue), self._readied)
        return ready is None

    def _readied(self, refusal: Refusal | None) -> None:
        try:
            if refusal is not None:
                raise refusal.error
            self._load_seconds = self._pipeline.clock.monotonic() - self._loading_since
            self._send(self._target())
        except ModelportError as error:
            self.ask_next(self.failed(error))

    def _send(self, target: Target) -> None:
        asked, request, deployment, shell = self._asked, self._request, self._plan.deployment, self._shell
        lease = self._lease
        if self._has_stopped_asking:  # another one was asked before
            self._collected = self._decoder = self._refused_with = self._relay = None
            self._unread = b""
            self._has_begun = self._has_stopped_asking = False
        if asked.codec is not None:
            self._upstream = upstream = asked.codec.encode(request, target)
            if not upstream.queued:
                lease.is_asked, lease.is_in_one_piece = True, not (upstream.streamed or upstream.in_pieces)
            self._asking = shell.ask(asked.codec, upstream, deployment.timeouts, self)
        else:
            assert asked.maker is not None
            self._decoder = Made()
            lease.asked(shows_progress=request.stream)
            self._asking = shell.make(asked.maker, request, deployment, target, self)
        if shell.is_blocked():
            self._asking.pause()

    def complete_at_once(self, answer: PlainAnswer) -> None:
        """All of an answer, decoded in one step, and not counted."""
        lease = self._lease
        self._asking, self._has_stopped_asking = None, True
        self._whole_answer = whole_text(self._plan, self._request, answer, self._pipeline.clock.now())
        lease.complete(answer)
        self.is_complete()

    def complete(self) -> None:
        """All is counted; what the filter holds back comes before the end."""
        self.stop_asking()
        count, completion, answering = self.count, self.completion, self.answering
        if count is None or not count.is_begun:
            raise UpstreamFailed("The model gave an empty answer.")
        assert completion is not None
        assert answering is not None
        answering.feed(completion.end())
        if completion.waiting is not None:
            self.wait(completion.waiting.resume, partial(self._judged_all, completion))
        else:
            self._close()

    def _judged_all(self, completion: guard.Completion, outcome: list[Event] | Cut | Refusal) -> None:
        answering = self.answering or self.begin_answer()
        answering.feed(completion.resumed(outcome))
        self._close()

    def _close(self) -> None:
        """Nothing more comes: the lease is settled."""
        count, answering = self.counting(), self.answering or self.begin_answer()
        answering.feed(count.end())
        self._lease.settle(Ending.COMPLETED, count.usage(), status=200)
        self.is_complete()

    # --- what ends it or slows it down -------------------------------------------------------------------------------

    def stop_asking(self) -> None:
        self._has_stopped_asking = True
        asking, self._asking = self._asking, None
        if asking is not None:
            if asking.connection is None:
                self._lease.is_asked = False
            asking.abort()

    def stop(self) -> None:
        """No target is listened to any more, and nothing is waited for."""
        self.stop_asking()
        if self._decoder is not None:
            self.counting().cut_short(self._decoder.reported())
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.cancel()

    def forget(self) -> None:
        """It is over."""
        self._held_back.clear()
        self._decoder = self._relay = self._then = None
        if self.count is not None:
            self._lease.meter = None  # else they would hold each other, until a collector comes
        if self.answering is not None:
            self.answering.forget()
