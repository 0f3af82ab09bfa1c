"""What a caller gets of a call's events: the chunks of a stream as they come, or one answer when all is there."""

from __future__ import annotations

import math
from collections.abc import Callable

from modelport.core.answers import AnswerHead
from modelport.core.events import Event
from modelport.core.requests import Request
from modelport.gateway.call import CallHead, Origin, Reply
from modelport.gateway.codec import StreamWriter
from modelport.gateway.fold import Fold, WholeAnswer, fold_of


class Answering:
    """One call's answer, in the words of its surface. Nothing of it is begun before there is an event."""

    __slots__ = ("_fold", "_head", "_made", "_named", "_origin", "_origin_of", "_reply", "_request", "writer")

    _named: AnswerHead
    _origin: Origin

    def __init__(
        self, head: CallHead, request: Request, reply: Reply, origin: Callable[[], Origin], made: Callable[[], float]
    ) -> None:
        """`origin`: asked when the answer begins. `made`: the clock, in unix seconds."""
        self._head = head
        self._request = request
        self._reply = reply
        self._origin_of: Callable[[], Origin] | None = origin
        self._made = made
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
        assert self._origin_of is not None
        origin, speech, request = self._origin_of(), self._head.speech, self._request
        created, name = math.floor(self._made()), origin.deployment.answered_name
        self._named = AnswerHead(id=speech.new_id(), created=created, model=name)
        if speech.stream is not None and request.stream:
            self.writer = speech.stream(self._named, request, self._head.reasoning)
            self._reply.stream(origin)
            self._reply.piece(self.writer.feed(events))
        else:
            self._origin = origin
            self._fold = fold_of(request)
            self._fold.feed(events)

    def forget(self) -> None:
        """The call is over: nothing of it is held any more."""
        self._origin_of = None

    def end(self) -> None:
        """The last bytes of an answer that is complete."""
        if self.writer is not None:
            self._reply.last(self.writer.end())
        else:
            assert self._fold is not None
            body = self._head.speech.whole(self._named, self._request, self._fold.end(), self._head.reasoning)
            self._reply.whole(body, self._origin)
