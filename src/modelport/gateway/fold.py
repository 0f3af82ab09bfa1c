"""A whole answer is a short stream, folded: all that is lost is where the cuts were."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from modelport.core.answers import ChatAnswer, ChatChoice, CompletionChoice, CompletionsAnswer, EmbeddingsAnswer
from modelport.core.content import FunctionCall, ToolCall
from modelport.core.errors import UpstreamFailed
from modelport.core.events import (
    ChoiceFinished,
    Embedding,
    Event,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    UsageReported,
)
from modelport.core.usage import TokenUsage


async def fold_chat(batches: AsyncIterator[list[Event]], choices: int) -> ChatAnswer:
    """The chat answer that these events make. `choices`: how many were asked for; what is beyond is left out.

    Raises UpstreamFailed when a choice never ended, or there is none."""
    folds, usage = await _choices(batches, choices)
    return ChatAnswer(choices=tuple(fold.chat(index) for index, fold in sorted(folds.items())), usage=usage)


async def fold_completions(batches: AsyncIterator[list[Event]], choices: int) -> CompletionsAnswer:
    """The text completions that these events make; as `fold_chat`."""
    folds, usage = await _choices(batches, choices)
    return CompletionsAnswer(choices=tuple(fold.text(index) for index, fold in sorted(folds.items())), usage=usage)


async def fold_embeddings(batches: AsyncIterator[list[Event]]) -> EmbeddingsAnswer:
    """The vectors in input order. Raises UpstreamFailed when one is missing."""
    vectors: dict[int, bytes] = {}
    usage = TokenUsage()
    async for batch in batches:
        for event in batch:
            match event:
                case Embedding():
                    vectors[event.index] = event.vector
                case UsageReported():
                    usage = event.usage
                case _:
                    pass
    if not vectors or max(vectors) != len(vectors) - 1:
        raise UpstreamFailed("The model's answer lacks a vector.")
    return EmbeddingsAnswer(vectors=tuple(vectors[index] for index in range(len(vectors))), usage=usage)


async def _choices(batches: AsyncIterator[list[Event]], choices: int) -> tuple[dict[int, _Choice], TokenUsage]:
    folds: dict[int, _Choice] = {}
    usage = TokenUsage()
    async for batch in batches:
        for event in batch:
            if isinstance(event, UsageReported):
                usage = event.usage
            elif isinstance(event, TextDelta | ReasoningDelta | ToolCallDelta | ChoiceFinished) and (
                event.choice < choices
            ):
                folds.setdefault(event.choice, _Choice()).add(event)
    if not folds or any(fold.reason is None for fold in folds.values()):
        raise UpstreamFailed("The model's answer ended before it was finished.")
    return folds, usage


class _Choice:
    """One choice while it grows."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: dict[int, _Call] = {}
        self._logprobs: dict[str, Any] | None = None
        self.reason: FinishReason | None = None

    def add(self, event: TextDelta | ReasoningDelta | ToolCallDelta | ChoiceFinished) -> None:
        match event:
            case TextDelta():
                self._text.append(event.text)
                if event.logprobs is not None:
                    self._logprobs = _extended(self._logprobs, event.logprobs)
            case ReasoningDelta():
                self._reasoning.append(event.text)
            case ToolCallDelta():
                self._calls.setdefault(event.index, _Call()).add(event)
            case ChoiceFinished():
                self.reason = event.reason

    def chat(self, index: int) -> ChatChoice:
        text = "".join(self._text)
        calls = tuple(call.whole(f"call_{index}_{number}") for number, call in sorted(self._calls.items()))
        return ChatChoice(
            index=index,
            content=text if text or not calls else None,
            finish_reason=self.reason or FinishReason.STOP,
            reasoning="".join(self._reasoning) or None,
            tool_calls=calls or None,
            logprobs=self._logprobs,
        )

    def text(self, index: int) -> CompletionChoice:
        return CompletionChoice(
            index=index,
            text="".join(self._text),
            finish_reason=self.reason or FinishReason.STOP,
            logprobs=self._logprobs,
        )


class _Call:
    """One tool call while it grows."""

    def __init__(self) -> None:
        self._id: str | None = None
        self._name = ""
        self._arguments: list[str] = []

    def add(self, event: ToolCallDelta) -> None:
        self._id = self._id or event.id
        self._name = self._name or event.name or ""
        self._arguments.append(event.arguments)

    def whole(self, fallback_id: str) -> ToolCall:
        return ToolCall(
            id=self._id or fallback_id,
            function=FunctionCall(name=self._name, arguments="".join(self._arguments)),
        )


def _extended(so_far: dict[str, Any] | None, more: dict[str, Any]) -> dict[str, Any]:
    """Lists grow; anything else is replaced. Serves both wire shapes: chat's `content` and the legacy arrays."""
    whole = {} if so_far is None else so_far
    for name, value in more.items():
        if isinstance(value, list):
            known = whole.get(name)
            if isinstance(known, list):
                known.extend(value)
            else:
                whole[name] = list(value)
        elif value is not None or name not in whole:
            whole[name] = value
    return whole
