"""A head that has come before. Clients send the same head again and again on one connection, but for the length of the
body and an id or two; what a parser has made of it once, it would make of it again.

So a request that begins with the very bytes of the last one on its connection, and is here whole, need not be parsed:
only the values that differ are read. The first one of each connection always is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from modelport.lane.standing import Caller
from modelport.lane.ways import Way
from modelport.upstream.wire import RawHeaders

VARIABLE: Final = frozenset({b"content-length", b"traceparent", b"x-ms-client-request-id", b"x-request-id"})
"""Fields whose value may differ. None of them decides anything (surfaces.headers.DECISIVE)."""
VALUE: Final = re.compile(rb"[\x21-\x7e]{1,256}")
END_OF_LINE: Final = b"\r\n"
END_OF_HEAD: Final = b"\r\n\r\n"


class RepeatedHead:
    """One head, cut into what stays and what differs."""

    __slots__ = ("_headers", "_last", "_last_size", "_parts", "caller", "decisive", "way")

    def __init__(
        self,
        parts: Sequence[bytes],
        names: Sequence[bytes],
        headers: RawHeaders,
        way: Way,
        caller: Caller,
        decisive: Sequence[bytes],
    ) -> None:
        *before, self._last = parts
        self._parts = tuple((part, len(part), name) for part, name in zip(before, names, strict=True))
        self._last_size = len(self._last)
        self._headers = headers
        self.way = way
        self.caller = caller
        self.decisive = decisive

    @classmethod
    def of(
        cls, data: bytes, headers: RawHeaders, way: Way, caller: Caller, decisive: Sequence[bytes]
    ) -> RepeatedHead | None:
        """From one read that held a whole request, of which the parser has made `headers`. None: it is not of the
        simplest form."""
        head = data[: data.find(END_OF_HEAD) + len(END_OF_HEAD)]
        lines = head.split(END_OF_LINE)[1:-2]
        if head.count(b"\n") != len(lines) + 2 or len(lines) != len(headers):
            return None
        parts, names, begin, end = [], [], 0, head.find(END_OF_LINE)
        for line, (name, value) in zip(lines, headers, strict=True):
            begins, end = end + len(END_OF_LINE), end + len(END_OF_LINE) + len(line)
            if line != head[begins:end] or line[: len(name) + 1].lower() != name + b":":
                return None
            if name in VARIABLE:
                if name in names or not line.endswith(b" " + value) or VALUE.fullmatch(value) is None:
                    return None
                parts.append(head[begin : end - len(value)])
                names.append(name)
                begin = end
        length = dict(headers).get(b"content-length", b"")
        if b"content-length" not in names or len(data) != len(head) + int(length):
            return None
        return cls((*parts, head[begin:]), names, headers, way, caller, decisive)

    def values(self, data: bytes) -> tuple[dict[bytes, bytes], bytes] | None:
        """What differs in this read, by name, and the body; None: it is no repetition, or not whole."""
        position, values = 0, {}
        for part, size, name in self._parts:
            if not data.startswith(part, position):
                return None
            position += size
            found = VALUE.match(data, position)
            if found is None:
                return None
            values[name] = found[0]
            position = found.end()
        if not data.startswith(self._last, position):
            return None
        body = data[position + self._last_size :]
        length = values[b"content-length"]
        return (values, body) if length.isdigit() and len(body) == int(length) else None

    def headers(self, values: dict[bytes, bytes]) -> RawHeaders:
        """The fields with these values in them, as a parser gives them."""
        return [(name, values.get(name, value)) for name, value in self._headers]
