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
from modelport.core.events import Answered, ChoiceFinished, Event, ExtraFields, FinishReason, TextDelta
from modelport.core.ports.providers import Decoder
from modelport.gateway.codec import StreamWriter
from modelport.gateway.count import Count

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
    """For one stream of one choice. `take` what came, decode what it gives for that, and let it `learn` from it, until
    nothing is left."""

    __slots__ = (
        "_after",
        "_before",
        "_count",
        "_ending",
        "_extra",
        "_head",
        "_held",
        "_is_aligned",
        "_is_halved",
        "_is_learned",
        "_is_ready",
        "_lessons",
        "_new_decoder",
        "_tail",
    )

    def __init__(self, new_decoder: Callable[[], Decoder], count: Count) -> None:
        self._new_decoder = new_decoder
        self._count = count
        self._before = self._after = self._ending = self._head = self._tail = b""
        self._extra: ExtraFields | None = None
        """The further fields that each event of the learned kind has."""
        self._is_learned = False
        self._is_ready = False
        """A text may be written now, and nothing else is due before it."""
        self._is_aligned = True
        """Whether the decoder has been given whole events only."""
        self._is_halved = False
        self._held = b""
        """An unfinished event."""
        self._lessons = LESSONS

    def take(self, data: bytes) -> tuple[bytes, bytes, bytes]:
        """What the client gets at once, what comes after that and has to be decoded, and what comes after that."""
        if self._is_ready and not self._held:
            # One event, as nearly always.
            text = self._only_text(data)
            if text and self._count.text(text):
                return b"%b%b%b" % (self._head, _encoded(text), self._tail), b"", b""
        if not self._is_ready:
            end = data.find(BOUNDARY) + len(BOUNDARY) if self._lessons or self._is_learned else 0
            return (b"", data[:end], data[end:]) if end >= len(BOUNDARY) else (b"", data, b"")
        if self._held:
            data = self._held + data
            self._held = b""
        before, after, start = self._before, self._after, 0
        texts: list[bytes] = []
        while (end := data.find(BOUNDARY, start)) >= 0:
            if not (data.startswith(before, start) and data.endswith(after, start + len(before), end)):
                break
            try:
                text = _decoded(data[start + len(before) : end - len(after)])
            except (msgspec.DecodeError, UnicodeDecodeError):
                break
            if not text or not self._count.text(text):
                break
            texts += (self._head, _encoded(text), self._tail)
            start = end + len(BOUNDARY)
        else:
            left = data[start:]
            if len(left) <= HELD_BYTES_LIMIT and b"\r" not in left:  # with CR there are other ends of an event
                self._held = left
                return b"".join(texts), b"", b""
            end = len(data)
        end += len(BOUNDARY)
        return b"".join(texts), data[start:end], data[end:]

    def _only_text(self, data: bytes) -> str:
        """The text, if this is one whole event of text; else nothing."""
        end = len(data) - len(BOUNDARY)
        if not (data.startswith(self._before) and data.endswith(self._ending) and data.find(BOUNDARY) == end):
            return ""
        try:
            return _decoded(data[len(self._before) : end - len(self._after)])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return ""

    def learn(self, data: bytes, events: list[Event], writer: StreamWriter | None) -> None:
        """Looks at what has just been decoded and written."""
        was_aligned, self._is_aligned = self._is_aligned, data.endswith(BOUNDARY)
        if was_aligned and self._is_aligned and self._lessons and events and is_plain(events[-1]):
            self._lessons -= 1
            self._study(data[: -len(BOUNDARY)], events[-1])  # type: ignore[arg-type]
        # The decoder may hold half a character back, which belongs before the next text.
        self._is_halved = b"\\ud" in data.lower() or (self._is_halved and not any(map(is_text, events)))
        is_complete = self._is_aligned and not self._is_halved
        frame = writer.text_frame(self._extra) if writer is not None and is_complete else None
        if frame is not None:
            self._head, self._tail = frame
        self._is_ready = self._is_learned and frame is not None

    def release(self) -> bytes:
        """The unfinished event, at the end."""
        self._is_ready = False
        held, self._held = self._held, b""
        return held

    def _study(self, event: bytes, delta: TextDelta) -> None:
        text = _encoded(delta.text)
        for place in PLACES:
            found = event.rfind(place + text)
            if found >= 0:
                known = self._before, self._after, self._extra
                self._before = event[: found + len(place)]
                self._after = event[found + len(place) + len(text) :]
                self._extra = delta.extra
                if self._is_nothing_but_text():
                    self._is_learned = True
                    self._ending = self._after + BOUNDARY
                else:
                    self._before, self._after, self._extra = known
                return

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
        if made != [TextDelta(TRIAL, extra=self._extra)] or at_the_end != [ChoiceFinished(FinishReason.STOP)]:
            return False
        try:
            cut.end()
        except ModelportError:
            return True  # nothing has said that the choice is finished
        return False


def is_plain(event: Event) -> bool:
    """Whether it is a text of the first choice, and only that."""
    return type(event) is TextDelta and bool(event.text) and event == TextDelta(event.text, extra=event.extra)


def is_text(event: Event) -> bool:
    """Whether it adds to a text."""
    return type(event) is TextDelta and bool(event.text)
