"""Relaying text without decoding its events.

Most events of a stream differ in their text alone. Once one has been decoded and was a delta of text and nothing else,
what stands before and after its text is learned; an event with the same before and after is its text, which goes into
our own frame. Any other event, and all that follows it in the same read, is decoded; then it is learned anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from modelport.core.errors import ModelportError
from modelport.core.events import Answered, ChoiceFinished, Event, FinishReason, TextDelta
from modelport.core.ports import Decoder
from modelport.gateway.count import Count
from modelport.surfaces.door import StreamWriter

BOUNDARY: Final = b"\n\n"
HELD_BYTES_LIMIT: Final = 64 * 1024
LESSONS: Final = 8
"""A stream whose events differ in more than their text is not learned for ever."""
PLACES: Final = (b'"content":', b'"content": ', b'"text":', b'"text": ')
"""What stands before a text."""
TRIAL: Final = "\x00 trial"

_decoded: Final = msgspec.json.Decoder(str).decode
_encoded: Final = msgspec.json.Encoder().encode


class TextRelay:
    """For one stream of one choice. `take` each read, decode what it gives back, and then let it `learn` from that."""

    def __init__(self, new_decoder: Callable[[], Decoder], count: Count, writer: StreamWriter) -> None:
        self._new_decoder = new_decoder
        self._count = count
        self._writer = writer
        self._before = self._after = self._head = self._tail = b""
        self._is_learned = False
        self._held = b""
        """An unfinished event."""
        self._is_aligned = False
        """Whether the decoder has been given whole events only."""
        self._lessons = LESSONS

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """What the client gets at once, and what comes after that and has to be decoded."""
        if not self._is_learned:
            return b"", data
        if self._held:
            data = self._held + data
            self._held = b""
        end = data.rfind(BOUNDARY)
        if end < 0 and len(data) <= HELD_BYTES_LIMIT:
            self._held = data
            return b"", b""
        before, after, taken = self._before, self._after, 0
        texts: list[bytes] = []
        for event in data[: max(end, 0)].split(BOUNDARY):
            if not (event.startswith(before) and event.endswith(after)):
                break
            try:
                text = _decoded(event[len(before) : len(event) - len(after)])
            except (msgspec.DecodeError, UnicodeDecodeError):
                break
            if not text or not self._count.text(text):
                break
            texts += (self._head, _encoded(text), self._tail)
            taken += len(event) + len(BOUNDARY)
        else:
            self._held = data[taken:]
            return b"".join(texts), b""
        self._is_learned = False
        self._is_aligned = True
        return b"".join(texts), data[taken:]

    def learn(self, data: bytes, events: list[Event]) -> None:
        """Looks at what has just been decoded and written."""
        was_aligned, self._is_aligned = self._is_aligned, data.endswith(BOUNDARY)
        if not self._lessons or not self._is_aligned or not events:
            return
        last, start = events[-1], data.rfind(BOUNDARY, 0, -len(BOUNDARY))
        if start < 0 and not was_aligned:
            return
        if type(last) is not TextDelta or last != TextDelta(last.text) or not last.text:
            return
        self._lessons -= 1
        event = data[start + len(BOUNDARY) if start >= 0 else 0 : -len(BOUNDARY)]
        text = _encoded(last.text)
        for place in PLACES:
            found = event.rfind(place + text)
            if found >= 0:
                self._before = event[: found + len(place)]
                self._after = event[found + len(place) + len(text) :]
                frame = self._writer.text_frame()
                if frame is not None and self._is_nothing_but_text():
                    self._head, self._tail = frame
                    self._is_learned = True
                return

    def release(self) -> bytes:
        """The unfinished event, at the end."""
        held, self._held = self._held, b""
        return held

    def _is_nothing_but_text(self) -> bool:
        """Whether any text between the two halves makes one delta, and neither finishes, counts nor fails anything."""
        event = self._before + _encoded(TRIAL) + self._after + BOUNDARY
        try:
            cut, ended = self._new_decoder(), self._new_decoder()
            made = [event for event in cut.feed(event) if type(event) is not Answered]
            ended.feed(event)
            at_the_end = ended.feed(b"data: [DONE]\n\n")
        except ModelportError:
            return False
        if made != [TextDelta(TRIAL)] or at_the_end != [ChoiceFinished(FinishReason.STOP)]:
            return False
        try:
            cut.end()
        except ModelportError:
            return True  # nothing has said that the choice is finished
        return False
