"""Judges an answer as it is made: core.ports.filters.CompletionFilter for one policy.

Each choice has a channel for each text that a caller reads separately. What one choice is blocked for ends that choice;
the answer is cut when every choice has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final

from msgspec.structs import replace

from modelport.core.events import (
    Annotation,
    ChoiceFinished,
    Event,
    FinishReason,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    TextOffsets,
    ToolCallDelta,
)
from modelport.core.identity import Principal
from modelport.core.operations import Operation
from modelport.core.ports.filters import CompletionFilter, Cut
from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.core.requests import Request
from modelport.core.safety import ContentFilterPolicy
from modelport.safety.channel import Channel, Delta, split
from modelport.safety.further import FieldText, Further, Key, of_call, of_text
from modelport.safety.judging import Judge, Waiting, answers
from modelport.safety.passages import prompts_of
from modelport.safety.policy import Findings
from modelport.safety.prompt import outage
from modelport.safety.token_text import TokenText

AT_ONCE_CHARACTERS: Final = 8192
"""Longer texts are judged piece by piece, with the loop's other work in between."""
ROUND_CHARACTERS: Final = 500
"""An asynchronous filter judges so many at a time."""
PIECE_CHARACTERS: Final = 1000
"""The longest sentence that is judged as one, however large the window is."""
SLACK_CHARACTERS: Final = 900
"""So many may pass before an asynchronous filter has judged them."""
FIELDS_AT_MOST: Final = 64
MORE_FIELDS: Final = ("", "")
"""All fields beyond these are one text."""

Outcome = list[Event] | Cut
Asked = list[tuple[Channel, Findings, Waiting, int]]


def completion_stage(
    policy: ContentFilterPolicy, judge: Judge, *, is_strict: bool
) -> Callable[[str, Principal, Request], CompletionFilter]:
    """Makes one filter for each answer. `is_strict`: annotations of asynchronous filters are written as Azure's are."""

    def make(name: str, principal: Principal, request: Request) -> CompletionFilter:
        return CompletionStage(policy, judge, request, is_strict=is_strict)

    return make


class Choice:
    """One choice while it grows."""

    __slots__ = ("channels", "fields", "findings", "finish", "is_over", "said", "talking", "tokens", "voice")

    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.channels: dict[object, Channel] = {}
        self.fields: dict[Key, tuple[FieldText, Channel]] = {}
        """Of what no channel has read: an event of each field leaves when all its text may."""
        self.tokens = TokenText()
        self.voice: type[TextDelta | RefusalDelta] | None = None
        """Whether it began with content or with a refusal."""
        self.talking: object = None
        """The kind of text that came last."""
        self.finish: ChoiceFinished | None = None
        """All its text is here."""
        self.is_over = False
        """Its end has been passed on."""
        self.said = 0
        """Annotations of an asynchronous filter are about all until here."""

    @property
    def judged(self) -> int:
        """Characters of all its channels."""
        return sum(channel.judged for channel in self.channels.values())

    @property
    def fed(self) -> int:
        """Likewise, of all that have come."""
        return sum(channel.fed for channel in self.channels.values())


class CompletionStage:
    """One answer."""

    def __init__(self, policy: ContentFilterPolicy, judge: Judge, request: Request, *, is_strict: bool) -> None:
        self._policy = policy
        self._judge = judge
        self._is_asynchronous = policy.is_asynchronous and request.stream
        self._is_strict = is_strict
        self._is_plain = request.operation is not Operation.CHAT_COMPLETIONS
        """Everything that is said is one text. In chats a refusal is one with the content: some surfaces join them."""
        self._expected = request.choices
        self._choices: dict[int, Choice] = {}
        self._other: list[Event] = []
        """What is no part of a choice, until the next release."""
        self._prompt = 0
        if self._is_asynchronous:
            self._prompt = sum(prompt.characters for prompt in prompts_of(request))

    # --- core.ports.filters.CompletionFilter -------------------------------------------------------------------------

    def feed(self, events: list[Event]) -> Outcome | NeedsWaiting[Outcome]:
        """CompletionFilter. Raises Unavailable for a policy that refuses where a filter does not answer."""
        if sum(map(length, events)) > AT_ONCE_CHARACTERS:
            return NeedsWaiting(partial(self._feed_long, events))
        return self._fed(events)

    def _fed(self, events: list[Event]) -> Outcome | NeedsWaiting[Outcome]:
        for event in events:
            if isinstance(event, TextDelta | RefusalDelta | ReasoningDelta | ToolCallDelta | ChoiceFinished):
                choice = self._choice(event.choice)
                if choice.finish is None and not choice.is_over:
                    self._take(choice, event)
            else:
                self._other.append(event)
        return self._judged(self._begin())

    async def _feed_long(self, events: list[Event]) -> Outcome | Refusal:
        """Piece by piece, with the loop's other work in between."""
        left: list[Event] = []
        for piece in pieces(events):
            outcome: Outcome | Refusal | NeedsWaiting[Outcome] = self._fed(piece)
            if isinstance(outcome, NeedsWaiting):
                outcome = await outcome.resume()
            if isinstance(outcome, Refusal):
                return outcome
            if isinstance(outcome, Cut):
                return Cut([*left, *outcome.events])
            left += outcome
            await asyncio.sleep(0)
        return left

    def end(self) -> Outcome | NeedsWaiting[Outcome]:
        """CompletionFilter"""
        for index, choice in self._choices.items():
            choice.finish = choice.finish or ChoiceFinished(FinishReason.STOP, index)
        return self._judged(self._begin())

    # --- channels ----------------------------------------------------------------------------------------------------

    def _choice(self, index: int) -> Choice:
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = Choice(self._judge.findings())
        return choice

    def _take(self, choice: Choice, event: Delta | ChoiceFinished) -> None:
        further: Iterable[Further] = ()
        if isinstance(event, TextDelta | ChoiceFinished):
            extra, further = of_text(event)
            event = event if not further else replace(event, extra=extra)
        elif isinstance(event, ToolCallDelta):
            further = tuple(of_call(event))
            event = event if not further else replace(event, extra=None)
        if isinstance(event, ChoiceFinished):
            choice.finish = event
        elif event != TextDelta("", event.choice):
            self._add(choice, self._in_one_voice(choice, event))
        for one in further:
            key = one.key if one.key in choice.fields or len(choice.fields) < FIELDS_AT_MOST else MORE_FIELDS
            if key not in choice.fields:
                choice.fields[key] = FieldText(), self._new_channel(choice)
            text, channel = choice.fields[key]
            if (carrier := text.takes(one)) is not None:
                channel.add(carrier)

    def _in_one_voice(self, choice: Choice, delta: Delta) -> Delta:
        """Content and refusal of one choice are one text, in the order in which they come: some surfaces join them, and
        others would show a text on both sides of the other as one."""
        if isinstance(delta, ToolCallDelta) or not delta.text:
            return delta
        if self._is_plain:
            return delta if isinstance(delta, TextDelta) else TextDelta(delta.text, delta.choice)
        if isinstance(delta, ReasoningDelta):
            return delta
        choice.voice = voice = choice.voice or type(delta)
        return delta if isinstance(delta, voice) else voice(delta.text, delta.choice)

    def _add(self, choice: Choice, delta: Delta) -> None:
        if isinstance(delta, TextDelta | RefusalDelta):
            choice.tokens.said(delta.text)
        if isinstance(delta, TextDelta) and delta.logprobs is not None:
            delta = replace(delta, logprobs=choice.tokens.readable(delta.logprobs, self._judge.passes_at_once))
        self._channel(choice, delta).add(delta)

    def _channel(self, choice: Choice, delta: Delta) -> Channel:
        kind: object = TextDelta if self._is_plain or isinstance(delta, RefusalDelta) else type(delta)
        name = (kind, delta.index) if isinstance(delta, ToolCallDelta) else kind
        choice.talking = kind
        channel = choice.channels.get(name)
        if channel is None:
            channel = choice.channels[name] = self._new_channel(choice)
        return channel

    def _new_channel(self, choice: Choice) -> Channel:
        window = self._policy.window_chars
        piece = min(window, ROUND_CHARACTERS if self._is_asynchronous else PIECE_CHARACTERS)
        slack = SLACK_CHARACTERS if self._is_asynchronous else 0
        return Channel(self._judge, choice.findings, window, piece, slack)

    def _begin(self) -> Asked:
        asked: Asked = []
        for choice in self._choices.values():
            if choice.is_over:
                continue
            for name, channel in choice.channels.items():
                kind = name[0] if isinstance(name, tuple) else name
                is_end = choice.finish is not None or kind is not choice.talking
                least = ROUND_CHARACTERS if self._is_asynchronous else 0
                asked += ((channel, *rest) for rest in channel.begin(is_end=is_end, least=least))
            for _, channel in choice.fields.values():
                asked += ((channel, *rest) for rest in channel.begin(is_end=choice.finish is not None))
        return asked

    # --- judged ------------------------------------------------------------------------------------------------------

    def _judged(self, asked: Asked) -> Outcome | NeedsWaiting[Outcome]:
        if any(waiting for _, _, waiting, _ in asked):
            return NeedsWaiting(partial(self._judge_elsewhere, asked))
        return self._outcome(asked)

    async def _judge_elsewhere(self, asked: Asked) -> Outcome | Refusal:
        await answers({findings: waiting for _, findings, waiting, _ in asked})
        return self._outcome(asked)

    def _outcome(self, asked: Asked) -> Outcome:
        for channel, findings, _, start in asked:
            channel.judged_sentence(findings, start)
        events, self._other = self._other, []
        for index, choice in self._choices.items():
            if not choice.is_over:
                events += self._released(index, choice)
        if self._policy.refuses_on_outage and any(choice.findings.has_failed for choice in self._choices.values()):
            raise outage()
        is_done = len(self._choices) >= self._expected and all(choice.is_over for choice in self._choices.values())
        if is_done and any(choice.findings.is_blocked for choice in self._choices.values()):
            return Cut(events)
        return events

    def _released(self, index: int, choice: Choice) -> Iterator[Event]:
        for channel in choice.channels.values():
            yield from channel.release()
        for (_, place), (_, channel) in choice.fields.items():
            beside = choice.channels.get((ToolCallDelta, place))
            if beside is None or not beside.is_waiting:  # a call's name comes first
                yield from channel.release()
        if choice.findings.is_blocked:
            choice.is_over = True
            yield from self._finished(choice, ChoiceFinished(FinishReason.CONTENT_FILTER, index))
        elif choice.finish is not None:
            choice.is_over = True
            yield from self._finished(choice, choice.finish)
        elif self._is_asynchronous and choice.judged > choice.said and choice.fed - choice.said >= ROUND_CHARACTERS:
            yield self._annotation(choice, index, is_last=False)

    def _finished(self, choice: Choice, finish: ChoiceFinished) -> Iterable[Event]:
        is_cut = choice.findings.is_blocked
        if self._is_asynchronous and not is_cut:
            return (finish, self._annotation(choice, finish.choice, is_last=False))
        return (self._annotation(choice, finish.choice, is_last=True), finish)

    def _annotation(self, choice: Choice, index: int, *, is_last: bool) -> Annotation:
        findings = choice.findings
        offsets: TextOffsets | None = None
        if self._is_asynchronous:
            start, end = self._prompt + choice.said, self._prompt + choice.judged
            choice.said = choice.judged
            offsets = TextOffsets(end, start, end)
        is_notable = self._policy.annotate or findings.is_blocked or findings.has_failed
        return Annotation(
            findings.results(),
            index,
            is_notable=is_notable,
            offsets=offsets,
            is_last=is_last,
            is_bare=self._is_strict,
        )


def length(event: Event) -> int:
    """Characters of its text."""
    if isinstance(event, ToolCallDelta):
        return len(event.arguments)
    return len(event.text) if isinstance(event, TextDelta | RefusalDelta | ReasoningDelta) else 0


def pieces(events: list[Event]) -> Iterator[list[Event]]:
    """The same events, each by itself, long texts cut. A text with log-probabilities stays whole."""
    for event in events:
        rest = event
        while length(rest) > AT_ONCE_CHARACTERS and getattr(rest, "logprobs", None) is None:
            assert isinstance(rest, TextDelta | RefusalDelta | ReasoningDelta | ToolCallDelta)
            first, rest = split(rest, AT_ONCE_CHARACTERS)
            yield [first]
        yield [rest]
