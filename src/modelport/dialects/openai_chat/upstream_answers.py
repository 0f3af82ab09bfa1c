"""An OpenAI-shaped upstream's answers, from bytes: a stream of events or one JSON object, told apart by looking, for
some answer the one though the other was asked."""

from __future__ import annotations

import math
import sys
from array import array
from binascii import a2b_base64
from collections.abc import Callable
from struct import pack
from typing import Any, Final, Generic, TypeVar

import msgspec
from msgspec import Struct

from modelport.core.errors import ModelportError
from modelport.core.events import Answered, Embedding, Event, NumberList, Vector
from modelport.core.ports.providers import ANSWER_BYTES_LIMIT, Decoder
from modelport.core.requests import EmbeddingsRequest, ImageEmbeddingsRequest, Request
from modelport.dialects.body import JSON_CONTAINERS_MAXIMUM, holds_more
from modelport.dialects.openai_chat.upstream_chunks import ChunkReader, new_call_id
from modelport.dialects.openai_chat.upstream_failures import broken, failure_in_stream
from modelport.dialects.openai_chat.upstream_json import read_json, whole_characters
from modelport.dialects.openai_chat.upstream_simple import is_shallow, usual_events
from modelport.dialects.openai_chat.upstream_usage import usage_report
from modelport.dialects.openai_shape.open_fields import rest
from modelport.dialects.sse import DONE_PAYLOAD, EventStreamParser
from modelport.dialects.vectors import dimensions, number_list

Written = TypeVar("Written")

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_BLANK: Final = b" \t\r\n" + _BYTE_ORDER_MARK
"""What may stand before an answer."""


def decoder(request: Request, *, engine: bool = False, new_id: Callable[[], str] = new_call_id) -> Decoder:
    """A fresh decoder for the answer to `request`. `engine`: a worker of ours answers, and failing is its own fault."""
    if isinstance(request, (EmbeddingsRequest, ImageEmbeddingsRequest)):
        return EmbeddingsDecoder(len(request.input), engine)
    return CompletionDecoder(request.choices, engine, new_id)


class CompletionDecoder:
    """core.ports.providers.Decoder for chat and text completions. `choices`: how many were asked for."""

    __slots__ = ("_choices", "_failure", "_is_engine", "_is_over", "_known_reader", "_new_id", "_stream", "_whole")

    def __init__(self, choices: int, engine: bool = False, new_id: Callable[[], str] = new_call_id) -> None:
        self._choices = choices
        self._is_engine = engine
        self._new_id = new_id
        self._known_reader: ChunkReader | None = None
        self._stream: EventStreamParser | None = None
        self._whole: _WholeBody | None = None
        self._failure: ModelportError | None = None
        self._is_over = False

    def feed(self, data: bytes) -> list[Event]:
        """core.ports.providers.Decoder"""
        if self._failure is not None:
            raise self._failure
        if self._stream is None and self._whole is None:
            data = self._begun(data)
        if self._whole is not None:
            self._whole.take(data)
            return []
        events: list[Event] = []
        try:
            for payload in self._stream.feed(data) if self._stream is not None else ():
                events += self._taken(payload)
        except ModelportError as failure:
            if not events:
                raise
            self._failure = failure  # after what came before it, however the reads were cut
        return events

    def end(self) -> list[Event]:
        """core.ports.providers.Decoder"""
        if self._failure is not None:
            raise self._failure
        if self._is_over:
            return []
        if self._whole is not None:
            raw = self._whole.joined()
            if (usual := usual_events(raw)) is not None:
                self._is_over = True
                return usual
            return self._chunk(raw) + self._over(is_clean=True)
        events: list[Event] = []
        for payload in self._stream.end() if self._stream is not None else ():
            if payload.strip() == DONE_PAYLOAD or _object(payload) is not None:  # else it was cut: ignore it
                events += self._taken(payload)
        return events if self._is_over else events + self._over(is_clean=False)

    def reported(self) -> list[Event]:
        """core.ports.providers.Decoder"""
        return self._reader.reported()

    @property
    def _reader(self) -> ChunkReader:
        """Made when it is needed: the usual whole answer is read without it."""
        if self._known_reader is None:
            self._known_reader = ChunkReader(self._choices, engine=self._is_engine, new_id=self._new_id)
        return self._known_reader

    def _begun(self, data: bytes) -> bytes:
        """Decides what this is, as soon as something other than white space has come; gives what is to be read."""
        text = data if data.startswith(b"{") else data.lstrip(_BLANK)
        if not text:
            return b""
        if text.startswith((b"{", b"[")):
            self._whole = _WholeBody(self._is_engine)
        elif text.startswith(b"<"):
            raise broken("The upstream answered with a page, not with an answer.", self._is_engine)
        else:
            self._stream = EventStreamParser()
        return text

    def _taken(self, payload: bytes) -> list[Event]:
        if self._is_over:
            return []
        if payload.strip() == DONE_PAYLOAD:
            return self._over(is_clean=True)
        return self._chunk(payload)

    def _chunk(self, raw: bytes) -> list[Event]:
        value, is_strict = _answer_object(raw, self._is_engine)
        return self._reader.chunk(value, is_strict=is_strict, size=len(raw))

    def _over(self, *, is_clean: bool) -> list[Event]:
        self._is_over = True
        return self._reader.finish(is_clean=is_clean)


class EmbeddingsDecoder:
    """core.ports.providers.Decoder for vectors, of texts and of pictures. `expected`: how many were asked for."""

    def __init__(self, expected: int, engine: bool = False) -> None:
        self._expected = expected
        self._is_engine = engine
        self._body = _WholeBody(engine)

    def feed(self, data: bytes) -> list[Event]:
        """core.ports.providers.Decoder"""
        self._body.take(data)
        return []

    def end(self) -> list[Event]:
        """core.ports.providers.Decoder"""
        raw = self._body.joined()
        extra: dict[str, Any] = {}
        answer: _OpenVectors[Any]
        try:
            answer = _decode_vectors(raw)
            written = [bytes(item.embedding) for item in answer.data]
            embeddings = [number_list(text) or _decode_embedding(text) for text in written]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            answer, extra = self._unusual(raw)
            embeddings = [item.embedding for item in answer.data]
        if not answer.data:
            _answer_object(raw, self._is_engine)
        return self._events(answer, [self._vector(embedding) for embedding in embeddings], extra)

    def _unusual(self, raw: bytes) -> tuple[_OpenVectors[list[float] | str], dict[str, Any]]:
        """An answer that is broken, says that it is an error, or has further fields, which are passed on."""
        value, _ = _answer_object(raw, self._is_engine)
        try:
            answer = msgspec.convert(whole_characters(value), _OpenVectors[list[float] | str])
        except (msgspec.ValidationError, RecursionError):
            raise broken("The upstream's vectors cannot be read.", self._is_engine) from None
        return answer, rest(value, _VECTORS_FIELDS)

    def reported(self) -> list[Event]:
        """core.ports.providers.Decoder: they come with the vectors."""
        return []

    def _events(self, answer: _OpenVectors[Any], vectors: list[Vector], extra: dict[str, Any]) -> list[Event]:
        found: dict[int, Vector] = {}
        for position, (item, vector) in enumerate(zip(answer.data, vectors, strict=True)):
            found[position if item.index is None else item.index] = vector
        if len(answer.data) != self._expected or sorted(found) != list(range(self._expected)):
            raise broken("The upstream gave another number of vectors than was asked for.", self._is_engine)
        if self._expected > 1 and len(set(map(dimensions, found.values()))) > 1:
            raise broken("The upstream gave vectors of different lengths.", self._is_engine)
        events: list[Event] = []
        if answer.model or answer.id or extra:
            events.append(Answered(answer.model or None, answer.id or None, extra))
        events += [Embedding(index, vector) for index, vector in sorted(found.items())]
        usage = usage_report(answer.usage)
        return [*events, usage] if usage is not None else events

    def _vector(self, embedding: NumberList | list[float] | str) -> Vector:
        """Every number is finite."""
        if isinstance(embedding, NumberList):
            return embedding
        try:
            if isinstance(embedding, str):
                packed = a2b_base64(embedding, strict_mode=True)
                numbers = array("f", packed)
                if sys.byteorder == "big":
                    numbers.byteswap()
                total = sum(numbers)
            else:
                packed, total = pack(f"<{len(embedding)}f", *embedding), sum(embedding)
        except (ValueError, OverflowError) as exc:
            raise broken("The upstream's vectors cannot be read.", self._is_engine) from exc
        if not packed or not math.isfinite(total):
            raise broken("The upstream gave a vector with a component that is no finite number.", self._is_engine)
        return packed


class _Item(Struct, Generic[Written]):
    embedding: Written
    index: int | None = None


class _OpenVectors(Struct, Generic[Written]):
    """An answer that may have further fields."""

    data: list[_Item[Written]]
    model: str | None = None
    id: str | None = None
    usage: Any = None
    object: Any = None
    created: Any = None


class _Vectors(_OpenVectors[msgspec.Raw], forbid_unknown_fields=True):
    """An answer that has none."""


_decode_vectors: Final = msgspec.json.Decoder(_Vectors).decode
_decode_embedding: Final = msgspec.json.Decoder(list[float] | str).decode
_VECTORS_FIELDS: Final = frozenset((*_Vectors.__struct_fields__, "error"))


class _WholeBody:
    """One JSON document, collected."""

    __slots__ = ("_is_engine", "_length", "_pieces")

    def __init__(self, engine: bool) -> None:
        self._is_engine = engine
        self._pieces: list[bytes] = []
        self._length = 0

    def take(self, data: bytes) -> None:
        self._length += len(data)
        if self._length > ANSWER_BYTES_LIMIT:
            raise broken("The upstream's answer is longer than any answer.", self._is_engine)
        self._pieces.append(data)

    def joined(self) -> bytes:
        body = b"".join(self._pieces).removeprefix(_BYTE_ORDER_MARK)
        if len(body) > JSON_CONTAINERS_MAXIMUM and holds_more(body, JSON_CONTAINERS_MAXIMUM):
            raise broken("The upstream's answer holds more objects and lists than any answer.", self._is_engine)
        return body


def _answer_object(raw: bytes, engine: bool) -> tuple[dict[str, Any], bool]:
    """The JSON object, and whether it is JSON as it stands. Raises our error when it is none, or says that it is an
    error, in any shape that they have."""
    found = _object(raw)
    if found is None:
        raise broken("The upstream sent what is no answer.", engine)
    value, is_strict = found
    is_answer = "choices" in value or "data" in value
    is_error = value.get("object") == "error" or value.get("type") == "error" or isinstance(value.get("message"), str)
    if value.get("error") or (is_error and not is_answer):
        raise failure_in_stream(value, engine=engine)
    return value, is_strict


def _object(raw: bytes) -> tuple[dict[str, Any], bool] | None:
    if holds_more(raw, JSON_CONTAINERS_MAXIMUM) or not is_shallow(raw):
        return None
    try:
        value, is_strict = read_json(raw)
    except ValueError:
        return None
    return (value, is_strict) if isinstance(value, dict) else None
