"""Aho-Corasick automata of texts, which are tries of their beginnings, too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import ahocorasick

from modelport.safety.rules.matching import is_joined
from modelport.safety.slices import Steps

WORK_OF_A_STEP: Final = 400
"""Letters that are compared, and pauses are possible in between; a candidate counts for ten more."""


def automaton_of(keys: Iterable[tuple[str, Any]]) -> Any:
    """Key → a tuple of all values that it comes with; None without any."""
    by_key: dict[str, list[Any]] = {}
    for key, value in keys:
        by_key.setdefault(key, []).append(value)
    if not by_key:
        return None
    automaton = ahocorasick.Automaton()
    for key, values in by_key.items():
        automaton.add_word(key, tuple(values))
    automaton.make_automaton()
    return automaton


def opening_of(automaton: Any, text: str, positions: Sequence[int], folded: str) -> Steps[int]:
    """From where on a reading of a folded text is the beginning of a key; the text's length if from nowhere."""
    work = 0
    for index, position in enumerate(positions):
        if not is_joined(folded, position):
            if automaton.match(text[index:]):
                return position
            work += len(text) - index
            if work > 20 * WORK_OF_A_STEP:
                work = 0
                yield None
    return len(folded)
