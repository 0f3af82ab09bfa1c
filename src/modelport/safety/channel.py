"""One growing text of an answer (its content, its reasoning, its refusal, one tool call), and what of it may leave."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Final

from msgspec.structs import replace

from modelport.core.events import ReasoningDelta, RefusalDelta, TextDelta, ToolCallDelta
from modelport.core.ports.safety import (
    FilterOutageError,
    Progress,
    Question,
    SafetyFilter,
    StreamingFilter,
    TextStream,
    Verdicts,
)
from modelport.core.ports.stages import NeedsWaiting, passed
from modelport.safety.argument_text import ArgumentText
from modelport.safety.further import Carrier
from modelport.safety.judging import Judge, Waiting
from modelport.safety.passages import Kind, Passage
from modelport.safety.pieces import complete_sentences
from modelport.safety.policy import Findings

Delta = TextDelta | RefusalDelta | ReasoningDelta | ToolCallDelta
UNLIMITED: Final = 1 << 62
WAITING_AT_MOST: Final = 1024
"""Deltas that one channel holds back: where more come without a text that ends, what is there is judged."""


class Followed:
    """A stream of one filter. `allowed`: so much of the channel's text may leave, as far as it knows."""

    __slots__ = ("allowed", "offset", "pending", "question", "stream")

    def __init__(self, stream: TextStream, question: Question, offset: int) -> None:
        self.stream = stream
        self.question = question
        self.offset = offset
        self.allowed = offset
        self.pending: NeedsWaiting[Progress] | None = None


class Channel:
    """Deltas go in; those that may leave come out in order, cut where they may leave in part."""

    def __init__(self, judge: Judge, findings: Findings, window_chars: int, piece_chars: int, slack: int = 0) -> None:
        """`piece_chars`: the longest text that is judged as one sentence. `slack`: so many characters may leave before
        they are judged."""
        self._judge = judge
        self._findings = findings
        self._window = window_chars
        self._piece = piece_chars
        self._slack = slack
        self._by_sentence: list[SafetyFilter] = [
            found
            for found in judge.filters
            if not isinstance(found, StreamingFilter) and judge.question(found, "", Kind.CONTEXT) is not None
        ]
        self._streams = self._opened(0)
        self._arguments: ArgumentText | None = None
        self._prefix = 0
        """So much of the text is the name of a function, which is no part of the arguments."""
        self._waiting: deque[Delta | Carrier] = deque()
        self._left = 0
        """So much of the deltas' own text has left."""
        self.fed = 0
        """So many characters have come."""
        self._unjudged = ""
        self._recent: deque[str] = deque()
        self._recent_length = 0
        """The end of the text, from which a stream that has ended goes on."""
        self._has_ended = False
        self._barrier = UNLIMITED
        """Where something begins that is blocked."""

    def _opened(self, offset: int) -> list[Followed]:
        """Streams of the text from there on."""
        return [
            Followed(found.stream(question, self._window), question, offset)
            for found in self._judge.filters
            if isinstance(found, StreamingFilter)
            and (question := self._judge.question(found, "", Kind.CONTEXT)) is not None
        ]

    @property
    def judged(self) -> int:
        """So many characters have been judged."""
        return self.fed - len(self._unjudged)

    @property
    def is_waiting(self) -> bool:
        """Something is held back."""
        return bool(self._waiting)

    # --- text in -----------------------------------------------------------------------------------------------------

    def add(self, delta: Delta | Carrier) -> None:
        """The next delta."""
        self._waiting.append(delta)
        text = self._text(delta)
        if not text:
            return
        if self._has_ended:
            self._reopen()
        self.fed += len(text)
        self._recent.append(text)
        self._recent_length += len(text)
        while self._recent_length - len(self._recent[0]) >= self._window:
            self._recent_length -= len(self._recent.popleft())
        if self._by_sentence:
            self._unjudged += text
        self._follow(text)

    def _text(self, delta: Delta | Carrier) -> str:
        if not isinstance(delta, ToolCallDelta):
            return delta.text
        if self._arguments is None:
            self._arguments = ArgumentText()
        id = f"{delta.id}\n" if delta.id and any(map(str.isspace, delta.id)) else ""  # a host's have no blanks
        name = f"{id}{delta.name}\n" if delta.name else id
        self._prefix += len(name)
        return name + self._arguments.feed(delta.arguments)

    def _follow(self, text: str | None) -> None:
        """Feeds the streams; None: ends them."""
        for each in self._streams:
            try:
                outcome = each.stream.end() if text is None else each.stream.feed(text)
            except FilterOutageError:
                self._fail(each)
                continue
            if isinstance(outcome, NeedsWaiting):
                each.pending = outcome
            else:
                self._advance(each, outcome)

    def _fail(self, each: Followed) -> None:
        self._findings.fail(each.question.categories)
        self._streams = [other for other in self._streams if other is not each]

    def _advance(self, each: Followed, progress: Progress) -> None:
        count, verdicts = progress
        each.allowed = count + each.offset
        self._block(verdicts, each.offset)

    def _pending(self) -> Waiting:
        """What has to be awaited before the streams know more. It gives no verdicts: those are the channel's own."""
        waiting: Waiting = []
        for each in self._streams:
            if each.pending is not None:
                waiting.append((partial(self._await, each, each.pending), each.question))
                each.pending = None
        return waiting

    async def _await(self, each: Followed, pending: NeedsWaiting[Progress]) -> Verdicts:
        try:
            self._advance(each, passed(await pending.resume()))
        except FilterOutageError:
            self._fail(each)
        return ()

    def _block(self, verdicts: Verdicts, offset: int) -> None:
        start = self._findings.add(verdicts)
        if start is not None:
            self._barrier = min(self._barrier, offset + start)

    def _reopen(self) -> None:
        """The text goes on after it seemed to have ended: a match across the gap is found before all of it leaves, and
        so is one that is a word by itself only where the gap is seen."""
        self._has_ended = False
        self._streams = self._opened(self.fed - self._recent_length)
        if self._recent:
            self._follow("".join(self._recent))
            self._streams += self._opened(self.fed)

    # --- judging -----------------------------------------------------------------------------------------------------

    def begin(self, *, is_end: bool, least: int = 0) -> list[tuple[Findings, Waiting, int]]:
        """Asks the filters that judge sentence by sentence about those that are complete; each with its findings, what
        has to be awaited, and where it begins; and what the streams wait for. `is_end`: what is left is complete too.
        `least`: fewer characters are not asked about before. Then call `judged_sentence`."""
        is_end = is_end or len(self._waiting) > WAITING_AT_MOST
        if is_end and not self._has_ended:
            self._has_ended = True
            self._follow(None)
        asked: list[tuple[Findings, Waiting, int]] = []
        if waiting := self._pending():
            asked.append((self._judge.findings(), waiting, self.fed))
        if len(self._unjudged) < least and not is_end:
            return asked
        text, start = self._unjudged, self.fed - len(self._unjudged)
        ends = complete_sentences(text, self._piece)
        if is_end and text and (not ends or ends[-1] < len(text)):
            ends.append(len(text))
        before = 0
        for end in ends:
            sentence = text[before:end]
            if not sentence.isspace():
                findings = self._judge.findings()
                passage = Passage(sentence, Kind.CONTEXT)
                asked.append((findings, self._judge.begin(findings, passage, self._by_sentence), start + before))
            before = end
        self._unjudged = text[before:]
        return asked

    def judged_sentence(self, findings: Findings, start: int) -> None:
        """What the filters have said of the sentence that begins there."""
        self._findings.merge(findings)
        if findings.is_blocked:
            self._barrier = min(self._barrier, start)

    # --- text out ----------------------------------------------------------------------------------------------------

    def release(self) -> Sequence[Delta]:
        """What may leave now."""
        limit = self._barrier
        if not self._has_ended and not self._slack:
            limit = min(limit, *(each.allowed for each in self._streams), UNLIMITED)
        if self._by_sentence:
            limit = min(limit, self.fed - len(self._unjudged) + self._slack)
        place = self._source_place(limit)
        waiting, found = self._waiting, list[Delta]()
        while waiting:
            delta = waiting[0]
            text = delta.arguments if isinstance(delta, ToolCallDelta) else delta.text
            if self._left + len(text) <= place:
                waiting.popleft()
                found.append(delta.event if isinstance(delta, Carrier) else delta)
                self._left += len(text)
                continue
            room = place - self._left
            is_whole = isinstance(delta, Carrier) or (isinstance(delta, TextDelta) and delta.logprobs is not None)
            if room > 0 and not is_whole:
                assert not isinstance(delta, Carrier)
                first, waiting[0] = split(delta, room)
                found.append(first)
                self._left += room
            break
        return found

    def _source_place(self, limit: int) -> int:
        """So much of the deltas' own text is that much of the text that is judged; -1: not even a name may leave."""
        if limit >= self.fed:
            return UNLIMITED if self._barrier == UNLIMITED else limit
        if self._arguments is None:
            return limit
        return self._arguments.source_place(limit - self._prefix) if limit >= self._prefix else -1


def split(delta: Delta, at: int) -> tuple[Delta, Delta]:
    """The same text as two deltas; what comes beside it stays with the first."""
    if isinstance(delta, ToolCallDelta):
        rest = ToolCallDelta(delta.index, arguments=delta.arguments[at:], choice=delta.choice)
        return replace(delta, arguments=delta.arguments[:at]), rest
    if isinstance(delta, TextDelta):
        return replace(delta, text=delta.text[:at]), TextDelta(delta.text[at:], delta.choice)
    return replace(delta, text=delta.text[:at]), replace(delta, text=delta.text[at:])
