"""How large a regular expression is, measured without compiling it."""

from __future__ import annotations

import re
from typing import Final

_REPEAT: Final = re.compile(r"\{([0-9]{1,9})(?:,([0-9]{0,9}))?\}")
_ESCAPE: Final = re.compile(r"\\(?:[pPxuU]\{[^}]{0,64}\}|.)", re.DOTALL)


def expanded_length(pattern: str) -> int:
    """Atoms of the pattern with its counted repeats written out: `(ab{3}){2}` has ten, one for each group."""
    sums, last, at = [0], 0, 0
    while at < len(pattern):
        repeat = _REPEAT.match(pattern, at)
        if repeat is not None:
            times = max(1, int(repeat[1]), int(repeat[2] or 0))
            sums[-1] += last * (times - 1)
            last *= times
            at = repeat.end()
            continue
        if pattern[at] == "(":
            sums.append(0)
            last, at = 0, at + 1
            continue
        if pattern[at] == ")" and len(sums) > 1:
            last, at = sums.pop() + 1, at + 1
            sums[-1] += last
            continue
        last = 1
        sums[-1] += 1
        at = _atom_end(pattern, at)
    return sum(sums)


def _atom_end(pattern: str, at: int) -> int:
    """Where the character, escape or class at `at` ends; one that is not closed takes all the rest."""
    if pattern[at] == "\\":
        escape = _ESCAPE.match(pattern, at)
        return at + 1 if escape is None else escape.end()
    if pattern[at] != "[":
        return at + 1
    at += 2 if pattern.startswith("[^", at) else 1
    if pattern.startswith("]", at):
        at += 1
    while at < len(pattern) and pattern[at] != "]":
        at += 2 if pattern[at] == "\\" else 1
    return at + 1
