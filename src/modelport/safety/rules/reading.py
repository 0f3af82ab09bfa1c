"""The end of a text that grows, folded, and the way back to the text as it came."""

from __future__ import annotations

from bisect import bisect_right
from operator import itemgetter
from typing import Final

from modelport.safety.rules.folding import Folding
from modelport.safety.rules.matching import is_joined
from modelport.safety.slices import Steps

CONTEXT: Final = 1
"""Characters that are kept before what is held back: whether a word begins there depends on them."""
STEP: Final = 128
"""Characters beyond ASCII that are folded without a pause: a new one takes some microseconds."""

Segment = tuple[int, int, str, bool]
"""Where a piece begins in all folded text and in the original, the piece, and whether it has kept its length."""


class Reading:
    """What is held back of a folded text, and the context before."""

    __slots__ = ("_base", "_expanded", "_folding", "_length", "_parts", "_segments", "held")

    def __init__(self, folding: Folding) -> None:
        self._folding = folding
        self._segments: list[Segment] = []
        self._expanded: tuple[Segment, list[int]] | None = None
        self._base = 0
        """Characters of the folded text that are no longer kept."""
        self._parts: list[str] = []
        self._length = 0
        self.held = 0
        """Index of the first character that has not been released."""

    @property
    def text(self) -> str:
        """The folded text, as far as it is kept."""
        if len(self._parts) != 1:
            self._parts = ["".join(self._parts)]
        return self._parts[0]

    def feed(self, piece: str, start: int) -> Steps[None]:
        """The next piece, which begins at code point `start` of the original."""
        step = max(1, len(piece)) if piece.isascii() else STEP
        for first in range(0, len(piece), step):
            if first:
                yield None
            part = piece[first : first + step]
            folded = self._folding.apply(part)
            if folded:
                is_kept = part.isascii() and len(folded) == len(part)
                self._segments.append((self._base + self._length, start + first, part, is_kept))
                self._parts.append(folded)
                self._length += len(folded)

    def release(self, index: int) -> None:
        """What is before this index needs to be kept no longer than as context."""
        dropped = max(0, index - CONTEXT)
        self._parts = [self.text[dropped:]]
        self._length -= dropped
        self._base += dropped
        self.held = index - dropped
        if gone := self._segment_index(0):
            del self._segments[:gone]

    def word_start(self, index: int, least: int) -> int:
        """Where the word begins that an index is in, from `least` on."""
        text = self.text
        while index > least and is_joined(text, index):
            index -= 1
        return max(index, least)

    def original(self, index: int) -> int:
        """The code point of the original that a character comes from."""
        segment = self._segments[self._segment_index(index)]
        return segment[1] + self._place(segment, index)

    def origin(self, index: int) -> str:
        """The original character of one."""
        segment = self._segments[self._segment_index(index)]
        return segment[2][self._place(segment, index)]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Code points of the original."""
        return self.original(start), self.original(end - 1) + 1

    def _segment_index(self, index: int) -> int:
        return max(0, bisect_right(self._segments, self._base + index, key=itemgetter(0)) - 1)

    def _place(self, segment: Segment, index: int) -> int:
        """In the segment's piece."""
        at, _, piece, is_kept = segment
        place = self._base + index - at
        if is_kept:
            return place
        if self._expanded is None or self._expanded[0] is not segment:
            self._expanded = (segment, self._folding.offsets(piece))
        return self._expanded[1][place]
