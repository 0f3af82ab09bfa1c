"""Request bodies of the OpenAI chat API: fields that have no place of their own go to `.extra` untouched."""

from __future__ import annotations

import msgspec

from modelport.core.errors import InvalidParameters
from modelport.core.requests import ChatRequest, CompletionsRequest, EmbeddingsRequest
from modelport.dialects.body import JSON_DEPTH, read_object
from modelport.dialects.openai_chat.legacy_functions import (
    may_hold_functions,
    named_as_sent,
    speaks_functions,
    with_tools,
)
from modelport.dialects.openai_shape import bounds, completions, embeddings
from modelport.dialects.openai_shape import request as chat_request
from modelport.dialects.openai_shape.request import ChatCompletionsOptions


class OpenAIChatOptions(ChatCompletionsOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The inference API's fields, and the newer name of `max_tokens`, which wins."""

    max_completion_tokens: bounds.MaxTokens | None = None


_CHAT = msgspec.json.Decoder(OpenAIChatOptions)


def decode_chat(body: bytes, *, json_depth: int = JSON_DEPTH) -> ChatRequest:
    """A chat request. Raises MalformedBody, InvalidParameters."""
    if not may_hold_functions(body):
        request = chat_request.decode_fast(body, _CHAT, json_depth)
        if request is not None:
            return request
    fields = read_object(body, json_depth)
    try:
        request = chat_request.decode_slow(with_tools(fields), OpenAIChatOptions, len(body))
    except InvalidParameters as error:
        raise named_as_sent(error, fields) from None
    return msgspec.structs.replace(request, speaks_functions=True) if speaks_functions(fields) else request


def decode_completions(body: bytes, *, json_depth: int = JSON_DEPTH) -> CompletionsRequest:
    """A text completion. Raises MalformedBody, InvalidParameters."""
    request = completions.decode_fast(body)
    return request or completions.decode_slow(read_object(body, json_depth), len(body))


def decode_embeddings(body: bytes, *, json_depth: int = JSON_DEPTH) -> EmbeddingsRequest:
    """Texts to embed. Raises MalformedBody, InvalidParameters."""
    request = embeddings.decode_texts_fast(body)
    return request or embeddings.decode_texts_slow(read_object(body, json_depth), len(body))
