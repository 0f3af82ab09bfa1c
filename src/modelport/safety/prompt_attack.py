"""The filter `prompt_attack`: jailbreaks of the caller's, and attacks that hide in text which others wrote.

Two models vote: Guardian's, of words and characters, and the head on MiniLM's vectors. One that is nearly sure blocks
by itself; both block together where each is less so. The head alone annotates from its lower threshold on.
"""

from __future__ import annotations

import asyncio
from typing import Final

from modelport.core.ports.safety import Classify, FilterParts, Question, Verdicts
from modelport.core.ports.stages import NeedsWaiting
from modelport.core.safety import Category, Severity, Source, Verdict
from modelport.safety.classifier import classify_of, divided
from modelport.safety.levels import ATTACK, Levels, trained_levels

USES: Final = ("classify",)
GUARDIAN_SURE: Final = 0.93
"""Of the harmless sentences of the training, 1 of 900 reaches it."""
GUARDIAN_FINDS: Final = 0.807
"""The threshold that Guardian's authors have calibrated; 3 % of harmless prompts that sound like attacks reach it."""


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
            found = await self._judge(category, question.text)
            return (found,) if found.severity is not Severity.SAFE or question.wants_safe else ()

        return NeedsWaiting(resume)

    async def _judge(self, category: Category, text: str) -> Verdict:
        spans, pieces = await divided(text)
        heads, guardian = await asyncio.gather(self._classify.scores(pieces), self._classify.attack_scores(pieces))
        scores = [one[ATTACK] for one in heads]
        best = max(range(len(spans)), key=scores.__getitem__)
        surest = max(range(len(spans)), key=guardian.__getitem__)
        if scores[best] > self._levels.block:
            return self._verdict(category, Severity.HIGH, scores[best], spans[best])
        is_annotated = scores[best] > self._levels.annotate
        if guardian[surest] >= (GUARDIAN_FINDS if is_annotated else GUARDIAN_SURE):
            return self._verdict(category, Severity.HIGH, guardian[surest], spans[surest])
        return self._verdict(category, Severity.LOW if is_annotated else Severity.SAFE, scores[best], spans[best])

    def _verdict(self, category: Category, severity: Severity, score: float, span: tuple[int, int]) -> Verdict:
        return Verdict(category, severity, score, *span, self.name, self.version)
