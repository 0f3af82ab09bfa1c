"""How a surface speaks one operation: the machine knows it by this alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import Struct

from modelport.core.answers import AnswerHead
from modelport.core.errors import ModelportError
from modelport.core.events import Event, ExtraFields
from modelport.core.requests import Request
from modelport.dialects.body import check_counts
from modelport.dialects.reasoning import ReasoningPlace
from modelport.gateway.fold import WholeAnswer


class StreamWriter(Protocol):
    """Makes one answer's server-sent events."""

    def feed(self, events: Sequence[Event]) -> bytes: ...

    def text_frame(self, extra: ExtraFields | None) -> tuple[bytes, bytes] | None:
        """What a text of the first choice with these further fields stands in, if nothing else is due before it."""
        ...

    def end(self) -> bytes: ...

    def broken(self, error: ModelportError) -> bytes: ...


class Speech(Struct, frozen=True, kw_only=True):
    """One operation in a surface's dialect."""

    decode: Callable[[bytes, int], Request]
    """Body and greatest nesting → request."""
    whole: Callable[[AnswerHead, Request, WholeAnswer, ReasoningPlace], bytes]
    """Writes the folded answer as one JSON object."""
    stream: Callable[[AnswerHead, Request, ReasoningPlace], StreamWriter] | None = None
    """None: this operation is never streamed."""
    new_id: Callable[[], str]

    def reader(self, json_containers: int, json_depth: int) -> Callable[[bytes], Request]:
        """From a body to the request. Raises MalformedBody before any decoding if the body holds more than so many
        containers."""
        decode = self.decode

        def read(body: bytes) -> Request:
            if len(body) > json_containers:
                check_counts(body, json_containers)
            return decode(body, json_depth)

        return read
