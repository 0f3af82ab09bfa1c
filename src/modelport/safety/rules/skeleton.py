"""Folded text as the automaton reads it: letters alone, those that stand for each other made one.

Digits and symbols are read as the letters they replace (leetspeak), spaces and punctuation are passed over. So a
skeleton finds too much: `matching` then compares the folded text itself.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import compress
from typing import Final

from modelport.safety.rules.folding import MAX_KNOWN

_DIGITS: Final = {"0": "o", "1": "il", "2": "z", "3": "e", "4": "a", "5": "s", "7": "t", "8": "b", "9": "g"}
_SIGNS: Final = {"!": "il", "|": "il", "@": "a", "$": "s", "+": "t", "€": "e", "£": "l", "¥": "y"}
LEET: Final = _DIGITS | _SIGNS
"""The letters that a digit or a symbol may stand for."""
SYMBOLS: Final = "".join(_SIGNS)
CLASSES: Final = {**{char: letters[-1] for char, letters in LEET.items()}, "i": "l"}
"""Character → the one that stands for its class."""
_AT_AN_END: Final = re.compile(rf"!(?=[^\w{re.escape(SYMBOLS)}]|_)")
"""An exclamation mark that ends a word."""
_ASCII_CLASSES: Final = bytes(ord(CLASSES.get(chr(code), chr(code))) for code in range(128)) + bytes(range(128, 256))
_GAPS: Final = bytes(code for code in range(128) if not chr(code).isalnum())
_GAPS_BUT_SYMBOLS: Final = bytes(code for code in _GAPS if chr(code) not in SYMBOLS)
_KEPT: Final = bytes(code not in _GAPS for code in range(256))
_KEPT_AND_SYMBOLS: Final = bytes(code not in _GAPS_BUT_SYMBOLS for code in range(256))
_ASCII_SYMBOLS: Final = bytes(code for code in _GAPS if chr(code) in SYMBOLS)


def is_word(char: str) -> bool:
    """Whether it is part of a word: letters, digits, and the marks that folding leaves."""
    return char.isalnum() or (not char.isascii() and unicodedata.category(char)[0] == "M")


class _Classes(dict[int, "str | None"]):
    """The same for `str.translate`, beyond ASCII; it fills itself."""

    def __init__(self, *, has_symbols: bool) -> None:
        super().__init__()
        self._has_symbols = has_symbols

    def __missing__(self, code: int) -> str | None:
        char = chr(code)
        is_kept = is_word(char) or (self._has_symbols and char in SYMBOLS)
        found = CLASSES.get(char, char) if is_kept else None
        if len(self) < MAX_KNOWN:
            self[code] = found
        return found


_CLASSES: Final = _Classes(has_symbols=False)
_CLASSES_AND_SYMBOLS: Final = _Classes(has_symbols=True)


class Skeleton:
    """One reading of a folded text. `text`: what the automaton gets."""

    def __init__(self, folded: str, *, reads_symbols: bool = False) -> None:
        self._folded = folded
        self._reads_symbols = reads_symbols
        if folded.isascii():
            gaps = _GAPS_BUT_SYMBOLS if reads_symbols else _GAPS
            self.text = folded.encode("ascii").translate(_ASCII_CLASSES, gaps).decode("ascii")
        else:
            self.text = folded.translate(_CLASSES_AND_SYMBOLS if reads_symbols else _CLASSES)

    @cached_property
    def positions(self) -> Sequence[int]:
        """Where in the folded text each of its characters stands."""
        folded = self._folded
        if len(self.text) == len(folded):
            return range(len(folded))
        if folded.isascii():
            kept = folded.encode("ascii").translate(_KEPT_AND_SYMBOLS if self._reads_symbols else _KEPT)
            return list(compress(range(len(folded)), kept))
        table = _CLASSES_AND_SYMBOLS if self._reads_symbols else _CLASSES
        return [index for index, char in enumerate(folded) if table[ord(char)] is not None]


def skeletons(folded: str, *, is_whole: bool = True) -> Iterator[Skeleton]:
    """All readings of a folded text: its symbols as punctuation, and as letters, but for an exclamation mark at the end
    of a word. A text that is not whole may go on after one at its end either way."""
    yield Skeleton(folded)
    if not has_symbols(folded):
        return
    read = _AT_AN_END.sub(" ", folded)
    if has_symbols(read):
        yield Skeleton(read, reads_symbols=True)
    if not is_whole and folded[-1] == "!":
        read = _AT_AN_END.sub(" ", folded[:-1] + " ")
        if has_symbols(read):
            yield Skeleton(read, reads_symbols=True)


def has_symbols(folded: str) -> bool:
    """Whether a symbol that may be a letter is in it."""
    if folded.isascii():
        return len(folded.encode("ascii").translate(None, _ASCII_SYMBOLS)) != len(folded)
    return any(symbol in folded for symbol in SYMBOLS)
