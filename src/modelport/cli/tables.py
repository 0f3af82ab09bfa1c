"""How a table is laid out as plain text: numbers end in one column, words stay whole."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Final

GAP: Final = 2
LEAST_WIDTH: Final = 8
"""A column of text is made no narrower."""
NUMBER: Final = re.compile(r"-|-?[\d.,]+")
RULE: Final = "-"


def laid_out(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    totals: Iterable[Sequence[object]] = (),
    width: int | None = None,
) -> list[str]:
    """The lines of a table; `totals` stand below a rule. With a `width` in characters, columns of text share what the
    others leave: a text wraps between its words, and a word that is longer than its column ends with `…`."""
    body, sums = texts(rows), texts(totals)
    cells = [*body, *sums]
    numeric = [is_numeric(column) for column in zip(*cells, strict=True)] if cells else [False] * len(columns)
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    if width is not None:
        widths = narrowed(widths, numeric, width)
    rule = ["  ".join(RULE * n for n in widths)] if sums else []
    lines = [*row_lines(columns, widths, numeric)]
    for row in body:
        lines += row_lines(row, widths, numeric)
    lines += rule
    for row in sums:
        lines += row_lines(row, widths, numeric)
    return lines


def texts(rows: Iterable[Sequence[object]]) -> list[list[str]]:
    """The cells as text; None is empty."""
    return [["" if cell is None else str(cell) for cell in row] for row in rows]


def is_numeric(column: Sequence[str]) -> bool:
    """Whether a column holds numbers, and dashes where a number is not known."""
    return all(NUMBER.fullmatch(cell) for cell in column if cell) and any(column)


def narrowed(widths: Sequence[int], numeric: Sequence[bool], width: int) -> list[int]:
    """Takes characters from the widest columns of text until the table fits, or cannot be made narrower."""
    found = list(widths)
    while sum(found) + GAP * (len(found) - 1) > width:
        widest = max((n for n, is_number in zip(found, numeric, strict=True) if not is_number), default=0)
        if widest <= LEAST_WIDTH:
            break
        place = next(i for i, n in enumerate(found) if n == widest and not numeric[i])
        found[place] -= 1
    return found


def row_lines(row: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> list[str]:
    """One row: as many lines as its longest text needs."""
    columns = [wrapped(cell, n) for cell, n in zip(row, widths, strict=True)]
    lines = []
    for number in range(max(map(len, columns))):
        parts = []
        for cell, n, is_number in zip(columns, widths, numeric, strict=True):
            text = cell[number] if number < len(cell) else ""
            parts.append(text.rjust(n) if is_number else text.ljust(n))
        lines.append((" " * GAP).join(parts).rstrip())
    return lines


def folded(text: str, width: int | None) -> list[str]:
    """The text in lines of this width (None: in one). A word that is longer has a line of its own."""
    if width is None or len(text) <= width:
        return [text]
    return textwrap.wrap(text, max(width, LEAST_WIDTH), break_long_words=False, break_on_hyphens=False) or [""]


def wrapped(text: str, width: int) -> list[str]:
    """The text in lines of this width. No word is broken."""
    lines = folded(text, width)
    return [line if len(line) <= width else line[: width - 1] + "…" for line in lines]
