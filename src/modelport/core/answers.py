"""A whole answer: the events of one call, folded. Surfaces write these; gateway/fold.py makes them."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from modelport.core.content import ToolCall
from modelport.core.events import Annotation, ExtraFields, FinishReason, Vector
from modelport.core.usage import TokenUsage


class ChatChoice(Struct, frozen=True):
    """One finished choice. `content` is None beside tool calls or a refusal when the model wrote no text.
    `extra`: fields of the choice and of its message that nothing here reads."""

    index: int
    content: str | None
    finish_reason: FinishReason
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] | None = None
    logprobs: dict[str, Any] | None = None
    refusal: str | None = None
    extra: ExtraFields | None = None
    annotation: Annotation | None = None
    """What the content filter says of it."""


class ChatAnswer(Struct, frozen=True):
    """Choices in order of their index. `extra`: fields of the answer that nothing here reads. `annotations`: what the
    content filter says of the prompt."""

    choices: tuple[ChatChoice, ...]
    usage: TokenUsage
    extra: dict[str, Any] = {}
    annotations: tuple[Annotation, ...] = ()


class PlainAnswer(Struct, frozen=True, gc=False):
    """A whole answer of one choice that is text, as its source gave it. `prompt`, `completion`: tokens; 0: the source
    has not counted. `usage`: the same by class, where the source says more. `service_tier`: a word for the usual one,
    or None. `extra`: fields that nothing here reads."""

    text: str
    finish_reason: FinishReason
    model: str | None
    id: str | None
    prompt: int = 0
    completion: int = 0
    usage: TokenUsage | None = None
    service_tier: str | None = None
    extra: ExtraFields | None = None


class CompletionChoice(Struct, frozen=True):
    """One finished text."""

    index: int
    text: str
    finish_reason: FinishReason
    logprobs: dict[str, Any] | None = None
    extra: ExtraFields | None = None
    annotation: Annotation | None = None
    """What the content filter says of it."""


class CompletionsAnswer(Struct, frozen=True):
    """Choices in order of their index. `extra`: fields of the answer that nothing here reads. `annotations`: what the
    content filter says of each prompt."""

    choices: tuple[CompletionChoice, ...]
    usage: TokenUsage
    extra: dict[str, Any] = {}
    annotations: tuple[Annotation, ...] = ()


class EmbeddingsAnswer(Struct, frozen=True):
    """Vectors in input order. `extra`: fields that nothing here reads.
    `annotations`: what the content filter says of the input."""

    vectors: tuple[Vector, ...]
    usage: TokenUsage
    extra: dict[str, Any] = {}
    annotations: tuple[Annotation, ...] = ()


class AnswerHead(Struct, frozen=True):
    """What every chunk and every whole answer says of itself. `created`: unix seconds, an integer."""

    id: str
    created: int
    model: str
