"""What may leave of a text while it grows, so that no match of a rule ever does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from modelport.core.ports.safety import Verdicts
from modelport.core.safety import Verdict
from modelport.safety.rules.compiled import CompiledList
from modelport.safety.rules.folding import FOLDED, PLAIN, Folding
from modelport.safety.rules.literals import Hit, RuleId, is_joined
from modelport.safety.rules.skeleton import Skeleton, skeletons

CONTEXT: Final = 1
"""Characters that are kept before what is held back: whether a word begins there depends on them."""
STEPS: Final = 8
"""A window is read in so many steps: regular expressions look through all of it each time."""
MAX_WORD: Final = 64
"""Characters of a word that are held back beyond the window."""


VerdictOf = Callable[[Hit, int, int], Verdict]
"""Makes the verdict of a match, from where to where in the original."""


class Reading:
    """The end of a folded text: what is held back of it, and the context before."""

    __slots__ = ("_folding", "_offsets", "held", "origins", "text")

    def __init__(self, folding: Folding) -> None:
        self._folding = folding
        self._offsets: list[int] = []
        self.text = ""
        self.origins = ""
        """The original character of each."""
        self.held = 0
        """Index of the first character that has not been released."""

    def feed(self, piece: str, start: int) -> None:
        """The next piece, which begins at code point `start` of the original."""
        folded = self._folding.apply(piece)
        self.text += folded
        if len(folded) == len(piece) and piece.isascii():
            self.origins += piece
            self._offsets += range(start, start + len(piece))
        else:
            offsets = self._folding.offsets(piece)
            self.origins += "".join(piece[offset] for offset in offsets)
            self._offsets += [start + offset for offset in offsets]

    def release(self, index: int) -> None:
        """What is before this index needs to be kept no longer than as context."""
        dropped = max(0, index - CONTEXT)
        self.text, self.origins = self.text[dropped:], self.origins[dropped:]
        del self._offsets[:dropped]
        self.held = index - dropped

    def word_start(self, index: int, least: int) -> int:
        """Where the word begins that an index is in, from `least` on."""
        while index > least and is_joined(self.text, index):
            index -= 1
        return max(index, least)

    def original(self, index: int) -> int:
        """The code point of the original that a character comes from."""
        return self._offsets[index]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Code points of the original."""
        return self.original(start), self.original(end - 1) + 1


class RulesStream:
    """A TextStream of the rules filter. Literals hold back only what may be their beginning, regular expressions the
    last `window_chars` characters; a match that is longer than these may leave in part.

    A verdict's span begins where a word does: text that is cut there does not end in a part of a word, which might be
    an entry itself. A call that reports a match releases no more than the text before it; for a caller that does not
    cut it, the next call releases the match too, and after `end` it may have all text. An entry is reported once.
    """

    def __init__(self, lists: Sequence[CompiledList], window_chars: int, verdict_of: VerdictOf) -> None:
        self._literals = [found.literals for found in lists]
        self._regexes = [found.regexes for found in lists if not found.regexes.is_empty]
        self._window = window_chars
        self._verdict_of = verdict_of
        self._folded = Reading(FOLDED)
        self._plain = Reading(PLAIN)
        self._waiting: list[str] = []
        self._waiting_chars = 0
        self._fed = 0
        self._is_ascii = True
        self._released = 0
        self._cut = 0
        self._reported: set[RuleId] = set()

    def feed(self, text: str) -> tuple[int, Verdicts]:
        """Takes the next piece; returns how many code points of all text so far may be released, and what was found.
        Raises FilterOutageError."""
        self._waiting.append(text)
        self._waiting_chars += len(text)
        if self._regexes and self._waiting_chars < self._window // STEPS:
            return self._released, ()
        self._read()
        readings = tuple(skeletons(self._folded.text, is_whole=False))
        found = self._found(readings, is_whole=False)
        openings = (literals.opening(self._folded.text, readings) for literals in self._literals)
        safe = self._keep(self._folded, min(openings, default=len(self._folded.text)))
        if self._regexes:
            safe = min(safe, self._keep(self._plain, len(self._plain.text)))
        return self._release(safe, found)

    def end(self) -> tuple[int, Verdicts]:
        """All text has been fed: the same, for what was held back. Raises FilterOutageError."""
        self._read()
        return self._release(self._fed, self._found(tuple(skeletons(self._folded.text)), is_whole=True))

    def _read(self) -> None:
        """Takes what has been fed since the last time."""
        text = "".join(self._waiting)
        self._waiting.clear()
        self._waiting_chars = 0
        self._folded.feed(text, self._fed)
        if self._regexes:
            self._plain.feed(text, self._fed)
        self._fed += len(text)
        self._is_ascii = self._is_ascii and text.isascii()

    def _release(self, safe: int, found: Verdicts) -> tuple[int, Verdicts]:
        self._released = max(self._released, min(safe, self._cut))
        return self._released, found

    def _keep(self, reading: Reading, opening: int) -> int:
        """Releases what is before `opening`, the window where there are regular expressions, and never less than what
        is before the window. Returns the code points that this makes."""
        window = max(0, len(reading.text) - self._window)
        index = reading.word_start(window, max(reading.held, window - MAX_WORD))
        if not self._regexes:
            index = max(index, opening)
        safe = reading.original(index) if index < len(reading.text) else self._fed
        reading.release(index)
        return safe

    def _found(self, readings: Sequence[Skeleton], *, is_whole: bool) -> Verdicts:
        found: dict[RuleId, Verdict] = {}
        for hit, reading in self._hits(readings, is_whole=is_whole):
            if hit.start >= reading.held and hit.rule not in self._reported:
                start, end = reading.span(reading.word_start(hit.start, reading.held), hit.end)
                before = found.get(hit.rule)
                if before is None or start < before.start:
                    found[hit.rule] = self._verdict_of(hit, start, end)
        self._cut = min((verdict.start for verdict in found.values()), default=self._fed)
        self._reported.update(found)
        return tuple(sorted(found.values(), key=lambda verdict: (verdict.start, verdict.end)))

    def _hits(self, readings: Sequence[Skeleton], *, is_whole: bool) -> Iterator[tuple[Hit, Reading]]:
        folded, plain = self._folded, self._plain
        origin = None if self._is_ascii else lambda: folded.origins
        for literals in self._literals:
            for hit in literals.find(folded.text, readings, origin, is_whole=is_whole, known=self._reported):
                yield hit, folded
        for regexes in self._regexes:
            for hit in regexes.find(plain.text, plain.held, is_whole=is_whole):
                yield hit, plain
            if not self._is_ascii:
                for hit in regexes.find(folded.text, folded.held, is_whole=is_whole):
                    yield hit, folded
