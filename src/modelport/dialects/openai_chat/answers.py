"""Answers of the OpenAI chat API, whole and as server-sent events."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct, UnsetType

from modelport.core.answers import AnswerHead, ChatAnswer, ChatChoice, CompletionsAnswer, EmbeddingsAnswer
from modelport.core.content import FunctionCall
from modelport.core.events import FinishReason, ToolCallDelta
from modelport.core.requests import EncodingFormat
from modelport.dialects.fresh_ids import alphanumeric
from modelport.dialects.openai_chat.chunks import OpenAIFrame
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
from modelport.dialects.openai_shape.stream import ChatChunkStream, StreamedChoice, TextChunkStream
from modelport.dialects.openai_shape.usage_counts import usage_counts
from modelport.dialects.reasoning import ReasoningPlace, with_thinking

new_id: Final = alphanumeric("chatcmpl-", 29).next
new_completions_id: Final = alphanumeric("cmpl-", 29).next


class ChatStream(ChatChunkStream):
    """One streamed chat answer; use it once. The usage comes only if it was asked for, on a chunk of its own."""

    def __init__(self, head: AnswerHead, *, include_usage: bool = False, reasoning: ReasoningPlace = "field") -> None:
        super().__init__(
            OpenAIFrame(head, "chat.completion.chunk", include_usage),
            include_usage=include_usage,
            usage_at_finish=False,
            reasoning=reasoning,
            always_content=False,
            has_refusals=True,
        )


class FunctionStream(ChatStream):
    """The same for a caller that asked with `functions`: one call of each choice, as `function_call`."""

    _calls: dict[int, int] | None = None
    """The call that each choice shows."""

    def _tool_fragment(self, parts: list[bytes], choice: StreamedChoice, fragment: ToolCallDelta) -> None:
        self._calls = self._calls or {}
        if fragment.index != self._calls.setdefault(choice.index, fragment.index):
            return  # the dialect has no words for a second call
        call = {"arguments": fragment.arguments}
        if fragment.name is not None:
            call = {"name": fragment.name, **call}
        inner = b'"delta":{"function_call":' + msgspec.json.encode(call) + b"}"
        parts.append(self._frame.chunk(self._frame.choice(choice.index, inner)))

    def _word(self, reason: FinishReason) -> str:
        return finish_word(reason, speaks_functions=True)


def finish_word(reason: FinishReason, *, speaks_functions: bool) -> str:
    """Why a choice ended, in the caller's dialect."""
    return "function_call" if speaks_functions and reason is FinishReason.TOOL_CALLS else reason


class CompletionsStream(TextChunkStream):
    """One streamed text completion; use it once."""

    def __init__(self, head: AnswerHead, *, include_usage: bool = False) -> None:
        super().__init__(
            OpenAIFrame(head, "text_completion", include_usage), include_usage=include_usage, usage_at_finish=False
        )


class _Message(Struct):
    role: str
    content: str | None
    function_call: FunctionCall | UnsetType
    tool_calls: list[Any] | UnsetType
    reasoning_content: str | UnsetType
    refusal: str | None


class _Choice(Struct):
    index: int
    message: _Message
    logprobs: dict[str, Any] | None
    finish_reason: str


class _Text(Struct):
    text: str
    index: int
    logprobs: dict[str, Any] | None
    finish_reason: str


class _Vectors(Struct):
    object: str
    data: list[Vector]
    model: str
    usage: PromptUsage


def whole_chat(
    head: AnswerHead, answer: ChatAnswer, *, reasoning: ReasoningPlace = "field", speaks_functions: bool = False
) -> bytes:
    """A chat answer as one JSON object."""
    choices = [
        with_extra(
            _choice(choice, reasoning, speaks_functions), beside_choice(choice.extra, choice.annotation, always=True)
        )
        for choice in answer.choices
    ]
    usage = usage_counts(answer.usage, always_detailed=True)
    return written(
        WholeAnswer(head.id, "chat.completion", head.created, head.model, choices, usage),
        beside(answer.extra, answer.annotations, always=True),
    )


def whole_completions(head: AnswerHead, answer: CompletionsAnswer) -> bytes:
    """A text completion as one JSON object."""
    choices = [
        with_extra(
            _Text(choice.text, choice.index, choice.logprobs, choice.finish_reason),
            beside_choice(choice.extra, choice.annotation, always=True),
        )
        for choice in answer.choices
    ]
    usage = usage_counts(answer.usage, always_detailed=True)
    return written(
        WholeAnswer(head.id, "text_completion", head.created, head.model, choices, usage),
        beside(answer.extra, answer.annotations, always=True),
    )


def whole_embeddings(head: AnswerHead, answer: EmbeddingsAnswer, encoding_format: EncodingFormat = "float") -> bytes:
    """Vectors as one JSON object: OpenAI gives it no `id`."""
    data, usage = vectors(answer, encoding_format)
    return written(_Vectors("list", data, head.model, usage), beside(answer.extra, answer.annotations, always=True))


def _choice(choice: ChatChoice, reasoning: ReasoningPlace, speaks_functions: bool) -> _Choice:
    content, calls, refusal = choice.content, choice.tool_calls, choice.refusal
    thought: str | UnsetType = UNSET
    if choice.reasoning:
        if reasoning == "inline":
            content = with_thinking(choice.reasoning, content)
        else:
            thought = choice.reasoning
    called: FunctionCall | UnsetType = UNSET
    tool_calls: list[Any] | UnsetType = UNSET
    if calls and speaks_functions:
        called = calls[0].function
    elif calls:
        tool_calls = [wire(call) for call in calls]
    message = _Message("assistant", content or (None if calls or refusal else ""), called, tool_calls, thought, refusal)
    reason = finish_word(choice.finish_reason, speaks_functions=True) if speaks_functions else choice.finish_reason
    return _Choice(choice.index, message, choice.logprobs, reason)
