"""Server-sent events, both ways: how our doors write them, and how an upstream's are read however they are cut.

We write the narrowest form there is, because azure-ai-inference refuses every other: `data: `, one line, an empty line.
We read all that the standard allows, because upstreams use it.
"""

from __future__ import annotations

from modelport.core.errors import UpstreamFailed

DONE = b"data: [DONE]\n\n"
"""The last event of a stream that ended well."""

DONE_PAYLOAD = b"[DONE]"
"""What the parser gives for it."""

MAX_EVENT_BYTES = 16 * 1024 * 1024
"""An event longer than this cannot be an answer."""

_FIELDS = (b":", b"event:", b"id:", b"retry:")
"""How lines begin that the standard knows and that are no data."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def encode_event(payload: bytes) -> bytes:
    """One event. `payload` holds no newline (JSON escapes them)."""
    return b"data: " + payload + b"\n\n"


class EventStreamParser:
    """Gives the data of each event: comments, `event:`, `id:` and `retry:` are read over, the lines of one event's data
    are joined with a newline, an event without data is none. CR, LF and CRLF end a line; one in the middle of a JSON
    object ends nothing."""

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._line_parts: list[bytes] = []
        """The unfinished last line, as it came: joined once it is whole."""
        self._data: list[bytes] = []
        """The data lines of the unfinished event."""
        self._held_bytes = 0
        self._is_start = True
        self._skips_line_feed = False
        """The last byte was CR: a LF that comes next belongs to it."""

    def feed(self, data: bytes) -> list[bytes]:
        """The events that `data` completes. Raises UpstreamFailed when one is longer than the limit."""
        if self._skips_line_feed and data:
            self._skips_line_feed = False
            if data.startswith(b"\n"):
                data = data[1:]
        if b"\r" in data:
            self._skips_line_feed = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = data.split(b"\n")
        unfinished = lines.pop()
        events: list[bytes] = []
        for line in lines:
            self._take_line(self._whole_line(line), events)
        if unfinished:
            self._hold(len(unfinished))
            self._line_parts.append(unfinished)
        return events

    def end(self) -> list[bytes]:
        """The stream is over: what was left without its empty line, if anything. It may be cut: parse it with care."""
        events: list[bytes] = []
        self._skips_line_feed = False
        if self._line_parts:
            self._take_line(self._whole_line(b""), events)
        self._take_line(b"", events)
        return events

    def _whole_line(self, end: bytes) -> bytes:
        if self._line_parts:
            self._line_parts.append(end)
            end = b"".join(self._line_parts)
            self._line_parts.clear()
            self._held_bytes = sum(map(len, self._data))
        if self._is_start:
            self._is_start = False
            end = end.removeprefix(_BYTE_ORDER_MARK)
        return end

    def _take_line(self, line: bytes, events: list[bytes]) -> None:
        if not line:
            if self._data:
                payload = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
                if payload:
                    events.append(payload)
                self._data.clear()
                self._held_bytes = 0
            return
        if line.startswith(b"data:"):
            value = line[6:] if line.startswith(b"data: ") else line[5:]
        elif line == b"data":
            value = b""
        elif self._is_unfinished() and not line.startswith(_FIELDS):
            value = line  # an upstream that writes a text's line end as it is
        else:
            return
        self._hold(len(value) + 1)
        self._data.append(value)

    def _is_unfinished(self) -> bool:
        """Whether the event so far is the beginning of a JSON object."""
        return bool(self._data) and self._data[0].startswith(b"{") and not self._data[-1].endswith(b"}")

    def _hold(self, count: int) -> None:
        self._held_bytes += count
        if self._held_bytes > self._max_event_bytes:
            raise UpstreamFailed("The upstream sent an event that is longer than any answer.")
