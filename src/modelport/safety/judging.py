"""Asks the filters of one side of a policy: what they say at once, and what has to be waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final

from modelport.core.ports.safety import (
    FilterOutageError,
    ImageFilter,
    Question,
    SafetyFilter,
    StreamingFilter,
    UnreadableError,
    Verdicts,
)
from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.core.safety import HARMS, Category, SidePolicy, Source
from modelport.safety.passages import Kind, Passage
from modelport.safety.policy import IMAGE_NOT_SCANNED, IMAGE_PARTLY_SCANNED, Findings

AT_A_TIME: Final = 32
"""Questions of one call that filters elsewhere work on at the same time."""
IMAGES_AT_MOST: Final = 64
"""Of one prompt: each takes some hundredths of a second of a processor."""
TOO_MANY_IMAGES: Final = f"The deployment's content filter looks at up to {IMAGES_AT_MOST} pictures of one prompt."

Waiting = list[tuple[Callable[[], Awaitable[Verdicts | Refusal]], Question]]
"""What has to be awaited, and what was asked."""


class Judge:
    """The filters that a policy uses for prompts, or for completions."""

    def __init__(self, side: SidePolicy, source: Source, filters: Sequence[SafetyFilter]) -> None:
        self.side = side
        self.source = source
        self.filters = [found for found in filters if found.categories & side.categories]
        """Of texts."""
        self.image_filters = [
            found for found in filters if isinstance(found, ImageFilter) and self._wanted_of_images(found)
        ]
        self.judged = side.categories & frozenset[Category]().union(*(found.categories for found in self.filters))
        self._categories = {kind: self.judged - not_looked_for(kind, source) for kind in Kind}

    def findings(self) -> Findings:
        """For one prompt, or one choice."""
        return Findings(self.side, self.judged)

    def question(self, found: SafetyFilter, text: str, kind: Kind) -> Question | None:
        """What this filter is asked of such a text; None: nothing."""
        categories = self._categories[kind] & found.categories
        if not categories:
            return None
        lists = frozenset(self.side.blocklists) if Category.CUSTOM_BLOCKLISTS in categories else frozenset[str]()
        return Question(text, self.source, categories, kind is Kind.UNTRUSTED, lists)

    def begin(self, findings: Findings, passage: Passage, filters: Sequence[SafetyFilter] | None = None) -> Waiting:
        """Asks the filters; adds what they say at once, and returns what has to be awaited."""
        waiting: Waiting = []
        for found in self.filters if filters is None else filters:
            question = self.question(found, passage.text, passage.kind)
            if question is None:
                continue
            try:
                outcome = found.judge(question)
            except FilterOutageError as error:
                note_outage(findings, question, error)
                continue
            if isinstance(outcome, NeedsWaiting):
                waiting.append((outcome.resume, question))
            else:
                findings.add(outcome)
        return waiting

    def passes_at_once(self, text: str) -> bool:
        """Whether the filters that can follow a text let this one pass; False where they cannot say so at once. Changes
        no findings."""
        streaming = [one for one in self.filters if isinstance(one, StreamingFilter)]
        for _ in range(2):  # the first time, something else may have taken the time
            findings = self.findings()
            if not self.begin(findings, Passage(text, Kind.CONTEXT), streaming):
                return not (findings.is_blocked or findings.has_failed)
        return False

    def begin_images(self, findings: Findings, images: Sequence[str]) -> Waiting:
        """Asks the filters that look at pictures for each of these addresses or data URLs; what they have not looked
        at, the findings say."""
        waiting: Waiting = []
        if images and not self.image_filters:
            findings.not_scanned.add(IMAGE_NOT_SCANNED)
        for found in self.image_filters:
            question = Question("", self.source, self._wanted_of_images(found))
            looked_at = 0
            for image in images:
                outcome = found.judge_image(image)
                if outcome is None:
                    findings.not_scanned.add(IMAGE_NOT_SCANNED)
                    continue
                looked_at += 1
                if looked_at > IMAGES_AT_MOST:
                    note_outage(findings, question, UnreadableError(TOO_MANY_IMAGES))
                    findings.not_scanned.add(IMAGE_NOT_SCANNED)
                    break
                waiting.append((partial(self._look, findings, outcome, question.categories), question))
        return waiting

    async def _look(
        self, findings: Findings, outcome: NeedsWaiting[Verdicts | None], categories: frozenset[Category]
    ) -> Verdicts:
        try:
            verdicts = await outcome.resume()
        except FilterOutageError:
            findings.not_scanned.add(IMAGE_NOT_SCANNED)
            raise
        if verdicts is None or isinstance(verdicts, Refusal):
            findings.not_scanned.add(IMAGE_NOT_SCANNED)
            return ()
        if not categories.issuperset(self.side.rules.keys() & HARMS):
            findings.not_scanned.add(IMAGE_PARTLY_SCANNED)
        return tuple(one for one in verdicts if one.category in categories)

    def _wanted_of_images(self, found: ImageFilter) -> frozenset[Category]:
        return found.image_categories & self.side.rules.keys()


def not_looked_for(kind: Kind, source: Source) -> frozenset[Category]:
    """Attacks are looked for in prompts, and there where their kind can be."""
    if source is Source.COMPLETION:
        return frozenset((Category.JAILBREAK, Category.INDIRECT_ATTACK))
    absent = frozenset[Category]()
    if kind is not Kind.CALLER:
        absent |= {Category.JAILBREAK}
    if kind is not Kind.UNTRUSTED:
        absent |= {Category.INDIRECT_ATTACK}
    return absent


def note_outage(findings: Findings, question: Question, error: FilterOutageError) -> None:
    """A filter has not answered."""
    findings.fail(question.categories)
    if isinstance(error, UnreadableError):
        findings.unreadable = str(error)


async def answers(waiting: Mapping[Findings, Waiting]) -> None:
    """Waits for all of it, and adds it to the findings it belongs to."""
    asked = [(findings, *one) for findings, ones in waiting.items() for one in ones]
    for first in range(0, len(asked), AT_A_TIME):
        await asyncio.gather(*(answer(*one) for one in asked[first : first + AT_A_TIME]))


async def answer(findings: Findings, resume: Callable[[], Awaitable[Verdicts | Refusal]], question: Question) -> None:
    """Waits for one filter."""
    try:
        outcome = await resume()
    except FilterOutageError as error:
        note_outage(findings, question, error)
        return
    if isinstance(outcome, Refusal):
        raise outcome.error
    findings.add(outcome)
