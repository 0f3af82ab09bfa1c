"""How long a match of a regular expression can be.

It reads RE2's syntax (https://github.com/google/re2/wiki/Syntax) of a pattern that RE2 has accepted.
"""

from __future__ import annotations

import math
import re
from typing import Final

ENDLESS: Final = math.inf
MAX_DEPTH: Final = 100
_REPEAT: Final = re.compile(r"\{(\d+)(,?)(\d*)\}")
_GROUP: Final = re.compile(r"\((?:\?(?:P?<[^>]*>|[a-zA-Z-]*:|[a-zA-Z-]*(\))))?")
_ESCAPE: Final = re.compile(
    r"\\(?:[pP](?:\{[^}]*\}|.)|x(?:\{[^}]*\}|[0-9a-fA-F]{2})|Q(?P<quoted>.*?)(?:\\E|$)|(?P<nothing>[AbBzZ])|[0-7]{1,3}|.)",
    re.DOTALL,
)
_CLASS: Final = re.compile(r"\[\^?\]?(?:\[:[^\]]*:\]|\\.|[^\]\\])*\]", re.DOTALL)


class UnknownSyntax(ValueError):
    """The pattern has something that this page does not know: its matches count as endless."""


def longest_match(pattern: str) -> float:
    """In characters; ENDLESS without a bound."""
    try:
        width, end = _alternatives(pattern, 0, 0)
    except UnknownSyntax:
        return ENDLESS
    return width if end == len(pattern) else ENDLESS


def _alternatives(pattern: str, index: int, depth: int) -> tuple[float, int]:
    """The width up to the group's end, and where that is."""
    if depth > MAX_DEPTH:
        raise UnknownSyntax
    widest: float = 0
    width: float = 0
    while index < len(pattern) and pattern[index] != ")":
        if pattern[index] == "|":
            widest, width, index = max(widest, width), 0, index + 1
            continue
        atom, index = _atom(pattern, index, depth)
        times, index = _repeats(pattern, index)
        width += atom * times if atom else 0
    return max(widest, width), index


def _atom(pattern: str, index: int, depth: int) -> tuple[float, int]:
    char = pattern[index]
    if char == "(":
        opened = _GROUP.match(pattern, index)
        assert opened is not None
        if opened[1]:
            return 0, opened.end()  # flags alone
        width, end = _alternatives(pattern, opened.end(), depth + 1)
        return width, end + 1
    if char == "\\":
        escape = _ESCAPE.match(pattern, index)
        if escape is None:
            raise UnknownSyntax
        if escape["quoted"] is not None:
            return len(escape["quoted"]), escape.end()
        return 0 if escape["nothing"] else 1, escape.end()
    if char == "[":
        found = _CLASS.match(pattern, index)
        if found is None:
            raise UnknownSyntax
        return 1, found.end()
    return 0 if char in "^$" else 1, index + 1


def _repeats(pattern: str, index: int) -> tuple[float, int]:
    """How often the atom before may come, all its operators together, and where they end."""
    times: float = 1
    while index < len(pattern):
        char = pattern[index]
        if char in "*+":
            times, index = ENDLESS, index + 1
        elif char == "?":
            index += 1
        elif char == "{" and (counted := _REPEAT.match(pattern, index)) is not None:
            most = counted[3] or (ENDLESS if counted[2] else counted[1])
            times, index = times * float(most) if times else 0, counted.end()
        else:
            break
    return times, index
