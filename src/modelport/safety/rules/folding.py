"""Text with its disguises taken off, and the way back to the text as it came.

*Plain* text has no invisible characters, and compatibility forms (full-width letters, ligatures) are resolved. *Folded*
text has no case and no diacritics either, and what looks like an ASCII letter is that letter. Both are made character
by character, so that a text in pieces is folded as the whole text is.
"""

from __future__ import annotations

import unicodedata
from importlib.resources import files
from typing import Final

MAX_KNOWN: Final = 200_000
"""Characters that a table remembers at a time: more than Unicode has letters."""
REPLACEMENT: Final = "\ufffd"
"""Stands for half a surrogate pair, which no library below takes."""
OPTIONAL_MARKS: Final = frozenset({1, *range(10, 37), *range(200, 241)})
"""Combining classes of marks that a reader does without: accents, overlays, the points of Hebrew and Arabic. The others
are letters of their scripts."""
IGNORABLE: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0")
"""Default ignorable characters that have another category than Cf."""
SPACES: Final = "\t\n\v\f\r"
CONTROLS: Final = bytes(code for code in (*range(32), 127) if chr(code) not in SPACES)
LOWER: Final = bytes(code + 32 if 65 <= code <= 90 else code for code in range(256))
IDENTITY: Final = bytes(range(256))


def is_invisible(char: str) -> bool:
    """Whether nothing is seen of it."""
    category = unicodedata.category(char)
    if category in ("Cf", "Me") or (category == "Cc" and char not in SPACES and char != "\x85"):
        return True
    return char in IGNORABLE or 0xFE00 <= ord(char) <= 0xFE0F or 0xE0000 <= ord(char) <= 0xE0FFF


class Folding(dict[int, str]):
    """A table for `str.translate` that fills itself: code point → what it becomes, `""` where it goes."""

    __slots__ = ("ascii_table",)

    ascii_table: bytes

    def __missing__(self, code: int) -> str:
        if len(self) >= MAX_KNOWN:
            self.clear()
        char = chr(code)
        found = REPLACEMENT if 0xD800 <= code <= 0xDFFF else self.folded(char)
        self[code] = found
        return found

    def folded(self, char: str) -> str:
        """What one character becomes."""
        raise NotImplementedError

    def apply(self, text: str) -> str:
        """The whole text."""
        if text.isascii():
            return text.encode("ascii").translate(self.ascii_table, CONTROLS).decode("ascii")
        return text.translate(self)

    def offsets(self, text: str) -> list[int]:
        """Where each character of `apply(text)` comes from."""
        return [index for index, char in enumerate(text) for _ in self[ord(char)]]


class Plain(Folding):
    """Without invisible characters and compatibility forms."""

    ascii_table = IDENTITY

    def folded(self, char: str) -> str:
        return "".join(part for part in unicodedata.normalize("NFKC", char) if not is_invisible(part))


class Folded(Folding):
    """Without case, diacritics and look-alikes as well."""

    __slots__ = ("looks",)

    ascii_table = LOWER

    def __init__(self) -> None:
        super().__init__()
        self.looks = look_alikes()

    def folded(self, char: str) -> str:
        parts = unicodedata.normalize("NFKD", char)
        if parts != char and (look := self.looks.get(char)) is not None:
            return look
        return "".join(self._part(part) for part in parts if not is_dropped(part))

    def _part(self, part: str) -> str:
        if not part.isascii() and (digit := unicodedata.decimal(part, None)) is not None:
            return str(digit)
        return "".join(self._look(lower) for lower in part.casefold() if not is_dropped(lower))

    def _look(self, lower: str) -> str:
        """A letter in lower case reads as its own look, else as its upper case's: both must become the same."""
        if lower.isascii():
            return lower
        return self.looks.get(lower) or self.looks.get(lower.upper()) or lower


def is_dropped(char: str) -> bool:
    """Whether folded text goes without it."""
    return is_invisible(char) or unicodedata.combining(char) in OPTIONAL_MARKS


def look_alikes() -> dict[str, str]:
    """Unicode's confusables that read as ASCII letters or digits (scripts/confusables.py)."""
    table = files("modelport.safety.rules").joinpath("data/confusables.txt").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in table.splitlines())
    return {char: look for look, chars in rows for char in chars}


PLAIN: Final = Plain()
FOLDED: Final = Folded()


def is_foreign(char: str) -> bool:
    """Whether a character is an ASCII letter by its look alone."""
    parts = unicodedata.normalize("NFKD", char)
    return not any(part.isascii() and part.isalnum() for part in parts)
