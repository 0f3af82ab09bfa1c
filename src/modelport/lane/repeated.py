"""A head that has come before. Clients send the same head again and again on one connection, but for the length of the
body and an id or two; what a parser has made of it once, it would make of it again.

So a request that begins with the very bytes of the last one on its connection, and is here whole, need not be parsed:
only the values that differ are read. The first one of each connection always is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from modelport.core.catalog import Snapshot
from modelport.lane.ways import Way
from modelport.upstream.wire import RawHeaders

CLIENT_REQUEST_ID: Final = b"x-ms-client-request-id"
VALUE_BYTES: Final = 256
VARIABLE: Final = {
    b"content-length": rb"([0-9]{1,10})",
    b"traceparent": rb"([\x21-\x7e]{1,%d})" % VALUE_BYTES,
    b"x-request-id": rb"([\x21-\x7e]{1,%d})" % VALUE_BYTES,
    CLIENT_REQUEST_ID: rb"([\x21-\x7e]{1,%d})" % VALUE_BYTES,
}
"""Fields whose value may differ. None of them decides anything (surfaces.headers.DECISIVE)."""
END_OF_LINE: Final = b"\r\n"
END_OF_HEAD: Final = b"\r\n\r\n"


Repetition = tuple["RepeatedHead", re.Match[bytes]]
"""A head that was known again, and what `RepeatedHead.match` has found in it."""


class RepeatedHead:
    """One head, with places where values may differ."""

    __slots__ = ("_fixed", "_headers", "_length", "_match", "_places", "client", "key", "snapshot", "way")

    def __init__(
        self,
        fixed: bytes,
        pattern: bytes,
        places: Sequence[bytes],
        headers: RawHeaders,
        way: Way,
        key: bytes,
        snapshot: Snapshot,
    ) -> None:
        self._fixed = fixed
        """Up to the first value that may differ."""
        self._match = re.compile(pattern).match
        self._length = places.index(b"content-length") + 1
        self.client = places.index(CLIENT_REQUEST_ID) + 1 if CLIENT_REQUEST_ID in places else 0
        """The group of the match that has the client's id, or 0."""
        self.way = way
        self.key = key
        self.snapshot = snapshot
        """The one by which the head was acceptable."""
        self._places = places
        self._headers = headers

    @classmethod
    def of(
        cls,
        data: bytes,
        headers: RawHeaders,
        way: Way,
        key: bytes,
        snapshot: Snapshot,
        most_bytes: int,
    ) -> RepeatedHead | None:
        """From one read that held a whole request, of which the parser has made `headers`. None: it is not of the
        simplest form, or a later one could be longer than `most_bytes`."""
        head = data[: data.find(END_OF_HEAD) + len(END_OF_HEAD)]
        first, *lines = head.removesuffix(END_OF_HEAD).split(END_OF_LINE)
        length = dict(headers).get(b"content-length", b"")
        if head.count(b"\n") != len(lines) + 2 or len(lines) != len(headers):
            return None
        if not length.isdigit() or len(data) != len(head) + int(length):
            return None
        if len(head) + len(VARIABLE) * VALUE_BYTES > most_bytes:
            return None
        fixed = b""
        parts: list[bytes] = []
        places: list[bytes] = []
        for number, (line, (name, value)) in enumerate(zip(lines, headers, strict=True)):
            if line[: len(name) + 1].lower() != name + b":":
                return None
            pattern = VARIABLE.get(name)
            if pattern is None:
                if places:
                    parts.append(re.escape(line))
                continue
            if name in places or not line.endswith(b" " + value) or re.fullmatch(pattern, value) is None:
                return None
            begin = line.removesuffix(value)
            if places:
                pattern = re.escape(begin) + pattern
            else:
                fixed = END_OF_LINE.join([first, *lines[:number], begin])
            parts.append(pattern)
            places.append(name)
        return cls(fixed, END_OF_LINE.join([*parts, END_OF_LINE]), places, headers, way, key, snapshot)

    def match(self, data: bytes) -> tuple[re.Match[bytes], bytes] | None:
        """The head and the body of this read; None: it is no repetition, or not whole."""
        if not data.startswith(self._fixed):
            return None
        found = self._match(data, len(self._fixed))
        if found is None:
            return None
        body = data[found.end() :]
        return (found, body) if len(body) == int(found[self._length]) else None

    def headers(self, found: re.Match[bytes]) -> RawHeaders:
        """The fields of such a head, as a parser gives them."""
        values = dict(zip(self._places, found.groups(), strict=True))
        return [(name, values.get(name, value)) for name, value in self._headers]
