"""What a target's answer becomes: bytes into events, counted and passed on, and what came while something was waited
for, in order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from modelport.core.answers import PlainAnswer
from modelport.core.catalog import Target
from modelport.core.errors import ModelportError, UpstreamFailed
from modelport.core.events import Event
from modelport.core.faults import raised
from modelport.core.ports.dispatch import TargetFailed
from modelport.core.ports.filters import Cut
from modelport.core.ports.providers import Decoder, Provider, UpstreamRequest
from modelport.core.ports.stages import Refusal
from modelport.core.requests import ChatRequest, Request
from modelport.gateway import guard
from modelport.gateway.answering import Answering
from modelport.gateway.call import Asking, Cancellable, RawHeaders, Reply, Shell
from modelport.gateway.count import Count
from modelport.gateway.lease import CallLease
from modelport.gateway.pipeline import Asked, Pipeline
from modelport.gateway.relay import TextRelay

ERROR_BODY_BYTES: Final = 64 * 1024


class AnswerReceiver:
    """gateway.call.Receiver. The rest of a call is gateway/exchange.py and gateway/machine.py."""

    __slots__ = (
        "_asked",
        "_asking",
        "_collected",
        "_decoder",
        "_error_body",
        "_has_begun",
        "_has_stopped_asking",
        "_held_back",
        "_lease",
        "_pipeline",
        "_refused_with",
        "_relay",
        "_request",
        "_shell",
        "_then",
        "_unread",
        "_upstream",
        "_waiting",
        "answering",
        "completion",
        "count",
        "reply",
    )

    answering: Answering | None
    """Once there is something to pass on."""
    count: Count | None
    """Once the answer is looked at event by event."""
    reply: Reply
    _asked: Asked
    _asking: Asking | None
    completion: guard.Completion | None
    """Of the filter, if there is one, and once there is something to pass on."""
    _collected: list[bytes] | None
    """What has come of an answer that may be one text."""
    _decoder: Decoder | None
    _error_body: bytes
    _has_begun: bool
    _has_stopped_asking: bool
    """The target that was asked last is not listened to any more."""
    _held_back: list[Callable[[], None]]
    """What came while something was waited for."""
    _pipeline: Pipeline
    _refused_with: tuple[int, RawHeaders] | None
    _relay: TextRelay | None
    _request: Request
    _shell: Shell
    _lease: CallLease
    """Once something is taken."""
    _then: Callable[[Any], None] | None
    """What goes on with what is waited for."""
    _unread: bytes
    """What came in the same read as what is being decoded, after it."""
    _upstream: UpstreamRequest
    """What the target was sent."""
    _waiting: Cancellable | None
    """For what cannot be had at once: room, a target that has to load, a longer answer."""

    # --- what the rest of a call adds --------------------------------------------------------------------------------

    def guarded(self, step: Callable[[], None]) -> None:
        """Runs a step. What it raises ends the call."""
        raise NotImplementedError

    def guarded_with(self, step: Callable[[Any], None], given: object) -> None:
        """As `guarded`, for a step that is given something."""
        raise NotImplementedError

    def ask_next(self, outcome: TargetFailed) -> None:
        """The target has failed before anything of its answer was used."""
        raise NotImplementedError

    def stop_asking(self) -> None:
        """The target is not listened to any more."""
        raise NotImplementedError

    def complete(self) -> None:
        """All of the answer is here."""
        raise NotImplementedError

    def _target(self) -> Target:
        target = self._lease.target
        assert target is not None
        return target

    def counting(self) -> Count:
        """What counts the answer."""
        raise NotImplementedError

    def begin_answer(self) -> Answering:
        """There is something to pass on."""
        raise NotImplementedError

    def complete_at_once(self, answer: PlainAnswer) -> None:
        """All of it is one text, of which nothing else has been taken."""
        raise NotImplementedError

    # --- waiting -----------------------------------------------------------------------------------------------------

    def wait(self, resume: Callable[[], Awaitable[Any]], then: Callable[[Any], None]) -> None:
        """Goes on with `then` and what `resume` gives."""
        self._then = then
        self._waiting = self._shell.wait(resume, self._resumed)

    def _resumed(self, value: Any, error: Exception | None) -> None:
        then, self._then, self._waiting = self._then, None, None
        if error is not None:
            self.guarded_with(raised, error)
        elif then is not None:
            self.guarded_with(then, value)

    # --- its answer --------------------------------------------------------------------------------------------------

    def answer_began(self, status: int, headers: Callable[[], RawHeaders]) -> None:
        """gateway.call.Receiver"""
        if not 200 <= status < 300:
            self._refused_with, self._error_body = (status, headers()), b""
            return
        self._lease.asked(shows_progress=self._upstream.shows_progress)
        if self._may_be_one_text():
            self._collected = []
        else:
            self._decode_events()

    def _may_be_one_text(self) -> bool:
        """Whether all of the answer may be one JSON object with one text, which nobody looks at piece by piece."""
        request, upstream = self._request, self._upstream
        is_whole = type(request) is ChatRequest and not (upstream.streamed or upstream.in_pieces)
        return is_whole and self.completion is None and not (request.extra and request.choices != 1)

    def _decode_events(self) -> None:
        request, codec, count = self._request, self._codec(), self.counting()
        self._decoder = codec.decoder(request)
        is_filtered = self.completion is not None and self.completion.is_filtered
        if request.stream and count.choices == 1 and not is_filtered:
            self._relay = TextRelay(partial(codec.decoder, request), count)

    def _codec(self) -> Provider:
        assert self._asked.codec is not None
        return self._asked.codec

    def answer_grew(self, data: bytes) -> None:
        """gateway.call.Receiver"""
        if self._has_stopped_asking:
            return
        if self._waiting is None:
            self.guarded_with(self._grew, data)
        else:
            self._held_back.append(partial(self._grew, data))

    def events_made(self, events: list[Event]) -> None:
        """gateway.call.Receiver"""
        if self._has_stopped_asking:
            return
        if self._waiting is None:
            self.guarded_with(self._made, events)
        else:
            self._held_back.append(partial(self._made, events))

    def answer_ended(self) -> None:
        """gateway.call.Receiver"""
        self._asking = None
        if self._has_stopped_asking:
            return
        if self._waiting is None:
            self.guarded(self._ended)
        else:
            self._held_back.append(self._ended)

    def answer_whole(self, body: bytes) -> None:
        """gateway.call.Receiver"""
        if self._waiting is None and not self._has_stopped_asking and self._may_be_one_text():
            self.guarded_with(self._take_whole, body)
            return
        self.answer_began(200, list)
        if body:
            self.answer_grew(body)
        self.answer_ended()

    def _take_whole(self, body: bytes) -> None:
        """In one step, if that can be."""
        self._asking, self._collected = None, None
        codec = self._asked.codec
        answer = codec.whole_answer(body) if codec is not None else None
        if answer is not None and self._lease.covers(answer):
            self.complete_at_once(answer)
            return
        self._lease.asked(shows_progress=False)
        self._decode_events()
        if body:
            self._decode(body)
        if self._has_stopped_asking:
            return
        if self._waiting is None:
            self._ended()
        else:
            self._held_back.append(self._ended)

    def answer_failed(self, error: Exception) -> None:
        """gateway.call.Receiver"""
        self._asking = None
        if self._has_stopped_asking:
            return
        step = partial(self._broke, error) if isinstance(error, ModelportError) else partial(raised, error)
        if self._waiting is None:
            self.guarded(step)
        else:
            self._held_back.append(step)

    def _grew(self, data: bytes) -> None:
        collected = self._collected
        if collected is not None:
            if collected or data.startswith(b"{"):
                collected.append(data)
                return
            self._collected = None  # it is something else, or begins oddly
            self._decode_events()
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
            if events is None or self.counting().stopped:
                return
            relay.learn(unread, events, self.answering.writer if self.answering is not None else None)
            if self._waiting is not None:
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
            self._made(events)
        return events

    def _ended(self) -> None:
        if self._collected is not None:
            self._take_whole(b"".join(self._collected))
            return
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
            self._held_back.append(self.complete)
            self._made(events)
        else:
            self.complete()

    def _made(self, events: list[Event]) -> None:
        """Counts, filters and passes on."""
        self._has_begun = True
        count = self.count or self.counting()
        self._pass_on(count.feed(events))

    def _pass_on(self, events: list[Event]) -> None:
        answering = self.answering or self.begin_answer()
        assert self.completion is not None
        answering.feed(self.completion.feed(events))
        self._go_on()

    def _go_on(self) -> None:
        """First the filter, then the count, then what was held back, until something has to wait again."""
        count, completion = self.count, self.completion
        if count is None or completion is None:
            return
        if completion.waiting is not None:
            self.pause()
            self.wait(completion.waiting.resume, partial(self._judged, completion))
        elif completion.is_cut:
            self._held_back.clear()
            assert self._decoder is not None
            count.cut_short(self._decoder.reported())
            self.complete()
        elif count.waiting is not None:
            self.pause()
            self.wait(count.waiting.resume, self._covered)
        elif count.stopped:
            self._held_back.clear()
            if self._unread:
                count.overtaken(self._leftover())
            self.complete()
        else:
            while self._held_back and self._waiting is None:
                self._held_back.pop(0)()

    def _leftover(self) -> list[Event]:
        """As if the whole read had been decoded at once."""
        assert self._decoder is not None
        try:
            return self._decoder.feed(self._unread)
        except ModelportError:
            return []

    def _judged(self, completion: guard.Completion, outcome: list[Event] | Cut | Refusal) -> None:
        self._resume_target()
        answering = self.answering or self.begin_answer()
        answering.feed(completion.resumed(outcome))
        self._go_on()

    def _resume_target(self) -> None:
        if not self._shell.is_blocked():
            self.resume()

    def _covered(self, granted: object) -> None:
        self._resume_target()
        self._pass_on(self.counting().resumed(granted))

    def _target_refused(self) -> ModelportError:
        assert self._refused_with is not None
        status, headers = self._refused_with
        named = {name.decode("latin-1").lower(): value.decode("utf-8", "surrogateescape") for name, value in headers}
        return self._codec().failure(status, named, self._error_body[:ERROR_BODY_BYTES])

    def _broke(self, error: ModelportError) -> None:
        """Another target may still be tried, unless something of this one's answer has been used."""
        self.stop_asking()
        if self._decoder is None and self._refused_with is not None:
            error = self._target_refused()  # what came of the error's body before it broke is its text
        self._lease.failed(error)
        outcome = self.failed(error)
        if self._has_begun:
            is_filtered = bool(self.completion and self.completion.is_filtered)  # its words may be the answer's
            raise UpstreamFailed("The upstream broke its answer off.") if is_filtered else error
        self.ask_next(outcome)

    def failed(self, error: ModelportError) -> TargetFailed:
        return self._pipeline.target_failures.take(self._target(), error, self._request)

    def pause(self) -> None:
        """The client reads more slowly than the target writes."""
        if self._asking is not None:
            self._asking.pause()

    def resume(self) -> None:
        """It has caught up."""
        if self._asking is not None:
            self._asking.resume()
