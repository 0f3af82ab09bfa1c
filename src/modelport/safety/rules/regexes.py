"""Regular expressions of blocklists: RE2, in linear time whatever the text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import re2
from msgspec import Struct

from modelport.core.ports.safety import FilterOutageError
from modelport.safety.rules.matching import CERTAIN, Hit, RuleId
from modelport.safety.rules.widths import longest_match

MAX_PROGRAM: Final = 20_000
"""Instructions of one compiled pattern: what `{1000}` multiplies."""
MAX_PROGRAMS: Final = 200_000
"""Of all patterns of one list."""
SET_MEMORY: Final = 16 << 20
"""Bytes that the automaton of all patterns of a set may take."""
WORK_AT_ONCE: Final = 100_000
"""Instructions times bytes of a search that does not hold the loop for long, whatever the patterns and the text: a step
takes up to 5 ns."""


class Regex(Struct, frozen=True):
    """A pattern to look for."""

    rule: RuleId
    pattern: str


def fault_of(pattern: str) -> str | None:
    """What is wrong with an operator's pattern, for a sentence that begins with it; None: nothing."""
    try:
        found = re2.compile(pattern, _options())
    except (re2.error, UnicodeEncodeError) as error:
        return f"is not a regular expression of RE2 ({_reason(error)})"
    if found.programsize > MAX_PROGRAM or found.reverseprogramsize > MAX_PROGRAM:
        return f"is too large a regular expression: {found.programsize} instructions, of {MAX_PROGRAM}"
    if found.search("") is not None or not longest_match(pattern):
        return "matches an empty text, so every text"
    return None


def program_size(pattern: str) -> int:
    """Instructions of a pattern without a fault."""
    return int(re2.compile(pattern, _options()).programsize)


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeEncodeError):
        return "half of a surrogate pair"
    said = error.args[0] if error.args else error
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
    hint = "; look-around and backreferences are not linear" if "(?" in text or "escape sequence" in text else ""
    return text + hint


def _options(memory: int = 8 << 20) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = False
    options.never_capture = True
    options.max_mem = memory
    return options


class RegexSet:
    """Any number of patterns, of which one pass says which match at all."""

    def __init__(self, regexes: Sequence[Regex]) -> None:
        self._regexes = tuple(regexes)
        self._compiled = [re2.compile(regex.pattern, _options()) for regex in self._regexes]
        self._set = re2.Set.SearchSet(_options(SET_MEMORY))
        for regex in self._regexes:
            self._set.Add(regex.pattern)
        self._always = self._set.Add("")
        self._set.Compile()
        self._size: int = sum(compiled.programsize for compiled in self._compiled)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to look for."""
        return not self._regexes

    def is_quick(self, text: str) -> bool:
        """Whether looking through a text cannot hold the loop for long."""
        return self._size * len(text) * (1 if text.isascii() else 3) <= WORK_AT_ONCE

    def find(self, text: str, start: int = 0, *, is_whole: bool = True) -> Iterator[Hit]:
        """The first match of each pattern from `start` on. In a text that is not whole, a match that touches its end
        waits for what follows. Raises FilterOutageError."""
        if self.is_empty:
            return
        matching = self._set.Match(text) or ()
        if self._always not in matching:  # RE2 says "no match" where its memory has run out
            raise FilterOutageError("the regular expressions of a blocklist need more memory than they may have")
        for index in matching:
            if index != self._always and (hit := self._hit(index, text, start, is_whole=is_whole)) is not None:
                yield hit

    def _hit(self, index: int, text: str, start: int, *, is_whole: bool) -> Hit | None:
        for found in self._compiled[index].finditer(text, start):
            if found.end() > found.start() and (is_whole or found.end() < len(text)):
                return Hit(self._regexes[index].rule, found.start(), found.end(), CERTAIN)
        return None
