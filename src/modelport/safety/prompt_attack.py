"""The filter `prompt_attack`: jailbreaks of the caller's, and attacks that hide in text which others wrote.

Two models vote. Guardian's, of words and characters, is seldom wrong: its vote blocks. The head on MiniLM's vectors
finds more, and blocks only where it is nearly sure; from its lower threshold on it annotates.
"""

from __future__ import annotations

import asyncio
from typing import Final

from modelport.core.ports.safety import Classify, FilterParts, Question, Verdicts
from modelport.core.ports.stages import NeedsWaiting
from modelport.core.safety import Category, Severity, Source, Verdict
from modelport.safety.classifier import classify_of, divided
from modelport.safety.levels import ATTACK, Levels, trained_levels

GUARDIAN_BLOCKS: Final = 0.807
"""The threshold that Guardian's authors have calibrated, for a whole text."""
GUARDIAN_BLOCKS_BY_A_PIECE: Final = 0.86
"""Theirs for a part that condemns all of a text."""
WHOLE_CHARACTERS: Final = 8192
"""A longer text is judged in pieces alone."""


def open_filter(parts: FilterParts) -> PromptAttack:
    """Raises FilterUnavailableError."""
    return PromptAttack(classify_of(parts), trained_levels())


class PromptAttack:
    """core.ports.safety.SafetyFilter"""

    name = "prompt_attack"
    categories = frozenset({Category.JAILBREAK, Category.INDIRECT_ATTACK})

    def __init__(self, classify: Classify, levels: Levels) -> None:
        self._classify = classify
        self._levels = levels.thresholds.attack
        self.version = levels.version
        self.annotate_only = levels.annotate_only & self.categories

    def judge(self, question: Question) -> Verdicts | NeedsWaiting[Verdicts]:
        """core.ports.safety.SafetyFilter"""
        category = Category.INDIRECT_ATTACK if question.untrusted else Category.JAILBREAK
        if question.source is not Source.PROMPT or category not in question.categories or not question.text.strip():
            return ()

        async def resume() -> Verdicts:
            return await self._judge(category, question.text)

        return NeedsWaiting(resume)

    async def _judge(self, category: Category, text: str) -> Verdicts:
        spans, pieces = await divided(text)
        parts, bars = [*spans], [GUARDIAN_BLOCKS_BY_A_PIECE] * len(spans)
        texts = [*pieces]
        if len(text) <= WHOLE_CHARACTERS:
            whole = (spans[0][0], spans[-1][1])
            parts, bars, texts = [whole, *parts], [GUARDIAN_BLOCKS, *bars], [" ".join(pieces), *pieces]
        heads, guardian = await asyncio.gather(self._classify.scores(pieces), self._classify.attack_scores(texts))
        sure = max(range(len(parts)), key=lambda at: guardian[at] - bars[at])
        if guardian[sure] >= bars[sure]:
            return (self._verdict(category, Severity.HIGH, guardian[sure], parts[sure]),)
        scores = [one[ATTACK] for one in heads]
        best = max(range(len(spans)), key=scores.__getitem__)
        if scores[best] > self._levels.block:
            return (self._verdict(category, Severity.HIGH, scores[best], spans[best]),)
        if scores[best] > self._levels.annotate:
            return (self._verdict(category, Severity.LOW, scores[best], spans[best]),)
        return ()

    def _verdict(self, category: Category, severity: Severity, score: float, span: tuple[int, int]) -> Verdict:
        return Verdict(category, severity, score, *span, self.name, self.version)
