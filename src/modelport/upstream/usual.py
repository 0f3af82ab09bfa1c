"""The usual reply of an upstream, known by its head. What a parser has made of one head it would make of the next that
has the same fields in the same order, whatever their values: so a 200 that looks like the last one, and has come whole
with one read, is taken without parsing. The first one of each kind is always parsed.
"""

from __future__ import annotations

import re
from typing import Final

STRUCTURAL: Final = frozenset(
    {b"connection", b"content-encoding", b"keep-alive", b"transfer-encoding", b"trailer", b"upgrade", b"content-type"}
)
"""Fields whose values must be the same, too."""
LESSONS: Final = 16
"""An upstream whose heads differ all the time is not learned for ever."""
END_OF_HEAD: Final = b"\r\n\r\n"


class UsualReply:
    """One per address."""

    __slots__ = ("_lessons", "match")

    def __init__(self) -> None:
        self._lessons = LESSONS
        self.match = re.compile(rb"(?!)").match
        """Knows the usual head; its first group is the length of the body that follows."""

    def learn(self, data: bytes, fields: list[tuple[bytes, bytes]]) -> None:
        """From a read that held exactly one reply, a 200 whose length is given, and what a parser found in its head."""
        end = data.find(END_OF_HEAD)
        lines = data[:end].split(b"\r\n")
        if not self._lessons or end < 0 or data.count(b"\n", 0, end) != len(lines) - 1 or len(lines) != len(fields) + 1:
            return
        self._lessons -= 1
        parts = [re.escape(lines[0])]
        for line, (name, _) in zip(lines[1:], fields, strict=True):
            if not line.startswith(name + b":"):
                return
            if name.lower() == b"content-length":
                parts.append(re.escape(name) + rb": ?([0-9]{1,10})")
            elif name.lower() in STRUCTURAL:
                parts.append(re.escape(line))
            else:
                parts.append(re.escape(name) + rb":[\x20-\x7e]*")
        pattern = rb"\r\n".join(parts) + rb"\r\n\r\n"
        if pattern.count(b"([0-9]{1,10})") == 1:
            self.match = re.compile(pattern).match
