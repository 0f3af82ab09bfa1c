"""Texts of blocklists, all found in one pass, through what hides them."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from typing import Any, Final

import ahocorasick
from msgspec import Struct

from modelport.core.safety import Category
from modelport.safety.rules.folding import FOLDED, is_foreign
from modelport.safety.rules.skeleton import LEET, SYMBOLS, Skeleton, is_word
from modelport.safety.slices import Steps

CERTAIN: Final = 1.0
DISGUISED: Final = 0.9
"""The score of a text that was found through leetspeak or between spaces."""
SHORT: Final = 4
"""Letters of a word up to which a disguise has to be plainer: short words look like others."""
MAX_GAP: Final = 3
"""Characters between the letters of a word that is written spaced."""
WORK_OF_A_STEP: Final = 400
"""Letters that are compared, and pauses are possible in between; a candidate counts for ten more."""
APOSTROPHES: Final = "'’`"
"""They join two words, such as in `he'll`."""
SPACELESS: Final = (
    *((0x0E00, 0x0FFF), (0x1000, 0x109F), (0x1100, 0x11FF), (0x1780, 0x17FF), (0x2E80, 0xA4CF)),
    *((0xA960, 0xA97F), (0xAC00, 0xD7FF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF)),
)
"""Scripts that write no space at the end of a word, or put endings to it: Thai, Han, kana, Hangul …"""


Origin = Callable[[int], str] | None
"""Gives the original character of the folded one at an index. None: the text was ASCII."""


class RuleId(Struct, frozen=True):
    """Whose entry it is, and what a match is called."""

    category: Category
    entry: str
    blocklist: str | None = None


class Literal(Struct, frozen=True):
    """A text to look for. `letters`: folded, without gaps; `gaps`: the letters with a gap before them."""

    rule: RuleId
    folded: str
    letters: str
    gaps: frozenset[int]
    is_ascii: bool


class Hit(Struct, frozen=True):
    """A match in the folded text."""

    rule: RuleId
    start: int
    end: int
    score: float


def literal_of(rule: RuleId, text: str) -> Literal:
    """An entry, ready to be looked for."""
    folded = " ".join(FOLDED.apply(text).split())
    letters = "".join(char for char in folded if is_word(char))
    gaps: set[int] = set()
    index = 0
    for before, char in zip(" " + folded, folded, strict=False):
        if is_word(char):
            if index and not is_word(before):
                gaps.add(index)
            index += 1
    return Literal(rule, folded, letters, frozenset(gaps), text.isascii())


def is_verbatim(literal: Literal) -> bool:
    """Whether its punctuation counts: it begins or ends with it, or has symbols that are read as letters elsewhere."""
    folded = literal.folded
    return not (is_word(folded[0]) and is_word(folded[-1])) or any(symbol in folded for symbol in SYMBOLS)


class LiteralSet:
    """Any number of texts. Immutable once it is made."""

    def __init__(self, literals: Sequence[Literal]) -> None:
        kept = [literal for literal in literals if literal.folded]
        self._verbatim = _automaton((literal.folded, literal) for literal in kept if is_verbatim(literal))
        self._disguised = _automaton(
            (Skeleton(literal.letters).text, literal) for literal in kept if not is_verbatim(literal)
        )
        self._longest = max((len(literal.folded) for literal in kept), default=0)

    def find(
        self,
        folded: str,
        readings: Sequence[Skeleton],
        origin: Origin = None,
        *,
        start: int = 0,
        is_whole: bool = True,
        known: Container[RuleId] = (),
    ) -> Iterator[Hit | None]:
        """The first match of each rule but the `known` ones, from `start` on, in each reading of a folded text; None
        where the search may pause. In a text that is not whole, a match at its end waits for what follows."""
        last = len(folded) - (0 if is_whole else 1)
        work = 0
        if self._disguised is not None:
            for skeleton in readings:
                found: set[RuleId] = set()
                for end, literals in self._disguised.iter(skeleton.text):
                    if work > WORK_OF_A_STEP:
                        work = 0
                        yield None
                    work += 10
                    positions = skeleton.positions
                    if positions[end] >= last or is_joined(folded, positions[end] + 1):
                        continue
                    for literal in literals:
                        if literal.rule in known or literal.rule in found:
                            continue
                        work += 10 + len(literal.letters)
                        at = positions[end + 1 - len(literal.letters) : end + 1]
                        if at[0] < start:
                            continue
                        score = _score(literal, folded, at, origin)
                        if score is not None:
                            found.add(literal.rule)
                            yield Hit(literal.rule, at[0], at[-1] + 1, score)
        if self._verbatim is not None:
            for end, literals in self._verbatim.iter(folded):
                if work > WORK_OF_A_STEP:
                    work = 0
                    yield None
                for literal in literals:
                    work += 10
                    at = end + 1 - len(literal.folded)
                    if start <= at and end < last and not is_joined(folded, at) and not is_joined(folded, end + 1):
                        yield Hit(literal.rule, at, end + 1, CERTAIN)

    def opening(self, folded: str, readings: Sequence[Skeleton]) -> Steps[int]:
        """From where on a folded text that goes on may be the beginning of a match; its length if from nowhere."""
        found = len(folded)
        if self._disguised is not None:
            for skeleton in readings:
                first = max(0, len(skeleton.text) - self._longest)
                text, positions = skeleton.text[first:], skeleton.positions[first:]
                found = min(found, (yield from _opening(self._disguised, text, positions, folded)))
        if self._verbatim is not None:
            first = max(0, len(folded) - self._longest)
            places = range(first, len(folded))
            found = min(found, (yield from _opening(self._verbatim, folded[first:], places, folded)))
        return found


def _automaton(keys: Iterator[tuple[str, Literal]]) -> Any:
    """Key → the literals that have it; None without any."""
    by_key: dict[str, list[Literal]] = {}
    for key, literal in keys:
        by_key.setdefault(key, []).append(literal)
    if not by_key:
        return None
    automaton = ahocorasick.Automaton()
    for key, literals in by_key.items():
        automaton.add_word(key, tuple(literals))
    automaton.make_automaton()
    return automaton


def _opening(automaton: Any, text: str, positions: Sequence[int], folded: str) -> Steps[int]:
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


def is_joined(folded: str, index: int) -> bool:
    """Whether the characters before and at an index belong to one word."""
    if not 0 < index < len(folded):
        return False
    before, after = folded[index - 1], folded[index]
    return is_word(before) and is_word(after) and not (_is_spaceless(before) or _is_spaceless(after))


def _is_spaceless(char: str) -> bool:
    code = ord(char)
    return code > 0xDFF and any(first <= code <= last for first, last in SPACELESS)


def _score(literal: Literal, folded: str, at: Sequence[int], origin: Origin) -> float | None:
    """How sure it is that the characters at these places are the literal; None: they are not."""
    if is_joined(folded, at[0]):
        return None
    is_plain = " ".join(folded[at[0] : at[-1] + 1].split()) == literal.folded
    if not is_plain and not (
        _reads(literal.letters, [folded[index] for index in at]) and _gaps_fit(literal, folded, at)
    ):
        return None
    is_short = literal.is_ascii and len(literal.letters) <= SHORT
    if origin is not None and is_short and all(is_foreign(origin(index)) for index in at):
        return None
    return CERTAIN if is_plain else DISGUISED


def _reads(letters: str, chars: Sequence[str]) -> bool:
    """Whether each character is its letter, or may stand for it; a number is no word."""
    digits = symbols = 0
    for letter, char in zip(letters, chars, strict=True):
        if char == letter:
            continue
        if letter not in LEET.get(char, ""):
            return False
        if char.isdigit():
            digits += 1
        else:
            symbols += 1
    if not digits and not symbols:
        return True
    written = len(letters) - digits - symbols
    if len(letters) < 3 or not written:
        return False
    if len(letters) > SHORT:
        return written >= 2
    number = sum(1 for _ in _leading(chars))
    return digits <= len(letters) // 2 and not (number and number + 2 >= len(letters) and number == digits)


def _leading(chars: Sequence[str]) -> Iterator[str]:
    for char in chars:
        if not char.isdigit():
            return
        yield char


def _gaps_fit(literal: Literal, folded: str, at: Sequence[int]) -> bool:
    """Whether what stands between the letters is what may stand there: between words something, inside of a word
    nothing, or a gap after each letter (`k i l l`), or punctuation (`ki.ll`)."""
    inside: list[str] = []
    for index in range(1, len(at)):
        gap = folded[at[index - 1] + 1 : at[index]]
        if index not in literal.gaps:
            inside.append(gap)
        elif not gap or not _word_fits(literal, inside):
            return False
        else:
            inside = []
    return _word_fits(literal, inside)


def _word_fits(literal: Literal, gaps: Sequence[str]) -> bool:
    filled = [gap for gap in gaps if gap]
    if not filled:
        return True
    if len(filled) == len(gaps):
        return len(literal.letters) >= 3 and all(len(gap) <= MAX_GAP for gap in filled)
    is_long = len(gaps) >= SHORT - 1 and not any(letter.isdigit() for letter in literal.letters)
    return is_long and all(len(gap) == 1 and not gap.isspace() and gap not in APOSTROPHES for gap in filled)
