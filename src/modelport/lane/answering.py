"""What a caller gets of a call's events: the chunks of a stream as they come, or one answer when all is there."""

from __future__ import annotations

import math

from modelport.core.answers import AnswerHead
from modelport.core.errors import ModelportError
from modelport.core.events import Event
from modelport.gateway.fold import Fold, WholeAnswer, fold_of
from modelport.gateway.lease import CallLease
from modelport.gateway.pipeline import not_carried_out
from modelport.lane.lane import Lane
from modelport.lane.reply import Reply
from modelport.lane.understood import Understood
from modelport.lane.ways import Way
from modelport.surfaces.answer import answer_headers
from modelport.surfaces.asgi import Headers
from modelport.surfaces.door import StreamWriter


class Answering:
    """One call's answer, in the words of its surface. Nothing of it is begun before there is an event."""

    __slots__ = ("_about", "_asks", "_fold", "_head", "_lane", "_lease", "_reply", "_way", "writer")

    _about: Headers
    _head: AnswerHead

    def __init__(self, lane: Lane, way: Way, asks: Understood, lease: CallLease, reply: Reply) -> None:
        self._lane = lane
        self._way = way
        self._asks = asks
        self._lease = lease
        self._reply = reply
        self._fold: Fold[WholeAnswer] | None = None
        self.writer: StreamWriter | None = None
        """Once a stream has begun."""

    def feed(self, events: list[Event]) -> None:
        """More of the answer."""
        if not events:
            return
        if self.writer is not None:
            data = self.writer.feed(events)
            if data:
                self._reply.piece(data)
        elif self._fold is not None:
            self._fold.feed(events)
        else:
            self._begin(events)

    def _begin(self, events: list[Event]) -> None:
        asks = self._asks
        created = math.floor(self._lane.options.clock.now())
        self._head = AnswerHead(id=asks.speech.new_id(), created=created, model=asks.deployment.answered_name)
        target = self._lease.target
        provider = asks.plan[target.provider].provider if target is not None else None
        dropped = not_carried_out(asks.request, asks.dropped, provider)
        self._about = answer_headers(self._lease.quota(), asks.deployment, asks.snapshot, dropped)
        if asks.speech.stream is not None and asks.request.stream:
            self.writer = asks.speech.stream(self._head, asks.request, self._way.reasoning)
            self._reply.stream(self._about)
            self._reply.piece(self.writer.feed(events))
        else:
            self._fold = fold_of(asks.request)
            self._fold.feed(events)

    def end(self) -> None:
        """The last bytes of an answer that is complete."""
        if self.writer is not None:
            self._reply.last(self.writer.end())
        else:
            assert self._fold is not None
            asks = self._asks
            body = asks.speech.whole(self._head, asks.request, self._fold.end(), self._way.reasoning)
            self._reply.whole(body, self._about)

    def fail(self, error: ModelportError) -> None:
        """The last bytes of one that is not: a refusal, or the stream breaks off."""
        if not self._reply.response_started:
            self._reply.refuse(error)
        else:
            assert self.writer is not None
            self._reply.cut(self.writer.broken(error))
