"""The texts of a list where one letter of a word is masked, or letters are repeated."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Container, Iterator, Sequence
from itertools import pairwise
from typing import Final

from modelport.safety.rules.matching import (
    DISGUISED,
    Hit,
    Literal,
    Origin,
    RuleId,
    gaps_fit,
    is_foreign_word,
    is_joined,
    reads_as,
    score_of,
)
from modelport.safety.rules.skeleton import CLASSES, Skeleton
from modelport.safety.rules.spelling import (
    LETTERS,
    MASKABLE,
    Masked,
    Run,
    ends_in_a_pair,
    masked_words,
    runs,
    squeezed,
    traces,
    unrepeated,
    with_places,
)
from modelport.safety.rules.tries import WORK_OF_A_STEP, automaton_of, opening_of
from modelport.safety.slices import Steps

SHORTEST: Final = 3
"""Letters of an entry from which on it is looked for with repeated letters."""
KNOWN: Final = frozenset(LETTERS)
Place = tuple[Literal, int]
"""A text that has a word, and the letter that the word begins with."""


class Respelled:
    """Any number of texts. Immutable once it is made."""

    def __init__(self, literals: Sequence[Literal]) -> None:
        kept = [literal for literal in literals if KNOWN.issuperset(literal.letters)]
        words = [place for literal in kept for place in words_of(literal)]
        self._words = automaton_of((key, place) for key, place in words)
        self._classes = sorted({char for key, _ in words for char in key})
        self._reach = max((start for _, (_, start) in words), default=0)
        """Letters of a text before one of its words."""
        self._longest = max((len(literal.letters) for literal in kept), default=0)
        self._squeezed = automaton_of(
            (squeezed(literal.folded), literal) for literal in kept if len(literal.letters) >= SHORTEST
        )

    def find(
        self, folded: str, reading: Skeleton, origin: Origin, within: range, known: Container[RuleId]
    ) -> Iterator[Hit | None]:
        """The matches within these places; None where the search may pause. `reading`: without symbols."""
        is_masked, is_repeated = traces(folded)
        work = 0
        hits: list[Iterator[Hit | int]] = []
        if is_masked and self._words is not None:
            hits.append(self._masked(folded, reading, origin))
        if is_repeated and self._squeezed is not None:
            hits.append(self._repeated(folded, origin))
        for each in hits:
            for hit in each:
                if isinstance(hit, Hit):
                    if hit.start in within and hit.end - 1 in within and hit.rule not in known:
                        yield hit
                elif (work := work + hit) > WORK_OF_A_STEP:
                    work = 0
                    yield None

    def _masked(self, folded: str, reading: Skeleton, origin: Origin) -> Iterator[Hit | int]:
        """Hits, and how much work was done in between."""
        found: list[tuple[Masked, list[Place]]] = []
        for token in masked_words(folded, is_whole=True):
            yield 2 * len(self._classes)
            if places := self._meant(token):
                found.append((token, places))
        if not found:
            return
        positions = with_places(reading.positions, [token.place for token, _ in found])
        for token, places in found:
            word = bisect_left(positions, token.place) - len(token.before)
            for literal, start in places:
                yield 10 + len(literal.letters)
                first = word - start
                at = positions[max(0, first) : first + len(literal.letters)]
                if len(at) < len(literal.letters) or is_joined(folded, at[-1] + 1):
                    continue
                if score_of(literal, folded, at, origin) is not None:
                    yield Hit(literal.rule, at[0], at[-1] + 1, DISGUISED)

    def _meant(self, token: Masked) -> list[Place]:
        """What may be meant by a masked word."""
        before, after = classes(token.before), classes(token.after)
        return [place for char in self._classes for place in self._words.get(before + char + after, ())]

    def _begins(self, token: Masked) -> bool:
        """Whether it may become a word."""
        before, after = classes(token.before), classes(token.after)
        return any(self._words.match(before + char + after) for char in self._classes)

    def _repeated(self, folded: str, origin: Origin) -> Iterator[Hit | int]:
        """The same for repeated letters."""
        letters = runs(folded)
        text = "".join(folded[run.start] for run in letters)
        for end, literals in self._squeezed.iter(text):
            yield 5
            if is_joined(folded, letters[end].end):
                continue
            for literal in literals:
                yield 10 + len(literal.letters)
                at = letters[end + 1 - len(squeezed(literal.folded)) : end + 1]
                if not is_joined(folded, at[0].start) and is_repeated(literal, folded, at, origin):
                    yield Hit(literal.rule, at[0].start, at[-1].end, DISGUISED)

    def opening(self, folded: str, reading: Skeleton) -> Steps[int]:
        """From where on a folded text that goes on may be the beginning of a match; its length if from nowhere."""
        found = len(folded)
        is_masked, is_repeated = traces(folded)
        if is_masked and self._words is not None:
            positions = reading.positions
            for token in masked_words(folded, is_whole=False):
                place = bisect_left(positions, token.place)
                if len(positions) - place > self._longest:
                    continue
                yield None
                if self._begins(token) if token.is_open else self._meant(token):
                    start = positions[max(0, place - len(token.before) - self._reach)]
                    while is_joined(folded, start):
                        start -= 1
                    found = min(found, start)
        if self._squeezed is not None and (is_repeated or ends_in_a_pair(folded)):
            letters = runs(folded)[-self._longest :]
            text = "".join(folded[run.start] for run in letters)
            starts = [run.start for run in letters]
            found = min(found, (yield from opening_of(self._squeezed, text, starts, folded)))
        return found


def words_of(literal: Literal) -> Iterator[tuple[str, Place]]:
    """Those that may be masked, as the skeleton has them."""
    for start, end in pairwise((0, *sorted(literal.gaps), len(literal.letters))):
        if end - start >= MASKABLE:
            yield classes(literal.letters[start:end]), (literal, start)


def classes(letters: str) -> str:
    """As the skeleton has them."""
    return "".join(CLASSES.get(char, char) for char in letters)


def is_repeated(literal: Literal, folded: str, at: Sequence[Run], origin: Origin) -> bool:
    """Whether these runs are the literal, but for repeated letters."""
    found = unrepeated(literal.folded, folded, at)
    if found is None or is_foreign_word(literal, [run.start for run in at], origin):
        return False
    text, places = found
    return reads_as(literal.letters, [text[place] for place in places]) and gaps_fit(literal, text, places)
