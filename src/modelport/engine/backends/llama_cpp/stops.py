"""Cuts a stream of pieces at the first stop text, and never lets a part of one out."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Piece:
    """What one token, or one character made of several, added to the text."""

    text: str
    tokens_so_far: int
    token_id: int = -1
    logprobs: dict[str, Any] | None = None


class StopTexts:
    """`feed` gives the pieces that are safe to show; `stopped` says that a stop text has come and nothing more will."""

    def __init__(self, stops: Sequence[str], *, is_kept: bool = False) -> None:
        self._stops = tuple(stops)
        self._is_kept = is_kept
        self._held: deque[Piece] = deque()
        self.stopped = False

    def feed(self, piece: Piece) -> list[Piece]:
        """The pieces that no stop text can reach any more."""
        if self.stopped:
            return []
        if not self._stops:
            return [piece]
        self._held.append(piece)
        text = "".join(held.text for held in self._held)
        found = [(at, at + len(stop)) for stop in self._stops if (at := text.find(stop)) >= 0]
        if not found:
            return self._release(len(text) - self._reach(text))
        self.stopped = True
        at, end = min(found)
        return self._release(end if self._is_kept else at, cuts=True)

    def flush(self) -> list[Piece]:
        """What was held back, when the text has ended of itself."""
        held, self._held = list(self._held), deque()
        return [] if self.stopped else held

    def _reach(self, text: str) -> int:
        """How much of the end of `text` could still become a stop text."""
        longest = min(len(text), max(map(len, self._stops)) - 1)
        return next(
            (size for size in range(longest, 0, -1) if any(stop.startswith(text[-size:]) for stop in self._stops)), 0
        )

    def _release(self, length: int, *, cuts: bool = False) -> list[Piece]:
        safe: list[Piece] = []
        while self._held and len(self._held[0].text) <= length and (length or not cuts):
            length -= len(self._held[0].text)
            safe.append(self._held.popleft())
        if cuts and length and self._held:
            safe.append(replace(self._held[0], text=self._held[0].text[:length]))
        return safe
