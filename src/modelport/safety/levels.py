"""The thresholds of the trained heads, and which categories they find well enough to block by: written by
`scripts/train_safety.py` and `python -m bench.safety`."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Final

import msgspec
from msgspec import Struct

from modelport.core.safety import Category, Severity

ATTACK: Final = "attack"
"""The head that knows prompt attacks."""


class HarmLevels(Struct, frozen=True, forbid_unknown_fields=True):
    """The score from which a severity is reached."""

    low: float
    medium: float
    high: float

    def severity(self, score: float) -> Severity:
        """Of a piece with this score."""
        if score > self.high:
            return Severity.HIGH
        if score > self.medium:
            return Severity.MEDIUM
        return Severity.LOW if score > self.low else Severity.SAFE


class AttackLevels(Struct, frozen=True, forbid_unknown_fields=True):
    """The score from which a prompt attack is annotated, and from which it is blocked."""

    annotate: float
    block: float


class Thresholds(Struct, frozen=True, forbid_unknown_fields=True):
    """One for each head."""

    hate: HarmLevels
    sexual: HarmLevels
    violence: HarmLevels
    self_harm: HarmLevels
    attack: AttackLevels

    def of(self, harm: Category) -> HarmLevels:
        """The thresholds of one of the four harms."""
        found: HarmLevels = getattr(self, harm.value)
        return found


class Levels(Struct, frozen=True, forbid_unknown_fields=True):
    """The data file."""

    version: str
    """Of the training that made the heads, too."""
    thresholds: Thresholds
    annotate_only: frozenset[Category]
    """Categories that miss the bar for blocking."""


@cache
def trained_levels() -> Levels:
    """Those that belong to the heads of this version."""
    file = resources.files("modelport.safety").joinpath("data", "classifier.json")
    return msgspec.json.decode(file.read_bytes(), type=Levels)
