"""Tokens of a model that has no vocabulary: pieces of words, the same for the same text, everywhere."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from modelport.core.content import ImagePart
from modelport.core.requests import ChatRequest, CompletionsRequest, EmbeddingsRequest, Request

_PIECE: Final = re.compile(r"\s*(?:[^\W\d_]{1,8}|\d{1,3}|[^\w\s]|_)|\s+")
TOKENS_OF_A_TURN: Final = 3
TOKENS_OF_A_PICTURE: Final = 64


def tokens(text: str) -> list[str]:
    """The pieces; joined they are the text again."""
    return _PIECE.findall(text)


def prompt_tokens(request: Request) -> int:
    """What was asked, in tokens; at least one."""
    match request:
        case ChatRequest():
            count = sum(map(_of_message, request.messages)) + (_of_value(request.tools) if request.tools else 0)
        case CompletionsRequest():
            count = sum(map(_of_item, request.prompt))
        case EmbeddingsRequest():
            count = sum(map(_of_item, request.input))
        case _:
            count = sum(TOKENS_OF_A_PICTURE + len(tokens(item.text or "")) for item in request.input)
    return max(1, count)


def _of_message(message: Any) -> int:
    pictures = sum(isinstance(part, ImagePart) for part in message.content) if isinstance(message.content, tuple) else 0
    calls = _of_value(message.tool_calls) if message.tool_calls else 0
    return TOKENS_OF_A_TURN + len(tokens(message.text())) + calls + pictures * TOKENS_OF_A_PICTURE


def _of_item(item: str | tuple[int, ...]) -> int:
    return len(tokens(item)) if isinstance(item, str) else len(item)


def _of_value(value: Any) -> int:
    return len(tokens(msgspec.json.encode(value).decode()))
