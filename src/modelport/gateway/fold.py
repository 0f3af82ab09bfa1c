"""A whole answer is a short stream, folded: all that is lost is where the cuts were."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol, TypeVar

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
from modelport.core.requests import ChatRequest, CompletionsRequest, Request
from modelport.core.usage import TokenUsage

Folded = TypeVar("Folded", covariant=True)


class Fold(Protocol[Folded]):
    """Takes an answer's events as they come; `end` gives what they make. Use it once."""

    def feed(self, events: list[Event]) -> None: ...

    def end(self) -> Folded:
        """Raises UpstreamFailed when a part is missing."""
        ...


class ChoicesFold:
    """Chats and text completions. `choices`: how many were asked for; what is beyond is left out."""

    def __init__(self, choices: int) -> None:
        self._limit = choices
        self._choices: dict[int, _Choice] = {}
        self._usage = TokenUsage()

    def feed(self, events: list[Event]) -> None:
        """Fold"""
        for event in events:
            if isinstance(event, UsageReported):
                self._usage = event.usage
            elif isinstance(event, TextDelta | ReasoningDelta | ToolCallDelta | ChoiceFinished) and (
                event.choice < self._limit
            ):
                choice = self._choices.get(event.choice)
                if choice is None:
                    choice = self._choices[event.choice] = _Choice()
                choice.add(event)

    def _ended(self) -> list[tuple[int, _Choice]]:
        if not self._choices or any(choice.reason is None for choice in self._choices.values()):
            raise UpstreamFailed("The model's answer ended before it was finished.")
        return sorted(self._choices.items())


class ChatFold(ChoicesFold):
    """A chat answer."""

    def end(self) -> ChatAnswer:
        """Fold"""
        return ChatAnswer(choices=tuple(choice.chat(index) for index, choice in self._ended()), usage=self._usage)


class CompletionsFold(ChoicesFold):
    """Text completions."""

    def end(self) -> CompletionsAnswer:
        """Fold"""
        return CompletionsAnswer(
            choices=tuple(choice.text(index) for index, choice in self._ended()), usage=self._usage
        )


class EmbeddingsFold:
    """Vectors, in input order."""

    def __init__(self) -> None:
        self._vectors: dict[int, bytes] = {}
        self._usage = TokenUsage()

    def feed(self, events: list[Event]) -> None:
        """Fold"""
        for event in events:
            match event:
                case Embedding():
                    self._vectors[event.index] = event.vector
                case UsageReported():
                    self._usage = event.usage
                case _:
                    pass

    def end(self) -> EmbeddingsAnswer:
        """Fold"""
        vectors = self._vectors
        if not vectors or max(vectors) != len(vectors) - 1:
            raise UpstreamFailed("The model's answer lacks a vector.")
        return EmbeddingsAnswer(vectors=tuple(vectors[index] for index in range(len(vectors))), usage=self._usage)


WholeAnswer = ChatAnswer | CompletionsAnswer | EmbeddingsAnswer


def fold_of(request: Request) -> Fold[WholeAnswer]:
    """The fold for the answer to this request."""
    if isinstance(request, ChatRequest):
        return ChatFold(request.choices)
    if isinstance(request, CompletionsRequest):
        return CompletionsFold(request.choices)
    return EmbeddingsFold()


async def folded(batches: AsyncIterator[list[Event]], fold: Fold[Folded]) -> Folded:
    """All of them, folded. Raises UpstreamFailed when a part is missing."""
    async for batch in batches:
        fold.feed(batch)
    return fold.end()


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
