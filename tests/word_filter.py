"""Doubles of safety filters, which find words, and how they stand for those that come with the package."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from modelport.core.ports.safety import FilterOutageError, FilterParts, Question, Verdicts
from modelport.core.ports.stages import NeedsWaiting
from modelport.core.safety import Category, Severity, Verdict

WORDS: Mapping[str, tuple[Category, Severity]] = {
    "mildhate": (Category.HATE, Severity.LOW),
    "strife": (Category.VIOLENCE, Severity.MEDIUM),
    "carnage": (Category.VIOLENCE, Severity.HIGH),
    "chopping": (Category.VIOLENCE, Severity.LOW),
    "ignorerules": (Category.JAILBREAK, Severity.HIGH),
    "obeyme": (Category.INDIRECT_ATTACK, Severity.HIGH),
    "outage": (Category.HATE, Severity.SAFE),
}
"""`outage` makes the filter fail."""


class WordFilter:
    """core.ports.safety.SafetyFilter"""

    name, version = "classifier", "double"
    categories = frozenset(category for category, _ in WORDS.values())
    annotate_only: frozenset[Category] = frozenset()

    def __init__(self, *, waits: bool = False) -> None:
        """`waits`: each verdict has to be awaited."""
        self.waits = waits
        self.asked: list[Question] = []

    def judge(self, question: Question) -> Verdicts | NeedsWaiting[Verdicts]:
        self.asked.append(question)

        async def resume() -> Verdicts:
            await asyncio.sleep(0)
            return self.verdicts(question)

        return NeedsWaiting(resume) if self.waits else self.verdicts(question)

    def verdicts(self, question: Question) -> Verdicts:
        found = []
        for word, (category, severity) in WORDS.items():
            start = question.text.lower().find(word)
            if start >= 0 and word == "outage":
                raise FilterOutageError("down")
            if start >= 0 and category in question.categories:
                found.append(Verdict(category, severity, 1.0, start, start + len(word), self.name, self.version))
        return tuple(found)


class ColourFilter:
    """An ImageFilter: data URLs with the word `red` in them are sexual, those with `torn` cannot be decoded."""

    name, version = "image", "double"
    categories: frozenset[Category] = frozenset()
    annotate_only: frozenset[Category] = frozenset()
    image_categories = frozenset({Category.SEXUAL})

    def judge(self, question: Question) -> Verdicts:
        return ()

    def judge_image(self, image: str) -> NeedsWaiting[Verdicts | None] | None:
        async def resume() -> Verdicts | None:
            await asyncio.sleep(0)
            if "outage" in image:
                raise FilterOutageError("down")
            found = Verdict(Category.SEXUAL, Severity.HIGH, 1.0, 0, 0, self.name, self.version)
            return None if "torn" in image else (found,) if "red" in image else ()

        return NeedsWaiting(resume) if image.startswith("data:") else None


class ListFilter:
    """A StreamingFilter: the blocklists' exact texts, in any case, and nothing else."""

    name, version = "rules", "double"
    categories = frozenset({Category.CUSTOM_BLOCKLISTS})
    annotate_only: frozenset[Category] = frozenset()

    def __init__(self, parts: FilterParts) -> None:
        self.lists = {name: [e.exact.lower() for e in entries if e.exact] for name, entries in parts.blocklists.items()}

    def judge(self, question: Question) -> Verdicts:
        return tuple(self.found(question, question.text, 0))

    def found(self, question: Question, text: str, offset: int) -> list[Verdict]:
        hits = []
        for name in sorted(question.blocklists):
            for entry in self.lists[name]:
                start = text.lower().find(entry)
                if start >= 0:
                    hits.append(
                        Verdict(
                            Category.CUSTOM_BLOCKLISTS,
                            Severity.HIGH,
                            1.0,
                            start + offset,
                            start + offset + len(entry),
                            self.name,
                            self.version,
                            name,
                            entry,
                        )
                    )
        return hits

    def stream(self, question: Question, window_chars: int) -> Any:
        texts = [entry for name in question.blocklists for entry in self.lists[name]]
        longest = max(map(len, texts), default=0)
        known = SimpleNamespace(text="")

        def held() -> int:
            text = known.text.lower()
            return max(
                (n for n in range(longest) if any(e.startswith(text[len(text) - n :]) for e in texts)), default=0
            )

        def feed(piece: str) -> tuple[int, Verdicts]:
            known.text += piece
            return len(known.text) - held(), tuple(self.found(question, known.text, 0))

        return SimpleNamespace(feed=feed, end=lambda: (len(known.text), ()))


def double_modules(waits: bool = False) -> dict[str, Any]:
    """What stands for the modules of `modelport.safety`, by the name of the filter."""
    words = WordFilter(waits=waits)
    return {
        "classifier": SimpleNamespace(open_filter=lambda parts: words),
        "image": SimpleNamespace(open_filter=lambda parts: ColourFilter()),
        "prompt_attack": SimpleNamespace(open_filter=lambda parts: words),
        "rules": SimpleNamespace(open_filter=ListFilter),
    }
