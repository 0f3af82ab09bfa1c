"""Whether characters of a folded text are a text of a blocklist, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Final

from msgspec import Struct

from modelport.core.safety import Category
from modelport.safety.rules.folding import FOLDED, is_foreign
from modelport.safety.rules.skeleton import LEET, SYMBOLS, is_word
from modelport.safety.rules.spelling import MASKS

CERTAIN: Final = 1.0
DISGUISED: Final = 0.9
"""The score of a text that was found through leetspeak or between spaces."""
SHORT: Final = 4
"""Letters of a word up to which a disguise has to be plainer: short words look like others."""
MAX_GAP: Final = 3
"""Characters between the letters of a word that is written spaced."""
JOINED: Final = 8
"""Letters of words together from which on they are found without the space between them."""
SHORTEST_JOINED: Final = 3
ARTICLES: Final = frozenset(("the", "der", "die", "das", "les", "des", "una", "los", "las"))
"""What begins other words, too."""
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


def is_joined(folded: str, index: int) -> bool:
    """Whether the characters before and at an index belong to one word."""
    if not 0 < index < len(folded):
        return False
    before, after = folded[index - 1], folded[index]
    return is_word(before) and is_word(after) and not (_is_spaceless(before) or _is_spaceless(after))


def _is_spaceless(char: str) -> bool:
    code = ord(char)
    return code > 0xDFF and any(first <= code <= last for first, last in SPACELESS)


def score_of(literal: Literal, folded: str, at: Sequence[int], origin: Origin) -> float | None:
    """How sure it is that the characters at these places are the literal; None: they are not."""
    if is_joined(folded, at[0]):
        return None
    is_plain = " ".join(folded[at[0] : at[-1] + 1].split()) == literal.folded
    if not is_plain and not (
        reads_as(literal.letters, [folded[index] for index in at]) and gaps_fit(literal, folded, at)
    ):
        return None
    if is_foreign_word(literal, at, origin):
        return None
    return CERTAIN if is_plain else DISGUISED


def is_foreign_word(literal: Literal, at: Sequence[int], origin: Origin) -> bool:
    """Whether a short word only looks like the literal: it is another script's own."""
    is_short = literal.is_ascii and len(literal.letters) <= SHORT
    return origin is not None and is_short and all(is_foreign(origin(index)) for index in at)


def reads_as(letters: str, chars: Sequence[str]) -> bool:
    """Whether each character is its letter, or may stand for it; a number is no word."""
    digits = symbols = 0
    for letter, char in zip(letters, chars, strict=True):
        if char == letter:
            continue
        if letter not in LEET.get(char, "") and char not in MASKS:
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


def gaps_fit(literal: Literal, folded: str, at: Sequence[int]) -> bool:
    """Whether what stands between the letters is what may stand there: between words something, or nothing at all
    (`killyourself`), inside of a word nothing, or a gap after each letter (`k i l l`), or punctuation (`ki.ll`)."""
    inside: list[str] = []
    words = [0]
    """Where those words begin that are written as one."""
    for index in range(1, len(at)):
        gap = folded[at[index - 1] + 1 : at[index]]
        if index not in literal.gaps:
            inside.append(gap)
        elif not gap:
            words.append(index)
        elif not _word_fits(literal, inside) or not _may_be_one(literal, [*words, index], inside):
            return False
        else:
            inside, words = [], [index]
    return _word_fits(literal, inside) and _may_be_one(literal, [*words, len(at)], inside)


def _may_be_one(literal: Literal, bounds: Sequence[int], gaps: Sequence[str]) -> bool:
    """Whether the words between these bounds may be written without a space: not where that would be a word of its own,
    such as the therapist."""
    if len(bounds) == 2:
        return True
    lengths = [end - start for start, end in pairwise(bounds)]
    first = literal.letters[bounds[0] : bounds[1]]
    return not any(gaps) and min(lengths) >= SHORTEST_JOINED and sum(lengths) >= JOINED and first not in ARTICLES


def _word_fits(literal: Literal, gaps: Sequence[str]) -> bool:
    filled = [gap for gap in gaps if gap]
    if not filled:
        return True
    if len(filled) == len(gaps):
        return len(literal.letters) >= 3 and all(len(gap) <= MAX_GAP for gap in filled)
    is_long = len(gaps) >= SHORT - 1 and not any(letter.isdigit() for letter in literal.letters)
    return is_long and all(len(gap) == 1 and not gap.isspace() and gap not in APOSTROPHES for gap in filled)
