"""The text of a tool call's arguments: JSON whose escapes are undone, because the caller's program undoes them too."""

from __future__ import annotations

import json
import re
from typing import Final

SIMPLE: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "\\": "\\", "/": "/"}
UNICODE_DIGITS: Final = 4
PIECE: Final = 65_536
ESCAPE: Final = 6
"""Characters of the longest."""
_FIRST_HALF: Final = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}")
_NO_ESCAPE: Final = re.compile(r'\\(?!["/bfnrt]|u[0-9a-fA-F]{4})')
BACKSLASH, QUOTE = "\x01", "\x02"
"""Stand for these while escapes are undone."""


def undone(arguments: str, piece: int = PIECE) -> str:
    """All of a text with its escapes undone, so many characters at once; a backslash that begins none stays."""
    if "\\" not in arguments:
        return arguments
    text = arguments.replace("\\\\", BACKSLASH).replace('\\"', QUOTE).replace('"', QUOTE)
    text = _NO_ESCAPE.sub(BACKSLASH, text)
    pieces: list[str] = []
    start = 0
    while start < len(text):
        end = start + piece
        if end < len(text):
            escape = text.rfind("\\", end - ESCAPE + 1, end)
            end = escape if escape > start else end
            if _FIRST_HALF.fullmatch(text, end - ESCAPE, end):
                end -= ESCAPE
        pieces.append(json.loads(f'"{text[start:end]}"', strict=False))
        start = end
    return "".join(pieces).replace(BACKSLASH, "\\").replace(QUOTE, '"')


class ArgumentText:
    """Undoes escapes as the text grows, and knows where each character of the result came from."""

    __slots__ = ("_escape", "_high", "_origins", "_raw", "length")

    def __init__(self) -> None:
        self._escape = ""
        """A backslash and what has come of its escape."""
        self._high = ""
        """The first half of a surrogate pair, which the next escape may complete."""
        self._origins: list[tuple[int, int]] = [(0, 0)]
        """(place in the result, place in the source) wherever their distance changes."""
        self._raw = 0
        self.length = 0
        """Of the result until now."""

    def feed(self, source: str) -> str:
        """What the next piece adds to the result."""
        if "\\" not in source and not self._escape:
            self._raw += len(source)
            self.length += len(source)
            self._high = ""
            return source
        return "".join(map(self._character, source))

    def source_place(self, place: int) -> int:
        """How much of the source makes so much of the result."""
        result, source = next(origin for origin in reversed(self._origins) if origin[0] <= place)
        return source + place - result

    def _character(self, character: str) -> str:
        self._raw += 1
        if not self._escape:
            if character == "\\":
                self._escape = character
                return ""
            self._high = ""
            return self._made(character)
        self._escape += character
        if self._escape[1] != "u":
            return self._undone(SIMPLE.get(self._escape[1], self._escape))
        if len(self._escape) < 2 + UNICODE_DIGITS:
            return ""
        try:
            code = int(self._escape[2:], 16)
        except ValueError:
            return self._undone(self._escape)
        return self._undone(chr(code))

    def _undone(self, made: str) -> str:
        self._escape = ""
        if self._high and "\udc00" <= made <= "\udfff":
            pair = (self._high + made).encode("utf-16", "surrogatepass").decode("utf-16")
            self._high = ""
            return self._made(pair)
        if "\ud800" <= made <= "\udbff":
            self._high = made
            return ""
        self._high = ""
        return self._made(made)

    def _made(self, text: str) -> str:
        self.length += len(text)
        result, source = self._origins[-1]
        if self._raw - self.length != source - result:
            self._origins.append((self.length, self._raw))
        return text
