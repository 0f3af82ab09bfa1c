"""Counts what is made, as it is made and before it is passed on: the one place where tokens become usage.

The source's own report holds as far as it agrees with the text that came. What it leaves out (a cut stream, a target
that never says) is charged with the likely prompt and one token for each delta, or by its bytes where the deltas are
too long to be single tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from modelport.core.events import (
    Answered,
    ChoiceFinished,
    Embedding,
    Event,
    FinishReason,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    UsageReported,
)
from modelport.core.ports.stages import NeedsWaiting
from modelport.core.requests import Request
from modelport.core.usage import TokenUsage, UsageSource
from modelport.gateway.estimate import LIKELY_BYTES_PER_TOKEN, byte_length, likely_prompt
from modelport.gateway.lease import BEYOND_ANY_COUNT, CallLease

LONGEST_TOKEN_BYTES = 64
"""No text has so many bytes for each of its tokens: a report of fewer tokens is not believed."""
LONGEST_USUAL_TOKEN_BYTES = 8
"""Tokens of running text are shorter than this on average, in every script we know of."""


class Count:
    """One answer's events in, the same out. After the last of them `end` gives what is still due."""

    __slots__ = (
        "_can_wait",
        "_finished",
        "_is_begun",
        "_is_cut_short",
        "_is_told",
        "_lease",
        "_output",
        "_prompt",
        "_reasoning",
        "_reported",
        "_request",
        "_withheld",
        "choices",
        "stopped",
        "waiting",
    )

    def __init__(self, lease: CallLease, request: Request, *, can_wait: bool = False) -> None:
        self._can_wait = can_wait
        self._lease = lease
        self._request = request
        self._output = Tally()
        self._reasoning = Tally()
        self._finished: frozenset[int] = frozenset()
        self._withheld: Sequence[Event] = ()
        self._is_begun = self._is_cut_short = self._is_told = False
        self._prompt: TokenUsage | None = None
        self._reported: UsageReported | None = None
        self.choices = request.choices
        self.stopped = False
        """The quota has ended the answer: every choice is finished, and the target's work should be stopped."""
        self.waiting: NeedsWaiting[bool] | None = None
        """With `can_wait`: await its `resume` and hand what that gives to `resumed`, before anything else is fed."""
        lease.meter = self

    def feed(self, events: list[Event]) -> list[Event]:
        """What may be passed on. Once `stopped`, nothing more is."""
        if self.stopped or not events:
            return []
        self._lease.first_event()
        return self._fed(events)

    def resumed(self, granted: object) -> list[Event]:
        """What may be passed on of what was withheld: all of it if `granted` is True; if not, the answer ends here."""
        withheld, self._withheld, self.waiting = [*self._withheld], (), None
        if granted is not True:
            return self._cut(withheld[1:])
        return [*self._passed_on(withheld[:1]), *self._fed(withheld[1:])]

    def _fed(self, events: list[Event]) -> list[Event]:
        for position, event in enumerate(events):
            covered = self._counted(event)
            if covered is True:
                continue
            if covered and self._can_wait:
                self.waiting = covered
                self._withheld = events[position:]
                return self._passed_on(events[:position])
            return [*self._passed_on(events[:position]), *self._cut(events[position + 1 :])]
        return self._passed_on(events)

    def text(self, text: str) -> bool:
        """Counts one delta of text that nobody has decoded into an event; False, and nothing counted, where it is not
        covered: feed it then."""
        if self.stopped or self.waiting is not None:
            return False
        self._output.add(text, None)
        if self._lease.covered_tokens == BEYOND_ANY_COUNT:
            return True
        if self._output.tokens + self._reasoning.tokens <= self._lease.covered_tokens:
            return True
        self._output.take_back(text)
        return False

    def cut_short(self, reported: list[Event]) -> None:
        """The answer is given up before its end; `reported`: the source's counts until then."""
        if not self.stopped:
            self._is_cut_short = True
            self.overtaken(reported)

    def overtaken(self, events: list[Event]) -> None:
        """What came together with the event at which the answer `stopped`: a report among it is still believed."""
        for event in events:
            if type(event) is UsageReported:
                self._report(event)

    def end(self) -> list[Event]:
        """Reports the usage, so that every answer ends with exactly one report: what is charged."""
        if self._is_told:
            return []
        self._is_told = True
        return [UsageReported(self.usage())]

    def usage(self) -> TokenUsage:
        """What was made until now."""
        return self._judged()[0]

    def _judged(self) -> tuple[TokenUsage, UsageSource]:
        """What was made until now, and who says so."""
        report = self._reported
        made = TokenUsage(output=self._output.tokens, reasoning=self._reasoning.tokens)
        if report is None:
            if not self._is_begun:
                return self._unseen()
            return self._likely_prompt() + made, self._own_source()
        usage, is_sure = report.usage, report.is_sure
        if report.total and report.total > made.total:
            return TokenUsage(input=report.total - made.total) + made, UsageSource.ESTIMATED
        is_behind = self._is_cut_short and usage.completion < made.completion
        if is_behind or not self._explains_text(usage.completion):
            usage = replace(usage, output=made.output, reasoning=made.reasoning, audio_output=0)
            is_sure = False
        if not usage.prompt:
            usage += self._likely_prompt()
            is_sure = False
        return usage, UsageSource.REPORTED if is_sure else UsageSource.ESTIMATED

    def _unseen(self) -> tuple[TokenUsage, UsageSource]:
        """What a target may have made of which nothing has come: it has read the prompt, and if its answer shows only
        when all is made, it is charged with the tokens that it was asked for."""
        if not self._lease.is_asked:
            return TokenUsage(), UsageSource.NONE
        completion = self._lease.reserved_completion if self._lease.is_in_one_piece else 0
        return self._likely_prompt() + TokenUsage(output=completion), UsageSource.ESTIMATED

    def _explains_text(self, tokens: int) -> bool:
        """Whether the text that came can be so many tokens."""
        if not tokens:
            return not (self._output.tokens or self._reasoning.tokens)
        return self._output.length_bytes + self._reasoning.length_bytes <= tokens * LONGEST_TOKEN_BYTES

    def _likely_prompt(self) -> TokenUsage:
        if self._prompt is None:
            self._prompt = likely_prompt(self._request)
        return self._prompt

    @property
    def is_begun(self) -> bool:
        """Whether anything was made."""
        return self._is_begun

    @property
    def source(self) -> UsageSource:
        """Where `usage` comes from."""
        return self._judged()[1]

    def _own_source(self) -> UsageSource:
        tallies = (self._output, self._reasoning)
        is_counted = any(tally.tokens for tally in tallies) and not any(tally.is_by_bytes for tally in tallies)
        return UsageSource.COUNTED if is_counted else UsageSource.ESTIMATED

    def _counted(self, event: Event) -> bool | NeedsWaiting[bool]:
        """Takes the event into account; not True if the quota does not cover it, or not yet."""
        match event:
            case TextDelta():
                return self._covered(self._output, event.text, event.tokens)
            case RefusalDelta():
                return self._covered(self._output, event.text)
            case ReasoningDelta():
                return self._covered(self._reasoning, event.text)
            case ToolCallDelta():
                return self._covered(self._output, (event.name or "") + event.arguments)
            case ChoiceFinished():
                self._is_begun = True
                self._finished |= {event.choice}
            case UsageReported():
                self._report(event)
            case Answered():
                self._lease.answered(event.answered_model)
            case Embedding():
                self._is_begun = True
        return True

    def _covered(self, tally: Tally, text: str, tokens: int | None = None) -> bool | NeedsWaiting[bool]:
        """Counts before it asks: a token that the limit forbids was still worked for."""
        if not text and not tokens:
            return True
        self._is_begun = True
        tally.add(text, tokens)
        made = self._output.tokens + self._reasoning.tokens
        return made <= self._lease.covered_tokens or self._lease.cover(made)

    def _report(self, report: UsageReported) -> None:
        self._lease.served_as(report.service_tier)
        if report.usage.total or report.total:
            self._reported = report

    def _passed_on(self, events: list[Event]) -> list[Event]:
        """All but the source's reports: `end` gives the one that is charged."""
        if not any(type(event) is UsageReported for event in events):
            return events
        return [event for event in events if type(event) is not UsageReported]

    def _cut(self, dropped: list[Event]) -> list[Event]:
        """Ends every choice that is still open, for want of quota."""
        self.overtaken(dropped)
        self.stopped = True
        ended: list[Event] = [
            ChoiceFinished(FinishReason.LENGTH, choice)
            for choice in range(self.choices)
            if choice not in self._finished
        ]
        self._finished |= frozenset(range(self.choices))
        return ended


class Tally:
    """Tokens of one class. Where the source does not number them, a delta is one token, unless the deltas are longer on
    average than tokens are: such a source sends words or sentences, and its bytes say more."""

    __slots__ = ("_deltas", "_told", "length_bytes")

    def __init__(self) -> None:
        self._told = 0
        self._deltas = 0
        self.length_bytes = 0

    def add(self, text: str, tokens: int | None) -> None:
        """One delta; `tokens` if the source says how many made it."""
        if tokens is not None:
            self._told += tokens
            return
        self._deltas += 1
        self.length_bytes += byte_length(text)

    def take_back(self, text: str) -> None:
        """As if that delta had not come."""
        self._deltas -= 1
        self.length_bytes -= byte_length(text)

    @property
    def is_by_bytes(self) -> bool:
        """Whether the bytes decide."""
        return self.length_bytes > LONGEST_USUAL_TOKEN_BYTES * self._deltas

    @property
    def tokens(self) -> int:
        """The count until now."""
        return self._told + (self.length_bytes // LIKELY_BYTES_PER_TOKEN if self.is_by_bytes else self._deltas)
