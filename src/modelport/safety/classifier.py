"""The filter `classifier`: hate, sexual, violence and self-harm, by heads on MiniLM's vectors in the embeddings worker.

Each piece of a text is judged by itself, and the highest counts. English texts; docs/reference/safety-figures.md says
how well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from modelport.core.ports.safety import (
    Classify,
    FilterParts,
    FilterUnavailableError,
    Question,
    UnreadableError,
    Verdicts,
)
from modelport.core.ports.stages import NeedsWaiting
from modelport.core.safety import HARMS, Category, Severity, Verdict
from modelport.safety.levels import Levels, trained_levels
from modelport.safety.sentences import split_pieces

USES: Final = ("classify",)
LOOP_CHARACTERS: Final = 8192
"""What is longer is divided outside the loop."""
TEXT_CHARACTERS: Final = 1_000_000
"""What is longer is not judged: it would take minutes of a processor."""


def open_filter(parts: FilterParts) -> Classifier:
    """Raises FilterUnavailableError."""
    return Classifier(classify_of(parts), trained_levels())


def classify_of(parts: FilterParts) -> Classify:
    """The adapter. Raises FilterUnavailableError."""
    found: Classify | None = parts.adapters.get("classify")
    if found is None:
        raise FilterUnavailableError(
            "needs the embedded all-minilm-l6-v2; get it with `pip install 'modelport[local]'`, or name another filter"
        )
    return found


class Classifier:
    """core.ports.safety.SafetyFilter"""

    name = "classifier"
    categories = frozenset(HARMS)

    def __init__(self, classify: Classify, levels: Levels) -> None:
        self._classify = classify
        self._levels = levels
        self.version = levels.version
        self.annotate_only = levels.annotate_only & self.categories

    def judge(self, question: Question) -> Verdicts | NeedsWaiting[Verdicts]:
        """core.ports.safety.SafetyFilter"""
        wanted = question.categories & self.categories
        if not wanted or not question.text.strip():
            return ()

        async def resume() -> Verdicts:
            spans, pieces = await divided(question.text)
            found = self._verdicts(wanted, spans, await self._classify.scores(pieces))
            return tuple(one for one in found if one.severity is not Severity.SAFE or question.wants_safe)

        return NeedsWaiting(resume)

    def _verdicts(
        self, wanted: frozenset[Category], spans: Sequence[tuple[int, int]], scores: Sequence[Mapping[str, float]]
    ) -> Iterable[Verdict]:
        for category in HARMS:
            if category in wanted:
                at = max(range(len(spans)), key=lambda at: scores[at][category.value])
                score = scores[at][category.value]
                severity = self._levels.thresholds.of(category).severity(score)
                yield Verdict(category, severity, score, *spans[at], self.name, self.version)


async def divided(text: str) -> tuple[list[tuple[int, int]], list[str]]:
    """The pieces of a text that is not blank: their spans, and what a worker is sent of them. Raises
    UnreadableError."""
    if len(text) > TEXT_CHARACTERS:
        raise UnreadableError(f"The deployment's content filter reads texts of up to {TEXT_CHARACTERS} characters.")
    spans = await asyncio.to_thread(split_pieces, text) if len(text) > LOOP_CHARACTERS else split_pieces(text)
    # A lone surrogate has no UTF-8; its replacement keeps the offsets.
    sendable = text if text.isascii() else text.encode("utf-8", "replace").decode()
    return spans, [sendable[start:end] for start, end in spans]
