"""What a safety filter is: it judges text, and knows nothing of policies, requests or answers.

What it finds is a Verdict; what follows from it, a policy decides (`modelport.safety.policy`).
"""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from modelport.core.ports.stages import NeedsWaiting
from modelport.core.safety import Category, Source, Verdict

Verdicts = tuple[Verdict, ...]


class Question(Struct, frozen=True):
    """What a filter is asked: judge this text for these categories.

    `untrusted`: text that neither the caller nor the model wrote, such as a tool's result: indirect attacks hide there.
    """

    text: str
    source: Source
    categories: frozenset[Category]
    untrusted: bool = False


class FilterOutageError(Exception):
    """The filter could not judge: what runs elsewhere is down, slow or broken. The policy decides what follows."""


class SafetyFilter(Protocol):
    """One way of judging text, found by name in `modelport.safety`.

    `judge` holds the loop for at most a millisecond: what takes longer, or runs elsewhere, is a NeedsWaiting whose
    `resume` gives the verdicts. Both raise FilterOutageError.
    """

    name: str
    version: str
    categories: frozenset[Category]

    def judge(self, question: Question) -> Verdicts | NeedsWaiting[Verdicts]: ...


class TextStream(Protocol):
    """A filter that follows a text as it grows, so that no match of it ever leaves."""

    def feed(self, text: str) -> tuple[int, Verdicts]:
        """Takes the next piece; returns how many code points of all text so far may be released, and what was found."""
        ...

    def end(self) -> tuple[int, Verdicts]:
        """All text has been fed: the same, for what was held back."""
        ...
