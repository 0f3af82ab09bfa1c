"""What a caller gets of a call's events: the chunks of a stream as they come, or one answer when all is there."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from modelport.core.answers import AnswerHead, ChatAnswer, ChatChoice, PlainAnswer
from modelport.core.events import Event
from modelport.core.requests import Request
from modelport.core.usage import TokenUsage
from modelport.gateway.call import Origin, Reply
from modelport.gateway.codec import StreamWriter
from modelport.gateway.fold import Fold, WholeAnswer, fold_of
from modelport.gateway.plan import CallPlan

encoded = msgspec.json.Encoder().encode


class Answering:
    """One call's answer, in the words of its surface. Nothing of it is begun before there is an event."""

    __slots__ = ("_fold", "_made", "_named", "_origin", "_origin_of", "_plan", "_reply", "_request", "writer")

    _named: AnswerHead
    _origin: Origin

    def __init__(
        self,
        plan: CallPlan,
        request: Request,
        reply: Reply,
        origin: Callable[[], Origin],
        made: Callable[[], float],
    ) -> None:
        """`origin`: asked when the answer begins. `made`: the clock, in unix seconds."""
        self._plan = plan
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
        origin, request, head = self._origin_of(), self._request, self._plan.caller.head
        speech, created, name = head.speech, math.floor(self._made()), self._plan.deployment.answered_name
        self._named = AnswerHead(id=speech.new_id(), created=created, model=name)
        if speech.stream is not None and request.stream:
            self.writer = speech.stream(self._named, request, head.reasoning)
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
            head = self._plan.caller.head
            body = head.speech.whole(self._named, self._request, self._fold.end(), head.reasoning)
            self._reply.whole(body, self._origin)


def whole_text(plan: CallPlan, request: Request, answer: PlainAnswer, made: float) -> bytes:
    """All of an answer at once, as one JSON object; `made`: when, in unix seconds."""
    head = plan.caller.head
    id, created = head.speech.new_id(), int(made)
    form = plan.answers.get(answer.finish_reason) or plan.answer(answer.finish_reason)
    if form and answer.usage is None and answer.extra is None:
        prompt, completion = answer.prompt, answer.completion
        said = (id.encode(), created, encoded(answer.text), prompt, prompt + completion, completion)
        return form % said
    named = AnswerHead(id=id, created=created, model=plan.deployment.answered_name)
    usage = answer.usage or TokenUsage(input=answer.prompt, output=answer.completion)
    choice = ChatChoice(0, answer.text, answer.finish_reason, extra=answer.extra)
    extra = answer.extra.answer if answer.extra is not None else {}
    return head.speech.whole(named, request, ChatAnswer((choice,), usage, extra), head.reasoning)
