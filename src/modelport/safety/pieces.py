"""Where a growing text may be cut into pieces that are judged one by one."""

from __future__ import annotations

import re
from typing import Final

_END: Final = re.compile(r"[.!?…。！？؟।]+[\"'”’»)\]]*\s+|\n+|[。！？]+")
"""A sentence ends before the text that follows is known not to belong to it: at white space, or a line's end."""
LEAST_LETTERS: Final = 3
"""A number of a list, a bracket: what is shorter is judged with what follows."""


def complete_sentences(text: str, most: int) -> list[int]:
    """The ends of the pieces that are complete: sentences, each of at most `most` characters."""
    ends: list[int] = []
    start = 0
    for found in _END.finditer(text):
        end = found.end()
        if sum(map(str.isalpha, text[start : min(end, start + 64)])) < LEAST_LETTERS and end - start < most:
            continue
        start = _cut_long(ends, start, end, most)
        ends.append(end)
        start = end
    _cut_long(ends, start, len(text), most)
    return ends


def _cut_long(ends: list[int], start: int, end: int, most: int) -> int:
    """Cuts what is longer than `most`; returns where the last piece begins."""
    while end - start >= most:
        start += most
        ends.append(start)
        if start == end:
            break
    return start
