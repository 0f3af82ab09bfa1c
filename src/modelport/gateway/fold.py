"""A whole answer is a short stream, folded: all that is lost is where the cuts were."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from modelport.core.answers import ChatAnswer, ChatChoice, CompletionChoice, CompletionsAnswer, EmbeddingsAnswer
from modelport.core.content import FunctionCall, OpenToolCall, ToolCall
from modelport.core.errors import UpstreamFailed
from modelport.core.events import (
    Annotation,
    Answered,
    ChoiceFinished,
    Embedding,
    Event,
    ExtraFields,
    FinishReason,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    UsageReported,
    Vector,
    merge_fields,
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
        self._extra: dict[str, Any] = {}
        self._annotations: list[Annotation] = []

    def feed(self, events: list[Event]) -> None:
        """Fold"""
        for event in events:
            if isinstance(event, UsageReported):
                self._usage = event.usage
            elif isinstance(event, Annotation) and event.choice is None:
                self._annotations.append(event)
            elif (
                not isinstance(event, Embedding | Answered) and event.choice is not None and event.choice < self._limit
            ):
                choice = self._choices.get(event.choice)
                if choice is None:
                    choice = self._choices[event.choice] = _Choice()
                choice.add(event)
                if isinstance(event, TextDelta | ChoiceFinished) and event.extra is not None:
                    merge_fields(self._extra, event.extra.answer, lists_grow=False)

    def _ended(self) -> list[tuple[int, _Choice]]:
        if not self._choices or any(choice.reason is None for choice in self._choices.values()):
            raise UpstreamFailed("The model's answer ended before it was finished.")
        return sorted(self._choices.items())


class ChatFold(ChoicesFold):
    """A chat answer."""

    def end(self) -> ChatAnswer:
        """Fold"""
        choices = tuple(choice.chat(index) for index, choice in self._ended())
        return ChatAnswer(choices, self._usage, self._extra, tuple(self._annotations))


class CompletionsFold(ChoicesFold):
    """Text completions."""

    def end(self) -> CompletionsAnswer:
        """Fold"""
        choices = tuple(choice.text(index) for index, choice in self._ended())
        return CompletionsAnswer(choices, self._usage, self._extra, tuple(self._annotations))


class EmbeddingsFold:
    """Vectors, in input order."""

    def __init__(self) -> None:
        self._vectors: dict[int, Vector] = {}
        self._usage = TokenUsage()
        self._extra: dict[str, Any] = {}
        self._annotations: list[Annotation] = []

    def feed(self, events: list[Event]) -> None:
        """Fold"""
        for event in events:
            match event:
                case Embedding():
                    self._vectors[event.index] = event.vector
                case UsageReported():
                    self._usage = event.usage
                case Answered():
                    self._extra = event.extra
                case Annotation():
                    self._annotations.append(event)
                case _:
                    pass

    def end(self) -> EmbeddingsAnswer:
        """Fold"""
        vectors = self._vectors
        if not vectors or max(vectors) != len(vectors) - 1:
            raise UpstreamFailed("The model's answer lacks a vector.")
        ordered = tuple(vectors[index] for index in range(len(vectors)))
        return EmbeddingsAnswer(ordered, self._usage, self._extra, tuple(self._annotations))


WholeAnswer = ChatAnswer | CompletionsAnswer | EmbeddingsAnswer


def fold_of(request: Request) -> Fold[WholeAnswer]:
    """The fold for the answer to this request."""
    if isinstance(request, ChatRequest):
        return ChatFold(request.choices)
    if isinstance(request, CompletionsRequest):
        return CompletionsFold(request.choices)
    return EmbeddingsFold()


class _Choice:
    """One choice while it grows."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._refusal: list[str] = []
        self._reasoning: list[str] = []
        self._calls: dict[int, _Call] = {}
        self._logprobs: dict[str, Any] = {}
        self._extra: ExtraFields | None = None
        self.reason: FinishReason | None = None
        self._annotation: Annotation | None = None

    def add(
        self, event: TextDelta | RefusalDelta | ReasoningDelta | ToolCallDelta | ChoiceFinished | Annotation
    ) -> None:
        match event:
            case TextDelta():
                self._text.append(event.text)
                if event.logprobs is not None:
                    merge_fields(self._logprobs, event.logprobs, lists_grow=True)
                self._add_extra(event.extra)
            case RefusalDelta():
                self._refusal.append(event.text)
            case ReasoningDelta():
                self._reasoning.append(event.text)
            case ToolCallDelta():
                self._calls.setdefault(event.index, _Call()).add(event)
            case ChoiceFinished():
                self.reason = event.reason
                self._add_extra(event.extra)
            case Annotation():
                self._annotation = event

    def _add_extra(self, extra: ExtraFields | None) -> None:
        if extra is None:
            return
        if self._extra is None:
            self._extra = ExtraFields()
        merge_fields(self._extra.choice, extra.choice, lists_grow=False)
        merge_fields(self._extra.message, extra.message, lists_grow=True)

    def chat(self, index: int) -> ChatChoice:
        text, refusal = "".join(self._text), "".join(self._refusal) or None
        is_cut = self.reason in (FinishReason.LENGTH, FinishReason.CONTENT_FILTER)
        none = "" if is_cut else "{}"  # cut off, or a call without arguments
        calls = tuple(call.whole(f"call_{index}_{number}", none) for number, call in sorted(self._calls.items()))
        return ChatChoice(
            index=index,
            content=text if text or not (calls or refusal) else None,
            finish_reason=self.reason or FinishReason.STOP,
            reasoning="".join(self._reasoning) or None,
            tool_calls=calls or None,
            logprobs=self._logprobs or None,
            refusal=refusal,
            extra=self._extra,
            annotation=self._annotation,
        )

    def text(self, index: int) -> CompletionChoice:
        return CompletionChoice(
            index=index,
            text="".join(self._text + self._refusal),
            finish_reason=self.reason or FinishReason.STOP,
            logprobs=self._logprobs or None,
            extra=self._extra,
            annotation=self._annotation,
        )


class _Call:
    """One tool call while it grows."""

    def __init__(self) -> None:
        self._id: str | None = None
        self._name = ""
        self._arguments: list[str] = []
        self._extra: dict[str, Any] = {}

    def add(self, event: ToolCallDelta) -> None:
        self._id = self._id or event.id
        self._name = self._name or event.name or ""
        self._arguments.append(event.arguments)
        if event.extra is not None:
            merge_fields(self._extra, event.extra, lists_grow=True)

    def whole(self, fallback_id: str, fallback_arguments: str) -> ToolCall:
        id = self._id or fallback_id
        function = FunctionCall(name=self._name, arguments="".join(self._arguments) or fallback_arguments)
        return OpenToolCall(id, function, extra=self._extra) if self._extra else ToolCall(id, function)
