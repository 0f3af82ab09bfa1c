"""Between a call and the targets that answer it: which one is asked, and what has to be waited for before that."""

from __future__ import annotations

from functools import partial

from modelport.core.catalog import Deployment, Snapshot
from modelport.core.errors import ModelportError, UpstreamFailed
from modelport.core.events import Event
from modelport.core.identity import Principal
from modelport.core.ports.dispatch import GiveUp, Send, TargetFailed, Wait
from modelport.core.ports.filters import Annotations, ContentFilter, Cut
from modelport.core.ports.providers import Runtime
from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.core.requests import Request
from modelport.core.usage import Ending
from modelport.gateway import guard
from modelport.gateway.answering import Answering
from modelport.gateway.call import Asking, CallHead, Origin, Reply, Shell
from modelport.gateway.count import Count
from modelport.gateway.dispatch import InOrder
from modelport.gateway.lease import CallLease
from modelport.gateway.pipeline import Pipeline
from modelport.gateway.receiving import AnswerReceiver
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
        "_deployment",
        "_dispatch",
        "_dropped",
        "_head",
        "_lease",
        "_load_seconds",
        "_loading_since",
        "_runtime",
        "_snapshot",
    )

    _deployment: Deployment
    _dispatch: InOrder
    _dropped: tuple[str, ...]
    _loading_since: float
    _runtime: Runtime
    _snapshot: Snapshot

    def __init__(self, pipeline: Pipeline, shell: Shell, head: CallHead, reply: Reply) -> None:
        super().__init__(pipeline, shell, reply)
        self._head = head
        self._load_seconds: float | None = None
        self._runtime = pipeline.runtime
        self._lease: CallLease | None = None

    def is_complete(self) -> None:
        """The answer is, and its lease is settled."""
        raise NotImplementedError

    # --- a target ----------------------------------------------------------------------------------------------------

    def leased(
        self,
        lease: CallLease,
        request: Request,
        deployment: Deployment,
        snapshot: Snapshot,
        dropped: tuple[str, ...],
    ) -> None:
        """From here on something is taken."""
        self._lease = lease
        self._request, self._deployment, self._snapshot, self._dropped = request, deployment, snapshot, dropped
        self.count = Count(lease, request, can_wait=True)
        self._completion = guard.Completion()
        self.answering = Answering(self._head, request, self.reply, self._origin, self._pipeline.clock.now)
        self._dispatch = InOrder(deployment.targets, self._pipeline.random)

    def cleared(self, content_filter: ContentFilter, principal: Principal, annotations: Annotations) -> None:
        """The prompt may go to a target; `annotations`: what was said of it."""
        request, policy = self._request, self._deployment.content_filter
        made = content_filter.completion
        self._completion = guard.Completion(
            made(policy, principal, request) if made is not None else None, request.choices, annotations
        )

    def _origin(self) -> Origin:
        assert self._lease is not None
        asked, dropped = self._asked.codec or self._asked.maker, self._dropped
        if asked is not None and (ignored := asked.ignored(self._request)):
            dropped = (*dropped, *(name for name in ignored if name not in dropped))
        return Origin(self._lease.quota(), self._deployment, self._snapshot, dropped, self._load_seconds)

    def is_asked_already(self, asking: Asking | None) -> None:
        """A plain call has asked the one target there is. None: its answer is here."""
        step = self._dispatch.next(None, self._pipeline.clock.monotonic())
        assert isinstance(step, Send)
        assert self._lease is not None
        self._target, self._asked = step.target, self._pipeline.asked(step.target.provider, self._runtime)
        self._lease.asked(step.target)
        self.count.asked(shows_progress=False)
        self._asking = asking

    def ask_first(self) -> None:
        """The first target."""
        self.ask_next(None)

    def ask_next(self, outcome: TargetFailed | None) -> None:
        """The next target, until one takes the request."""
        clock = self._pipeline.clock
        assert self._lease is not None
        while True:
            step = self._dispatch.next(outcome, clock.monotonic())
            if isinstance(step, GiveUp):
                raise step.error
            if isinstance(step, Wait):
                seconds = max(0.0, step.until - clock.monotonic())
                self._waiting = self._shell.later(seconds, partial(self._waited, outcome))
                return
            assert isinstance(step, Send)
            self._target = step.target
            self._asked = self._pipeline.asked(step.target.provider, self._runtime)
            self._lease.asked(step.target)
            try:
                if self._is_ready():
                    self._send()
                return
            except ModelportError as error:
                outcome = self.failed(error)

    def _waited(self, outcome: TargetFailed | None) -> None:
        self._waiting = None
        self.guarded(self.ask_next, outcome)

    def _is_ready(self) -> bool:
        """Whether the target can be asked now; if it must be waited for, the waiting asks it."""
        if self._asked.readiness is None:
            return True
        ready = self._asked.readiness.readiness()
        if isinstance(ready, Refusal):
            raise ready.error
        if isinstance(ready, NeedsWaiting):
            self._loading_since = self._pipeline.clock.monotonic()
            self.wait(partial(until_ready, ready, self._deployment.timeouts.queue), self._readied)
        return ready is None

    def _readied(self, refusal: Refusal | None) -> None:
        try:
            if refusal is not None:
                raise refusal.error
            self._load_seconds = self._pipeline.clock.monotonic() - self._loading_since
            self._send()
        except ModelportError as error:
            self.ask_next(self.failed(error))

    def _send(self) -> None:
        self._decoder = self._refused_with = self._relay = None
        self._unread = b""
        self._has_begun = self._has_stopped_asking = False
        asked, request, deployment, shell = self._asked, self._request, self._deployment, self._shell
        if asked.codec is not None:
            self._upstream = upstream = asked.codec.encode(request, self._target)
            if not upstream.queued:
                self.count.asked(shows_progress=upstream.shows_progress)
            self._asking = shell.ask(asked.codec, upstream, deployment.timeouts, self)
        else:
            assert asked.maker is not None
            self._decoder = Made()
            self.count.asked(shows_progress=request.stream)
            self._asking = shell.make(asked.maker, request, deployment, self._target, self)
        if shell.is_blocked():
            self._asking.pause()

    def complete(self) -> None:
        """All is counted; what the filter holds back comes before the end."""
        self.stop_asking()
        if not self.count.is_begun:
            raise UpstreamFailed("The model gave an empty answer.")
        self.answering.feed(self._completion.end())
        if self._completion.waiting is not None:
            self.wait(self._completion.waiting.resume, self._judged_all)
        else:
            self._close()

    def _judged_all(self, outcome: list[Event] | Cut | Refusal) -> None:
        self.answering.feed(self._completion.resumed(outcome))
        self._close()

    def _close(self) -> None:
        """Nothing more comes: the lease is settled."""
        assert self._lease is not None
        self.answering.feed(self.count.end())
        self._lease.settle(Ending.COMPLETED, self.count.usage(), status=200)
        self.is_complete()

    # --- what ends it or slows it down -------------------------------------------------------------------------------

    def stop_asking(self) -> None:
        self._has_stopped_asking = True
        asking, self._asking = self._asking, None
        if asking is not None:
            if asking.connection is None:
                self.count.not_asked()
            asking.abort()

    def stop(self) -> None:
        """No target is listened to any more, and nothing is waited for."""
        self.stop_asking()
        if self._decoder is not None:
            self.count.cut_short(self._decoder.reported())
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.cancel()

    def forget(self) -> None:
        """It is over."""
        self._held_back.clear()
        self._decoder = self._relay = self._then = None
        if self._lease is not None:
            self.answering.forget()  # else the two would hold each other, until a collector comes
