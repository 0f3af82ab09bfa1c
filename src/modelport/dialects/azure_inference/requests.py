"""Request bodies of the Azure AI Model Inference API: what its schema does not name goes to `.extra`."""

from __future__ import annotations

import msgspec

from modelport.core.requests import ChatRequest, CompletionsRequest, EmbeddingsRequest, ImageEmbeddingsRequest
from modelport.dialects.azure_inference.score import ScoreRequest, read_score
from modelport.dialects.body import JSON_DEPTH, read_object
from modelport.dialects.openai_shape import completions, embeddings
from modelport.dialects.openai_shape import request as chat_request
from modelport.dialects.openai_shape.request import ChatCompletionsOptions

__all__ = [
    "ScoreRequest",
    "decode_chat",
    "decode_completions",
    "decode_embeddings",
    "decode_image_embeddings",
    "decode_score",
]

_CHAT = msgspec.json.Decoder(ChatCompletionsOptions)


def decode_chat(body: bytes, *, json_depth: int = JSON_DEPTH) -> ChatRequest:
    """A chat request. Raises MalformedBody, InvalidParameters."""
    request = chat_request.decode_fast(body, _CHAT, json_depth)
    return request or chat_request.decode_slow(read_object(body, json_depth), ChatCompletionsOptions, len(body))


def decode_completions(body: bytes, *, json_depth: int = JSON_DEPTH) -> CompletionsRequest:
    """A text completion. Raises MalformedBody, InvalidParameters."""
    request = completions.decode_fast(body)
    return request or completions.decode_slow(read_object(body, json_depth), len(body))


def decode_embeddings(body: bytes, *, json_depth: int = JSON_DEPTH) -> EmbeddingsRequest:
    """Texts to embed. Raises MalformedBody, InvalidParameters."""
    request = embeddings.decode_texts_fast(body)
    return request or embeddings.decode_texts_slow(read_object(body, json_depth), len(body))


def decode_image_embeddings(body: bytes, *, json_depth: int = JSON_DEPTH) -> ImageEmbeddingsRequest:
    """Pictures to embed. Raises MalformedBody, InvalidParameters."""
    request = embeddings.decode_images_fast(body)
    return request or embeddings.decode_images_slow(read_object(body, json_depth), len(body))


def decode_score(body: bytes, *, json_depth: int = JSON_DEPTH) -> ScoreRequest:
    """A managed endpoint's `/score`: messages are a chat, else text. Raises MalformedBody, InvalidParameters."""
    return read_score(read_object(body, json_depth), len(body))
