"""Request bodies of the OpenAI chat API: fields that have no place of their own go to `.extra` untouched."""

from __future__ import annotations

from modelport.core.requests import ChatRequest, CompletionsRequest, EmbeddingsRequest


def decode_chat(body: bytes, *, json_depth: int = 64) -> ChatRequest:
    """A chat request. Raises MalformedBody, InvalidParameters."""
    raise NotImplementedError


def decode_completions(body: bytes, *, json_depth: int = 64) -> CompletionsRequest:
    """A text completion. Raises MalformedBody, InvalidParameters."""
    raise NotImplementedError


def decode_embeddings(body: bytes, *, json_depth: int = 64) -> EmbeddingsRequest:
    """Texts to embed. Raises MalformedBody, InvalidParameters."""
    raise NotImplementedError
