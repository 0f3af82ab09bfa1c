"""Answers of the Azure AI Model Inference API, whole and as server-sent events."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct, UnsetType

from modelport.core.answers import AnswerHead, ChatAnswer, ChatChoice, CompletionsAnswer, EmbeddingsAnswer
from modelport.core.catalog import Deployment
from modelport.core.operations import Operation
from modelport.core.requests import EncodingFormat
from modelport.dialects.azure_inference.chunks import InferenceFrame
from modelport.dialects.azure_inference.errors import Form
from modelport.dialects.azure_inference.score import whole_score
from modelport.dialects.fresh_ids import hexadecimal
from modelport.dialects.openai_shape.annotations import beside, beside_choice
from modelport.dialects.openai_shape.answers import (
    PromptUsage,
    Vector,
    WholeAnswer,
    vectors,
    with_extra,
    written,
)
from modelport.dialects.openai_shape.open_fields import wire
from modelport.dialects.openai_shape.stream import ChatChunkStream, TextChunkStream
from modelport.dialects.openai_shape.usage_counts import usage_counts
from modelport.dialects.reasoning import ReasoningPlace, with_thinking

__all__ = [
    "ChatStream",
    "CompletionsStream",
    "info",
    "new_id",
    "whole_chat",
    "whole_completions",
    "whole_embeddings",
    "whole_score",
]

_MODEL_TYPES = (
    (Operation.CHAT_COMPLETIONS, "chat-completions"),
    (Operation.EMBEDDINGS, "embeddings"),
    (Operation.IMAGE_EMBEDDINGS, "image-embeddings"),
    (Operation.COMPLETIONS, "text-generation"),
)
"""The SDK's `load_client` takes the first three; a model that does several things is called by the first."""


new_id: Final = hexadecimal(32).next


class ChatStream(ChatChunkStream):
    """One streamed chat answer; use it once. The usage is on the last finish chunk, or, if it was asked for, on a chunk
    of its own after it."""

    def __init__(
        self,
        head: AnswerHead,
        *,
        include_usage: bool = False,
        reasoning: ReasoningPlace = "inline",
        form: Form = "models",
    ) -> None:
        super().__init__(
            InferenceFrame(head, "chat.completion.chunk", form),
            include_usage=include_usage,
            usage_at_finish=True,
            reasoning=reasoning,
            always_content=True,
            has_refusals=False,
        )


class CompletionsStream(TextChunkStream):
    """One streamed text completion; use it once."""

    def __init__(self, head: AnswerHead, *, include_usage: bool = False, form: Form = "models") -> None:
        super().__init__(
            InferenceFrame(head, "text_completion", form), include_usage=include_usage, usage_at_finish=True
        )


class _Message(Struct):
    role: str
    content: str
    reasoning_content: str | UnsetType
    tool_calls: list[Any] | None


class _Choice(Struct):
    index: int
    message: _Message
    finish_reason: str
    logprobs: dict[str, Any] | None


class _Text(Struct):
    index: int
    text: str
    finish_reason: str
    logprobs: dict[str, Any] | None


class _Vectors(Struct):
    id: str
    object: str
    model: str
    data: list[Vector]
    usage: PromptUsage


def whole_chat(head: AnswerHead, answer: ChatAnswer, *, reasoning: ReasoningPlace = "inline") -> bytes:
    """A chat answer as one JSON object."""
    choices = [
        with_extra(_choice(choice, reasoning), beside_choice(choice.extra, choice.annotation, always=False))
        for choice in answer.choices
    ]
    usage = usage_counts(answer.usage, always_detailed=False)
    return written(
        WholeAnswer(head.id, "chat.completion", head.created, head.model, choices, usage),
        beside(answer.extra, answer.annotations, always=False),
    )


def whole_completions(head: AnswerHead, answer: CompletionsAnswer) -> bytes:
    """A text completion as one JSON object."""
    choices = [
        with_extra(
            _Text(choice.index, choice.text, choice.finish_reason, choice.logprobs),
            beside_choice(choice.extra, choice.annotation, always=False),
        )
        for choice in answer.choices
    ]
    usage = usage_counts(answer.usage, always_detailed=False)
    return written(
        WholeAnswer(head.id, "text_completion", head.created, head.model, choices, usage),
        beside(answer.extra, answer.annotations, always=False),
    )


def whole_embeddings(head: AnswerHead, answer: EmbeddingsAnswer, encoding_format: EncodingFormat = "float") -> bytes:
    """Vectors (of texts or images) as one JSON object."""
    data, usage = vectors(answer, encoding_format)
    return written(
        _Vectors(head.id, "list", head.model, data, usage), beside(answer.extra, answer.annotations, always=False)
    )


def info(deployment: Deployment) -> bytes:
    """`GET /info`."""
    operations = deployment.profile.operations
    model_type = next((word for operation, word in _MODEL_TYPES if operation in operations), "chat-completions")
    return msgspec.json.encode(
        {
            "model_name": deployment.model.name,
            "model_type": deployment.model_type or model_type,
            "model_provider_name": deployment.model.provider_name,
        }
    )


def _choice(choice: ChatChoice, reasoning: ReasoningPlace) -> _Choice:
    said = (choice.content or "") + (choice.refusal or "")  # this API has no field for a refusal
    thought: str | UnsetType = UNSET
    if choice.reasoning:
        if reasoning == "inline":
            said = with_thinking(choice.reasoning, said) or ""
        else:
            thought = choice.reasoning
    calls = [wire(call) for call in choice.tool_calls] if choice.tool_calls else None
    return _Choice(choice.index, _Message("assistant", said, thought, calls), choice.finish_reason, choice.logprobs)
