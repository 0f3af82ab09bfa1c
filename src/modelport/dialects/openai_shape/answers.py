"""Whole answers as one JSON object, as far as the surfaces write them alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from modelport.core.answers import EmbeddingsAnswer
from modelport.core.events import ExtraFields
from modelport.core.requests import EncodingFormat
from modelport.dialects.openai_shape.open_fields import encoded_tail
from modelport.dialects.openai_shape.usage_counts import UsageCounts
from modelport.dialects.vectors import encode_vector

_encode: Final = msgspec.json.Encoder().encode


class WholeAnswer(Struct):
    """A chat, or text completions."""

    id: str
    object: str
    created: int
    model: str
    choices: Sequence[Any]
    usage: UsageCounts


class Vector(Struct, gc=False):
    """One of an embeddings answer."""

    object: str
    index: int
    embedding: Any


class PromptUsage(Struct, gc=False):
    """What an embeddings answer has used."""

    prompt_tokens: int
    total_tokens: int


def written(answer: Struct, extra: dict[str, Any]) -> bytes:
    """The answer as JSON; `extra`: its further fields."""
    return _encode(answer)[:-1] + encoded_tail(extra) + b"}" if extra else _encode(answer)


def with_extra(choice: Struct, extra: ExtraFields | None) -> Any:
    """A choice with the further fields of itself and of its message."""
    if extra is None:
        return choice
    fields: dict[str, Any] = msgspec.to_builtins(choice)
    if extra.message:
        fields["message"] |= extra.message
    return fields | extra.choice


def vectors(answer: EmbeddingsAnswer, encoding_format: EncodingFormat) -> tuple[list[Vector], PromptUsage]:
    """`data` and `usage` of an embeddings answer."""
    data = [
        Vector("embedding", index, encode_vector(vector, encoding_format))
        for index, vector in enumerate(answer.vectors)
    ]
    return data, PromptUsage(answer.usage.prompt, answer.usage.prompt)
