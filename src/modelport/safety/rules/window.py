"""What may leave of a text while it grows, so that no match of a rule ever does; and what a whole text has."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from functools import partial
from typing import Final

from modelport.core.ports.safety import Progress, Verdicts
from modelport.core.ports.stages import NeedsWaiting
from modelport.core.safety import Verdict
from modelport.safety.rules.compiled import CompiledList
from modelport.safety.rules.folding import FOLDED, PLAIN
from modelport.safety.rules.literals import LiteralSet
from modelport.safety.rules.matching import Hit, RuleId
from modelport.safety.rules.reading import Reading
from modelport.safety.rules.regexes import RegexSet
from modelport.safety.rules.skeleton import Skeleton, skeletons
from modelport.safety.slices import Steps, at_once

PIECE: Final = 2_048
"""Characters of a text that are searched without a pause."""
SMALL_PIECE: Final = 512
"""The same of a text beyond ASCII."""
STEPS: Final = 8
"""A window is read in so many steps: regular expressions look through all of it each time."""
MAX_WORD: Final = 64
"""Characters of a word that are held back beyond the window."""
MAX_LITERAL: Final = 16_384
"""The longest match of a text, gaps included, however large the window."""
MAX_VERDICTS: Final = 1_000
WHOLE: Final = 1 << 40


VerdictOf = Callable[[Hit, int, int], Verdict]
"""Makes the verdict of a match, from where to where in the original."""
Found = list[tuple[Hit, Reading]]


class LiteralSearch:
    """Looks for texts in a text that grows. `safe`: so many code points may leave."""

    def __init__(self, sets: Sequence[LiteralSet], window_chars: int) -> None:
        self._sets = sets
        self._window = min(window_chars, MAX_LITERAL)
        self._reading = Reading(FOLDED)
        self._skeletons: tuple[Skeleton, ...] = ()
        self._is_ascii = True
        self._fed = 0
        self.safe = 0

    def feed(self, piece: str, known: Container[RuleId], *, is_last: bool) -> Steps[Found]:
        """Takes the next piece, and says what is in the text so far."""
        reading = self._reading
        yield from reading.feed(piece, self._fed)
        self._fed += len(piece)
        self._is_ascii = self._is_ascii and piece.isascii()
        self._skeletons = tuple(skeletons(reading.text, is_whole=is_last))
        origin = None if self._is_ascii else reading.origin
        found: Found = []
        for literals in self._sets:
            text, start = reading.text, reading.held
            for hit in literals.find(text, self._skeletons, origin, start=start, is_whole=is_last, known=known):
                if hit is None:
                    yield None
                else:
                    found.append((hit, reading))
        return found

    def release(self) -> Steps[None]:
        """What cannot become a match need not be kept. Spans of what was found before are lost."""
        reading = self._reading
        index = len(reading.text)
        for literals in self._sets:
            index = min(index, (yield from literals.opening(reading.text, self._skeletons)))
        least = max(0, len(reading.text) - self._window)
        index = max(index, reading.word_start(least, max(reading.held, least - MAX_WORD)))
        self.safe = reading.original(index) if index < len(reading.text) else self._fed
        reading.release(index)


class RegexSearch:
    """The same for regular expressions, which look at the window again after each eighth of it."""

    def __init__(self, sets: Sequence[RegexSet], window_chars: int) -> None:
        self._sets = sets
        self._window = window_chars
        self._plain = Reading(PLAIN)
        self._folded = Reading(FOLDED)
        self._is_ascii = True
        self._fed = self._searched = 0
        self.safe = 0

    def feed(self, piece: str, known: Container[RuleId], *, is_last: bool) -> Steps[Found]:
        """Raises FilterOutageError."""
        readings = (self._plain, self._folded)
        for reading in readings:
            yield from reading.feed(piece, self._fed)
        self._fed += len(piece)
        self._is_ascii = self._is_ascii and piece.isascii()
        if self._fed - self._searched < self._window // STEPS and not is_last:
            return []
        self._searched = self._fed
        found: Found = []
        for reading in readings[: 1 if self._is_ascii else 2]:
            for regexes in self._sets:
                job = partial(_search, regexes, reading.text, reading.held, is_whole=is_last)
                hits: list[Hit] = job() if regexes.is_quick(reading.text) else (yield job)
                found += ((hit, reading) for hit in hits if hit.rule not in known)
        return found

    def release(self) -> Steps[None]:
        """What is before the window need not be kept."""
        if self._searched == self._fed:
            self.safe = min(_keep(reading, self._window, self._fed) for reading in (self._plain, self._folded))
        return
        yield


def _search(regexes: RegexSet, text: str, start: int, *, is_whole: bool) -> list[Hit]:
    return list(regexes.find(text, start, is_whole=is_whole))


def _keep(reading: Reading, window: int, fed: int) -> int:
    """Releases what is before the window and the word there. Returns the code points that this makes."""
    least = max(0, len(reading.text) - window)
    index = reading.word_start(least, max(reading.held, least - MAX_WORD))
    safe = reading.original(index) if index < len(reading.text) else fed
    reading.release(index)
    return safe


def searches_of(lists: Sequence[CompiledList], window_chars: int) -> list[LiteralSearch | RegexSearch]:
    """What looks for these lists in one text, of which so much is held back."""
    found: list[LiteralSearch | RegexSearch] = [LiteralSearch([each.literals for each in lists], window_chars)]
    regexes = [each.regexes for each in lists if not each.regexes.is_empty]
    return [*found, RegexSearch(regexes, window_chars)] if regexes else found


def search(text: str, lists: Sequence[CompiledList], verdict_of: VerdictOf) -> Steps[Verdicts]:
    """What a whole text has: one verdict for each entry that is found. Raises FilterOutageError."""
    searches = searches_of(lists, WHOLE)
    found: dict[RuleId, Verdict] = {}
    pieces = cut(text) or [""]
    for place, piece in enumerate(pieces):
        is_last = place == len(pieces) - 1
        for each in searches:
            hits = yield from each.feed(piece, found, is_last=is_last)
            add(found, hits, [verdict_of(hit, *reading.span(hit.start, hit.end)) for hit, reading in hits])
            if not is_last:
                yield from each.release()
        if len(found) >= MAX_VERDICTS:
            break
        yield None
    return ordered(found)


def cut(text: str) -> list[str]:
    """In pieces."""
    size = PIECE if text.isascii() else SMALL_PIECE
    return [text[start : start + size] for start in range(0, len(text), size)]


def add(found: dict[RuleId, Verdict], hits: Found, verdicts: Iterable[Verdict]) -> None:
    """Of each rule the first."""
    for (hit, _), verdict in zip(hits, verdicts, strict=True):
        before = found.get(hit.rule)
        if before is None or verdict.start < before.start:
            found[hit.rule] = verdict


def ordered(found: Mapping[RuleId, Verdict]) -> Verdicts:
    """By their places."""
    return tuple(sorted(found.values(), key=lambda verdict: (verdict.start, verdict.end)))


class RulesStream:
    """A TextStream of the rules filter. Literals hold back only what may be their beginning, regular expressions the
    last `window_chars` characters; a match that is longer than these may leave in part.

    A verdict's span begins where a word does: text that is cut there does not end in a part of a word, which might be
    an entry itself. A call that reports a match releases no more than the text before it; for a caller that does not
    cut it, the next call releases the match too, and after `end` it may have all text. An entry is reported once.
    """

    def __init__(self, lists: Sequence[CompiledList], window_chars: int, verdict_of: VerdictOf) -> None:
        self._searches = searches_of(lists, window_chars)
        self._least = window_chars // STEPS if len(self._searches) > 1 else 0
        """So much is waited for."""
        self._verdict_of = verdict_of
        self._waiting: deque[str] = deque()
        self._waiting_chars = self._fed = self._released = 0
        self._is_ending = False
        self._pending: NeedsWaiting[Progress] | None = None
        self._reported: set[RuleId] = set()

    def feed(self, text: str) -> Progress | NeedsWaiting[Progress]:
        """Takes the next piece; returns how many code points of all text so far may be released, and what was found.
        What has to be waited for is about all that is fed before it is resumed. Raises FilterOutageError."""
        self._waiting += cut(text)
        self._waiting_chars += len(text)
        if self._waiting_chars < self._least:
            return self._released, ()
        return self._begin()

    def end(self) -> Progress | NeedsWaiting[Progress]:
        """All text has been fed: the same, for what was held back. Raises FilterOutageError."""
        self._is_ending = True
        return self._begin()

    def _begin(self) -> Progress | NeedsWaiting[Progress]:
        if self._pending is None:
            outcome = at_once(self._steps())
            if not isinstance(outcome, NeedsWaiting):
                return outcome
            self._pending = outcome
        return self._pending

    def _steps(self) -> Steps[Progress]:
        found: dict[RuleId, Verdict] = {}
        is_last = False
        while not is_last and (self._waiting or self._is_ending):
            piece = self._next_piece()
            is_last = self._is_ending and not self._waiting
            for each in self._searches:
                hits = yield from each.feed(piece, self._reported, is_last=is_last)
                add(found, hits, map(self._verdict, hits))
                if not is_last:
                    yield from each.release()
            yield None
        self._pending = None
        self._reported.update(found)
        verdicts = ordered(found)
        safe = self._fed if is_last else min(each.safe for each in self._searches)
        self._released = max(self._released, min(safe, verdicts[0].start) if verdicts else safe)
        return self._released, verdicts

    def _next_piece(self) -> str:
        parts: list[str] = []
        length = 0
        while self._waiting and (not parts or length + len(self._waiting[0]) <= PIECE):
            parts.append(self._waiting.popleft())
            length += len(parts[-1])
        self._waiting_chars -= length
        self._fed += length
        return "".join(parts)

    def _verdict(self, found: tuple[Hit, Reading]) -> Verdict:
        hit, reading = found
        return self._verdict_of(hit, *reading.span(reading.word_start(hit.start, reading.held), hit.end))
