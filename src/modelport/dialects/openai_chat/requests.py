"""Request bodies of the OpenAI chat API: fields that have no place of their own go to `.extra` untouched."""

from __future__ import annotations

import msgspec

from modelport.core.errors import InvalidParameters
from modelport.core.requests import ChatRequest, CompletionsRequest, EmbeddingsRequest
from modelport.dialects.body import JSON_DEPTH, read_object
from modelport.dialects.openai_chat.legacy_functions import named_as_sent, speaks_functions, with_tools
from modelport.dialects.openai_shape import request as chat
from modelport.dialects.openai_shape.completions import COMPLETIONS
from modelport.dialects.openai_shape.embeddings import EMBEDDINGS


def decode_chat(body: bytes, json_depth: int = JSON_DEPTH) -> ChatRequest:
    """A chat request. Raises MalformedBody, InvalidParameters."""
    request = chat.OPENAI.read_fast(body, json_depth)
    if request is not None:
        return request
    fields = read_object(body, json_depth)
    try:
        request = chat.OPENAI.read_fields(with_tools(fields), len(body))
    except InvalidParameters as error:
        raise named_as_sent(error, fields) from None
    return msgspec.structs.replace(request, speaks_functions=True) if speaks_functions(fields) else request


def decode_completions(body: bytes, json_depth: int = JSON_DEPTH) -> CompletionsRequest:
    """A text completion. Raises MalformedBody, InvalidParameters."""
    return COMPLETIONS.read(body, json_depth)


def decode_embeddings(body: bytes, json_depth: int = JSON_DEPTH) -> EmbeddingsRequest:
    """Texts to embed. Raises MalformedBody, InvalidParameters."""
    return EMBEDDINGS.read(body, json_depth)
