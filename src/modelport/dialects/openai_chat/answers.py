"""Answers of the OpenAI chat API, whole and as server-sent events."""

from __future__ import annotations

from collections.abc import Sequence

from modelport.core.answers import AnswerHead, ChatAnswer, CompletionsAnswer, EmbeddingsAnswer
from modelport.core.errors import ModelportError
from modelport.core.events import Event
from modelport.core.requests import EncodingFormat
from modelport.core.usage import TokenUsage
from modelport.dialects.reasoning import ReasoningPlace


def new_id() -> str:
    """`chatcmpl-` and 29 alphanumerics."""
    raise NotImplementedError


def new_completions_id() -> str:
    """`cmpl-` and 29 alphanumerics."""
    raise NotImplementedError


class ChatStream:
    """One streamed chat answer; use it once."""

    def __init__(self, head: AnswerHead, *, include_usage: bool = False, reasoning: ReasoningPlace = "field") -> None:
        raise NotImplementedError

    def feed(self, events: Sequence[Event]) -> bytes:
        """The events that these make, perhaps none (b"")."""
        raise NotImplementedError

    def end(self, usage: TokenUsage | None = None) -> bytes:
        """The last finish chunk, the usage if asked for, and `[DONE]`. `usage` counts if the events reported none."""
        raise NotImplementedError

    def broken(self, error: ModelportError) -> bytes:
        """The error chunk; then cut the connection."""
        raise NotImplementedError


class CompletionsStream(ChatStream):
    """One streamed text completion; use it once."""


def whole_chat(head: AnswerHead, answer: ChatAnswer, *, reasoning: ReasoningPlace = "field") -> bytes:
    """A chat answer as one JSON object."""
    raise NotImplementedError


def whole_completions(head: AnswerHead, answer: CompletionsAnswer) -> bytes:
    """A text completion as one JSON object."""
    raise NotImplementedError


def whole_embeddings(head: AnswerHead, answer: EmbeddingsAnswer, encoding_format: EncodingFormat = "float") -> bytes:
    """Vectors as one JSON object."""
    raise NotImplementedError
