"""Two more disguises of a word: one of its letters is masked (`f*ck`), or letters are repeated (`fuuuck`).

Both are looked for only where a text has a trace of them, which one pass of RE2 says.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Final

import re2
from msgspec import Struct

MASKS: Final = "*_#•●■█"
"""What stands for a letter. A hyphen and a full stop do not: words have those."""
MASKABLE: Final = 4
"""Letters of a word from which on one may be masked."""
LONG_RUN: Final = 3
"""The same letter so many times in a row is no spelling of any word. Two are: `dinner` is not `diner`."""
VAGUE: Final = "eo"
"""Letters of which three are as well two: a `goood` thing is not a god."""
PAIRS: Final = 3
"""In a row; two are in `committee`."""
_MASK_CLASS: Final = re.escape(MASKS)
_RUN: Final = re.compile(r"([^\W_])\1*")
_LAST_PAIR: Final = re.compile(r"([^\W_])\1[^\W_]*\Z")
LAST_WORD: Final = 64
LETTERS: Final = "".join(map(chr, (*range(0x61, 0x7B), *range(0x3B1, 0x3CA), *range(0x430, 0x450))))
"""Of words that are looked for: Latin, Greek and Cyrillic ones."""
DRAWN_OUT: Final = LETTERS.replace("w", "")
"""Those that may be repeated: `www` is in many an address."""
_PART: Final = f"[0-9{LETTERS}]"
_MASKED_WORD: Final = re.compile(
    rf"(?<![0-9{LETTERS}{_MASK_CLASS}])({_PART}+)([{_MASK_CLASS}])({_PART}*)(?![0-9{LETTERS}{_MASK_CLASS}])"
)


def _traces() -> re2.Set:
    options = re2.Options()
    options.never_capture = True
    found = re2.Set.SearchSet(options)
    pairs = "|".join(f"{letter}{{2}}" for letter in LETTERS)
    found.Add(rf"[\pL\pN][{_MASK_CLASS}]")
    found.Add("|".join(f"{letter}{{{LONG_RUN}}}" for letter in DRAWN_OUT) + f"|(?:{pairs}){{{PAIRS}}}")
    found.Compile()
    return found


_TRACES: Final = _traces()
_MASKED: Final = 0
_REPEATED: Final = 1


class Masked(Struct, frozen=True):
    """A word with one mask in it. Its mask stands at `place` in the text; `before` and `after` are its letters."""

    before: str
    after: str
    start: int
    place: int
    is_open: bool
    """The text ends with it, and may go on."""


class Run(Struct, frozen=True):
    """The same letter, from `start` to `end`."""

    start: int
    end: int


def traces(folded: str) -> tuple[bool, bool]:
    """Whether a folded text has a trace of masks, and of repeated letters."""
    found = _TRACES.Match(folded) or ()
    return _MASKED in found, _REPEATED in found


def masked_words(folded: str, *, is_whole: bool) -> Iterator[Masked]:
    """Those that could be found in a text."""
    for found in _MASKED_WORD.finditer(folded):
        before, _, after = found.groups()
        is_open = not is_whole and found.end() == len(folded)
        if is_open or (after and len(before) + 1 + len(after) >= MASKABLE):
            yield Masked(before, after, found.start(), found.start(2), is_open)


def runs(folded: str) -> list[Run]:
    """All letters."""
    return [Run(found.start(), found.end()) for found in _RUN.finditer(folded)]


def squeezed(folded: str) -> str:
    """Its letters, each run of one as one."""
    return "".join(found[1] for found in _RUN.finditer(folded))


def ends_in_a_pair(folded: str) -> bool:
    """Whether the last word has the same letter twice in a row: it may become a longer run, or be all pairs."""
    return _LAST_PAIR.search(folded, max(0, len(folded) - LAST_WORD)) is not None


def unrepeated(literal: str, folded: str, at: Sequence[Run]) -> tuple[str, list[int]] | None:
    """The text of these runs with the literal's own number of each letter, and where its letters are in that text; None
    where the runs are no disguise of the literal."""
    wanted = [run.end - run.start for run in runs(literal)]
    is_all_pairs = is_pairs(folded, at)
    is_short = sum(wanted) <= MASKABLE
    parts: list[str] = []
    places: list[int] = []
    length = 0
    for index, (run, count) in enumerate(zip(at, wanted, strict=True)):
        given = run.end - run.start
        letter = folded[run.start]
        if given < count or (given > count and not is_all_pairs and (given < LONG_RUN or letter not in DRAWN_OUT)):
            return None
        if given > count == 1 and is_short and letter in VAGUE and not is_all_pairs:
            return None
        gap = folded[run.end : at[index + 1].start] if index + 1 < len(at) else ""
        places += range(length, length + count)
        parts.append(letter * count + gap)
        length += count + len(gap)
    if len(places) == sum(run.end - run.start for run in at):
        return None
    return "".join(parts), places


def is_pairs(folded: str, at: Sequence[Run]) -> bool:
    """Whether each letter comes twice at least, and some of them without a gap."""
    most = pairs = 0
    end = -1
    for run in at:
        if run.end - run.start < 2 or folded[run.start] not in LETTERS:
            return False
        pairs = (pairs if run.start == end else 0) + (run.end - run.start) // 2
        most, end = max(most, pairs), run.end
    return most >= PAIRS


def with_places(positions: Sequence[int], places: Sequence[int]) -> list[int]:
    """Positions of letters, and these masks among them."""
    found: list[int] = []
    before = 0
    for place in places:
        index = bisect_left(positions, place)
        found += [*positions[before:index], place]
        before = index
    return [*found, *positions[before:]]
