"""The second driver: one call, stage by stage, in callbacks of the sockets. No task, no coroutine.

    start → (journal written) → ask → answer_began, answer_grew …, answer_ended → (journal written) → last bytes

The stages are the coroutine driver's (gateway/pipeline.py), in its order. Until `admit` has given a lease nothing is
taken: what is refused before that is turned away (lane/refused.py), and what has to wait is handed over, with its body,
to the coroutine driver.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import ParamSpec

from modelport.core.catalog import Snapshot
from modelport.core.errors import InternalError, ModelportError, UpstreamFailed
from modelport.core.events import Event
from modelport.core.identity import Principal
from modelport.core.ports.dispatch import GiveUp, Send, TargetFailed, Wait
from modelport.core.ports.providers import Decoder, UpstreamRequest
from modelport.core.ports.quota import Reservation
from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.core.usage import Ending
from modelport.dialects import fresh_ids
from modelport.gateway import guard
from modelport.gateway.admit import adopted
from modelport.gateway.count import Count
from modelport.gateway.dispatch import InOrder
from modelport.gateway.facts import CallFacts
from modelport.gateway.lease import CallLease
from modelport.gateway.pipeline import ERROR_BODY_BYTES, ended_by
from modelport.gateway.waiting import until_ready
from modelport.lane.answering import Answering
from modelport.lane.entering import entered
from modelport.lane.lane import Connection, Lane, Serving
from modelport.lane.refused import Refused
from modelport.lane.relay import TextRelay
from modelport.lane.reply import Reply
from modelport.lane.understood import Understood, call_of, understood
from modelport.lane.ways import Plan, Way
from modelport.surfaces.answer import stopped, too_late
from modelport.surfaces.app import drop_frames, frames
from modelport.surfaces.headers import RequestHead
from modelport.upstream.wire import Exchange, RawHeaders

P = ParamSpec("P")
log = logging.getLogger("modelport.surfaces")


class LaneCall:
    """One call: upstream.wire.Receiver towards its target, lane.Waiting towards the journal."""

    __slots__ = (
        "_answering",
        "_asked",
        "_asks",
        "_completion",
        "_connection",
        "_count",
        "_deadline",
        "_decoder",
        "_dispatch",
        "_error_body",
        "_exchange",
        "_has_begun",
        "_has_stopped_asking",
        "_head",
        "_held_back",
        "_lane",
        "_lease",
        "_next",
        "_refused_with",
        "_relay",
        "_target",
        "_task",
        "_unread",
        "_upstream",
        "_way",
        "reply",
    )

    def __init__(
        self,
        lane: Lane,
        connection: Connection,
        way: Way,
        headers: RawHeaders,
        keep_alive: bool,
        request_id: str | None = None,
    ) -> None:
        self._lane = lane
        self._connection = connection
        self._way = way
        self._head = RequestHead(
            method="POST",
            path=way.path,
            headers=dict(reversed(headers)),  # the first of several wins
            query=way.query,
            request_id=request_id or fresh_ids.uuid(),
        )
        self.reply = Reply(lane, connection, way, self._head, keep_alive)
        self._next: Callable[[], None] = self._ask_first
        """What to do once the journal's lines are written."""
        self._exchange: Exchange | None = None
        self._task: asyncio.Task[None] | None = None
        """Waits for what cannot be had at once: a target that has to load, room for a longer answer."""
        self._held_back: list[Callable[[], None]] = []
        """What came meanwhile."""
        self._decoder: Decoder | None = None
        self._upstream: UpstreamRequest | None = None
        """What the target was sent; None: a plain call has sent it."""
        self._refused_with: tuple[int, RawHeaders] | None = None
        self._error_body = b""
        self._has_begun = False
        self._has_stopped_asking = False
        """The target that was asked last is not listened to any more."""
        self._relay: TextRelay | None = None
        self._unread = b""
        """What came in the same read as what is being decoded, after it."""

    # --- before anything is taken ------------------------------------------------------------------------------------

    def start(self, body: bytes) -> Serving | None:
        """Takes the call as far as its lease, or turns it away; None: nothing is taken, hand it over."""
        lane = self._lane
        taken = entered(lane, self._connection, self._way, self._head, self.reply, body)
        if taken is None or isinstance(taken, Refused):
            return taken
        self._asks, lease = taken
        self._leased(lease)
        lane.gateway.running += 1
        lane.pipeline.observer.call_started(self._way.inference.operation, self._way.door.surface)
        lane.when_written(self)
        return self

    def _leased(self, lease: CallLease) -> None:
        """From here on something is taken."""
        self._lease = lease
        self._count = Count(lease, self._asks.request, can_wait=True)
        self._completion = guard.Completion()
        self._answering = Answering(self._lane, self._way, self._asks, lease, self.reply)
        self._dispatch = InOrder(self._asks.deployment.targets, self._lane.pipeline.random)
        self._deadline = self._connection.loop.time() + self._lane.options.limits.request_seconds

    def adopt(
        self,
        body: bytes,
        snapshot: Snapshot,
        principal: Principal,
        reservation: Reservation,
        started: tuple[float, float],
        deadline: float,
        plan: Plan,
        exchange: Exchange | None,
        *,
        is_settled: bool,
    ) -> None:
        """Takes over what lane.plain.PlainCall has begun: its reservation, whose line is journalled, and its request,
        if that is under way. `started`: by both clocks. `plan`: of the call's own snapshot, perhaps an earlier one."""
        lane, pipeline = self._lane, self._lane.pipeline
        speech = self._way.inference.speech()
        call = call_of(lane, self._way, self._head, speech)
        facts = CallFacts.of(call, principal, snapshot, pipeline.clock)
        asks = understood(call, speech, facts, body, principal, snapshot, lambda *_: plan)
        assert isinstance(asks, Understood), "a plain call has passed these stages already"
        self._asks = asks
        facts.started_at, facts.started = started
        self._leased(
            adopted(
                self._asks.deployment,
                self._asks.request,
                self._asks.facts,
                snapshot,
                reservation,
                pipeline.quota,
                pipeline.journal,
                pipeline.observer,
                pipeline.clock,
            )
        )
        self._lease.settled = is_settled
        self._deadline = deadline
        if exchange is not None:
            step = self._dispatch.next(None, pipeline.clock.monotonic())
            assert isinstance(step, Send)
            self._target, self._asked = step.target, self._asks.plan[step.target.provider]
            self._lease.asked(step.target)
            self._count.asked(shows_progress=False)
            if exchange.receiver is not None:
                self._exchange, exchange.receiver = exchange, self

    def written(self, failure: ModelportError | None) -> None:
        """lane.Waiting: the lines are with the kernel, so on we go."""
        if failure is not None:
            self.guarded(self._fail, failure)
        else:
            self.guarded(self._next)

    # --- a target ----------------------------------------------------------------------------------------------------

    def _ask_first(self) -> None:
        self._ask(None)

    def _ask(self, outcome: TargetFailed | None) -> None:
        """The next target, until one takes the request."""
        clock = self._lane.pipeline.clock
        while True:
            step = self._dispatch.next(outcome, clock.monotonic())
            if isinstance(step, GiveUp):
                raise step.error
            if isinstance(step, Wait):
                seconds = max(0.0, step.until - clock.monotonic())
                self._connection.loop.call_later(seconds, self.guarded, self._ask, outcome)
                return
            assert isinstance(step, Send)
            self._target = step.target
            self._asked = self._asks.plan[step.target.provider]
            self._lease.asked(step.target)
            try:
                if self._is_ready():
                    self._send()
                return
            except ModelportError as error:
                outcome = self._failed(error)

    def _is_ready(self) -> bool:
        """Whether the target can be asked now; if it must be waited for, the waiting asks it."""
        if self._asked.readiness is None:
            return True
        ready = self._asked.readiness.readiness()
        if isinstance(ready, Refusal):
            raise ready.error
        if isinstance(ready, NeedsWaiting):  # it was ready when the call was admitted
            self._task = self._connection.loop.create_task(self._when_ready(ready))
        return ready is None

    async def _when_ready(self, waiting: NeedsWaiting[None]) -> None:
        try:
            seconds = self._asks.deployment.timeouts.queue
            step = partial(self._readied, await until_ready(waiting, seconds))
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends the call and not this task
            step = partial(raised, error)
        self._task = None
        self.guarded(step)

    def _readied(self, refusal: Refusal | None) -> None:
        try:
            if refusal is not None:
                raise refusal.error
            self._send()
        except ModelportError as error:
            self._ask(self._failed(error))

    def _send(self) -> None:
        provider = self._asked.provider
        self._decoder = self._refused_with = self._relay = None
        self._unread = b""
        self._has_begun = self._has_stopped_asking = False
        self._upstream = upstream = provider.encode(self._asks.request, self._target)
        if not upstream.queued:
            self._count.asked(shows_progress=upstream.shows_progress)
        self._exchange = self._lane.wire.send(provider.address, upstream, self._asks.deployment.timeouts, self)
        if self._connection.flow.write_paused:
            self._exchange.pause()

    # --- its answer --------------------------------------------------------------------------------------------------

    def answer_began(self, status: int, headers: Callable[[], RawHeaders]) -> None:
        """upstream.wire.Receiver"""
        if 200 <= status < 300:
            self._decoder = self._asked.provider.decoder(self._asks.request)
            if self._upstream is not None:
                self._count.asked(shows_progress=self._upstream.shows_progress)
            if self._asks.request.stream and self._asks.request.choices == 1:
                self._relay = TextRelay(partial(self._asked.provider.decoder, self._asks.request), self._count)
        else:
            self._refused_with, self._error_body = (status, headers()), b""

    def answer_grew(self, data: bytes) -> None:
        """upstream.wire.Receiver"""
        if self._has_stopped_asking:
            return
        if self._task is None:
            self.guarded(self._grew, data)
        else:
            self._held_back.append(partial(self._grew, data))

    def answer_ended(self) -> None:
        """upstream.wire.Receiver"""
        self._exchange = None
        if self._has_stopped_asking:
            return
        if self._task is None:
            self.guarded(self._ended)
        else:
            self._held_back.append(self._ended)

    def answer_whole(self, body: bytes) -> None:
        """upstream.wire.Receiver"""
        self.answer_began(200, list)
        if body:
            self.answer_grew(body)
        self.answer_ended()

    def answer_failed(self, error: ModelportError) -> None:
        """upstream.wire.Receiver"""
        self._exchange = None
        if self._has_stopped_asking:
            return
        if self._task is None:
            self.guarded(self._broke, error)
        else:
            self._held_back.append(partial(self._broke, error))

    def _grew(self, data: bytes) -> None:
        if self._decoder is None:
            self._error_body += data
            if len(self._error_body) >= ERROR_BODY_BYTES:
                self._ended()
            return
        relay = self._relay
        if relay is None:
            self._decode(data)
            return
        while data:
            relayed, unread, data = relay.take(data)
            self._unread = data
            if relayed:
                self.reply.piece(relayed)
            if not unread:
                return
            events = self._decode(unread)
            if events is None or self._count.stopped:
                return
            relay.learn(unread, events, self._answering.writer)
            if self._task is not None:
                self._held_back.insert(0, partial(self._grew, data))
                return

    def _decode(self, data: bytes) -> list[Event] | None:
        """The events in it, passed on; None: this target has failed."""
        assert self._decoder is not None
        try:
            events = self._decoder.feed(data)
        except ModelportError as error:
            self._broke(error)
            return None
        if events:
            self._has_begun = True
            self._take(events)
        return events

    def _ended(self) -> None:
        if self._decoder is None:
            self._broke(self._target_refused())
            return
        if self._relay is not None:
            held, self._relay = self._relay.release(), None
            if held:
                self._held_back += [partial(self._grew, held), self._ended]
                self._go_on()
                return
        try:
            events = self._decoder.end()
        except ModelportError as error:
            self._broke(error)
            return
        if events:
            self._has_begun = True
            self._held_back.append(self._complete)
            self._take(events)
        else:
            self._complete()

    def _take(self, events: list[Event]) -> None:
        """Counts, filters and passes on."""
        self._answering.feed(self._completion.feed(self._count.feed(events)))
        self._go_on()

    def _go_on(self) -> None:
        """What the count has to say first, then what was held back, until something has to wait again."""
        if self._count.waiting is not None:
            self.pause()
            self._task = self._connection.loop.create_task(self._when_covered(self._count.waiting))
        elif self._count.stopped:
            self._held_back.clear()
            if self._unread:
                self._count.overtaken(self._leftover())
            self._complete()
        else:
            while self._held_back and self._task is None:
                self._held_back.pop(0)()

    def _leftover(self) -> list[Event]:
        """As if the whole read had been decoded at once."""
        assert self._decoder is not None
        try:
            return self._decoder.feed(self._unread)
        except ModelportError:
            return []

    async def _when_covered(self, waiting: NeedsWaiting[bool]) -> None:
        try:
            step = partial(self._covered, await waiting.resume())
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends the call and not this task
            step = partial(raised, error)
        self._task = None
        self.guarded(step)

    def _covered(self, granted: object) -> None:
        if not self._connection.flow.write_paused:
            self.resume()
        self._answering.feed(self._completion.feed(self._count.resumed(granted)))
        self._go_on()

    def _target_refused(self) -> ModelportError:
        assert self._refused_with is not None
        status, headers = self._refused_with
        named = {name.decode("latin-1").lower(): value.decode("utf-8", "surrogateescape") for name, value in headers}
        return self._asked.provider.failure(status, named, self._error_body[:ERROR_BODY_BYTES])

    def _broke(self, error: ModelportError) -> None:
        """Another target may still be tried, unless something of this one's answer has been used."""
        self._stop_asking()
        if self._decoder is None and self._refused_with is not None:
            error = self._target_refused()  # what came of the error's body before it broke is its text
        self._count.failed(error)
        outcome = self._failed(error)
        if self._has_begun:
            raise error
        self._ask(outcome)

    def _failed(self, error: ModelportError) -> TargetFailed:
        return self._lane.pipeline.target_failures.take(self._target, error, self._asks.request)

    def _stop_asking(self) -> None:
        self._has_stopped_asking = True
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            if exchange.connection is None:
                self._count.not_asked()
            exchange.abort()

    def _complete(self) -> None:
        """All is counted: the lease is settled, and the last bytes wait for its line."""
        self._stop_asking()
        if not self._count.is_begun:
            raise UpstreamFailed("The model gave an empty answer.")
        self._answering.feed([*self._completion.end(), *self._count.end()])
        self._lease.settle(Ending.COMPLETED, self._count.usage(), status=200)
        self._next = self._finish
        self._lane.when_written(self)

    def _finish(self) -> None:
        self._answering.end()
        self._over()

    # --- other ends --------------------------------------------------------------------------------------------------

    def guarded(self, step: Callable[P, None], *arguments: P.args, **named: P.kwargs) -> None:
        """Runs a step, unless the call is over. What it raises ends the call."""
        if self.reply.response_complete:
            return
        try:
            step(*arguments, **named)
        except ModelportError as error:
            self._fail(error)
            drop_frames(error)
        except Exception as error:  # noqa: BLE001 - the end of a request
            operation = self._way.inference.operation
            told = (type(error).__name__, operation, self._head.request_id, frames(error))
            log.error("unhandled %s: %s request_id=%s\n%s", *told)
            self._settle(Ending.FAILED, 500, InternalError.code)
            self._end(InternalError())
            drop_frames(error)
        self.reply.flush()

    def _fail(self, error: ModelportError) -> None:
        """Ends the call with this error."""
        self._settle(*ended_by(error, self._asks.facts, self._count))
        self._end(error)

    def _settle(self, ending: Ending, status: int, code: str | None) -> None:
        self._stop_asking()
        if self._decoder is not None:
            self._count.cut_short(self._decoder.reported())
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
        self._lease.settle(ending, status=status, error_code=code)
        self._lane.write_now()

    def _end(self, error: ModelportError) -> None:
        try:
            self._answering.fail(error)
        finally:
            self._over()

    def client_gone(self) -> None:
        """The connection is lost: the work stops, and what was made is settled."""
        if self.reply.response_complete:
            return  # it has ended already
        self.reply.abandoned()
        self._settle(Ending.CANCELLED, 499, None)
        self._over()

    def sweep(self, now: float) -> None:
        """Ends a call that outlasts the request's own limit."""
        if now > self._deadline:
            self.guarded(self._fail, too_late())

    def stop(self) -> None:
        """The time to drain is over."""
        self.guarded(self._fail, stopped())

    def pause(self) -> None:
        """The client reads more slowly than the target writes."""
        if self._exchange is not None:
            self._exchange.pause()

    def resume(self) -> None:
        """It has caught up."""
        if self._exchange is not None:
            self._exchange.resume()

    def _over(self) -> None:
        if self._next is nothing_more:
            return
        self._next = nothing_more  # else it would hold itself, until a collector comes
        self._held_back.clear()
        self._decoder = self._relay = None
        self._lane.gateway.running -= 1
        self._connection.call_over(self.reply)


def nothing_more() -> None:
    """The step of a call that is over."""


def raised(error: Exception) -> None:
    """For a step that failed elsewhere."""
    raise error
