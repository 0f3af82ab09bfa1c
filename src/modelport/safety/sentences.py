"""Divides a text into the pieces that a classifier judges one by one: sentences, short ones joined."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

PIECE_CHARACTERS: Final = 240
"""About 60 tokens: a model of sentences judges it well, and it costs little."""

_END: Final = re.compile(r"[.!?][\"'”’)\]]*\s+|[。！？]|\n+")


def split_pieces(text: str, limit: int = PIECE_CHARACTERS) -> list[tuple[int, int]]:
    """Spans (start, end) in code points that cover all of the text but blank ends. Each has at most `limit` code points
    and ends with a sentence where it can, else with a word."""
    pieces: list[tuple[int, int]] = []
    start = end = 0
    for sentence_end in _sentence_ends(text):
        if sentence_end - start > limit and end > start:
            pieces.append((start, end))
            start = end
        while sentence_end - start > limit:
            cut = text.rfind(" ", start + limit // 2, start + limit)
            cut = start + limit if cut < 0 else cut + 1
            pieces.append((start, cut))
            start = cut
        end = sentence_end
    if end > start:
        pieces.append((start, end))
    return [span for span in (_trimmed(text, *piece) for piece in pieces) if span[0] < span[1]]


def _sentence_ends(text: str) -> Iterator[int]:
    for found in _END.finditer(text):
        yield found.end()
    if text and not text.endswith("\n"):
        yield len(text)


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())
