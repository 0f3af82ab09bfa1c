"""Request bodies of the Azure AI Model Inference API: what its schema does not name goes to `.extra`."""

from __future__ import annotations

from modelport.core.requests import ChatRequest, CompletionsRequest, EmbeddingsRequest, ImageEmbeddingsRequest
from modelport.dialects.azure_inference.score import ScoreRequest, read_score
from modelport.dialects.body import JSON_DEPTH, read_object
from modelport.dialects.openai_shape import request
from modelport.dialects.openai_shape.completions import COMPLETIONS
from modelport.dialects.openai_shape.embeddings import EMBEDDINGS, IMAGE_EMBEDDINGS

__all__ = [
    "ScoreRequest",
    "decode_chat",
    "decode_completions",
    "decode_embeddings",
    "decode_image_embeddings",
    "decode_score",
]


def decode_chat(body: bytes, json_depth: int = JSON_DEPTH) -> ChatRequest:
    """A chat request. Raises MalformedBody, InvalidParameters."""
    return request.INFERENCE.read(body, json_depth)


def decode_completions(body: bytes, json_depth: int = JSON_DEPTH) -> CompletionsRequest:
    """A text completion. Raises MalformedBody, InvalidParameters."""
    return COMPLETIONS.read(body, json_depth)


def decode_embeddings(body: bytes, json_depth: int = JSON_DEPTH) -> EmbeddingsRequest:
    """Texts to embed. Raises MalformedBody, InvalidParameters."""
    return EMBEDDINGS.read(body, json_depth)


def decode_image_embeddings(body: bytes, json_depth: int = JSON_DEPTH) -> ImageEmbeddingsRequest:
    """Pictures to embed. Raises MalformedBody, InvalidParameters."""
    return IMAGE_EMBEDDINGS.read(body, json_depth)


def decode_score(body: bytes, json_depth: int = JSON_DEPTH) -> ScoreRequest:
    """A managed endpoint's `/score`: messages are a chat, else text. Raises MalformedBody, InvalidParameters."""
    return read_score(read_object(body, json_depth), len(body))
