"""Answers of the Azure AI Model Inference API, whole and as server-sent events."""

from __future__ import annotations

from collections.abc import Sequence

from modelport.core.answers import AnswerHead, ChatAnswer, CompletionsAnswer, EmbeddingsAnswer
from modelport.core.catalog import Deployment
from modelport.core.errors import ModelportError
from modelport.core.events import Event
from modelport.core.requests import EncodingFormat
from modelport.core.usage import TokenUsage
from modelport.dialects.azure_inference.errors import Form
from modelport.dialects.azure_inference.score import whole_score
from modelport.dialects.reasoning import ReasoningPlace

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


def new_id() -> str:
    """32 hexadecimal digits."""
    raise NotImplementedError


class ChatStream:
    """One streamed chat answer; use it once."""

    def __init__(
        self,
        head: AnswerHead,
        *,
        include_usage: bool = False,
        reasoning: ReasoningPlace = "inline",
        form: Form = "models",
    ) -> None:
        raise NotImplementedError

    def feed(self, events: Sequence[Event]) -> bytes:
        """The events that these make, perhaps none (b"")."""
        raise NotImplementedError

    def end(self, usage: TokenUsage | None = None) -> bytes:
        """The last finish chunk with the usage, and `[DONE]`. `usage` counts if the events reported none."""
        raise NotImplementedError

    def broken(self, error: ModelportError) -> bytes:
        """The error chunk; then cut the connection."""
        raise NotImplementedError


class CompletionsStream(ChatStream):
    """One streamed text completion; use it once."""


def whole_chat(head: AnswerHead, answer: ChatAnswer, *, reasoning: ReasoningPlace = "inline") -> bytes:
    """A chat answer as one JSON object."""
    raise NotImplementedError


def whole_completions(head: AnswerHead, answer: CompletionsAnswer) -> bytes:
    """A text completion as one JSON object."""
    raise NotImplementedError


def whole_embeddings(head: AnswerHead, answer: EmbeddingsAnswer, encoding_format: EncodingFormat = "float") -> bytes:
    """Vectors (of texts or images) as one JSON object."""
    raise NotImplementedError


def info(deployment: Deployment) -> bytes:
    """`GET /info`."""
    raise NotImplementedError
