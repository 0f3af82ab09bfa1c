"""Request bodies of the Azure AI Model Inference API: what its schema does not name goes to `.extra`."""

from __future__ import annotations

from msgspec import Struct

from modelport.core.requests import ChatRequest, CompletionsRequest, EmbeddingsRequest, ImageEmbeddingsRequest


class ScoreRequest(Struct, frozen=True):
    """A call of a managed endpoint's `/score`. `is_listed`: the answer's `output` is a list, as the input was."""

    request: ChatRequest | CompletionsRequest
    is_listed: bool = False


def decode_chat(body: bytes, *, json_depth: int = 64) -> ChatRequest:
    """A chat request. Raises MalformedBody, InvalidParameters."""
    raise NotImplementedError


def decode_completions(body: bytes, *, json_depth: int = 64) -> CompletionsRequest:
    """A text completion. Raises MalformedBody, InvalidParameters."""
    raise NotImplementedError


def decode_embeddings(body: bytes, *, json_depth: int = 64) -> EmbeddingsRequest:
    """Texts to embed. Raises MalformedBody, InvalidParameters."""
    raise NotImplementedError


def decode_image_embeddings(body: bytes, *, json_depth: int = 64) -> ImageEmbeddingsRequest:
    """Pictures to embed. Raises MalformedBody, InvalidParameters."""
    raise NotImplementedError


def decode_score(body: bytes, *, json_depth: int = 64) -> ScoreRequest:
    """A managed endpoint's `/score`: messages are a chat, else text. Raises MalformedBody, InvalidParameters."""
    raise NotImplementedError
