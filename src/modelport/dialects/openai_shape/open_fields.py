"""Fields that nothing here reads, beside those that are read: how they are written out again."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import msgspec
from msgspec import Struct

from modelport.core.content import Message, RefusalPart

_encode = msgspec.json.Encoder().encode


def rest(fields: dict[str, Any], known: Container[str]) -> dict[str, Any]:
    """The fields that are not known."""
    return {name: value for name, value in fields.items() if name not in known}


def encoded_tail(fields: dict[str, Any]) -> bytes:
    """`,"name":value…`: what follows an object's known members."""
    return b"," + _encode(fields)[1:-1] if fields else b""


def wire(value: Struct) -> Any:
    """A part, a tool, a tool call or a format as JSON has it: with its further fields, if it has any."""
    extra = getattr(value, "extra", None)
    if extra is None:
        return value
    fields = msgspec.to_builtins(value)
    fields.pop("extra")
    if isinstance(value, RefusalPart):
        fields = {"type": "refusal", "refusal": value.text}
    return merge(fields, extra)


def wire_message(message: Message) -> Any:
    """The same for a turn, its parts and its calls."""
    if type(message) is Message:
        return message
    fields = {name: value for name in Message.__struct_fields__ if (value := getattr(message, name)) is not None}
    if isinstance(message.content, tuple):
        fields["content"] = [wire(part) for part in message.content]
    if message.tool_calls is not None:
        fields["tool_calls"] = [wire(call) for call in message.tool_calls]
    return merge(fields, getattr(message, "extra", {}))


def merge(known: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    """The known fields and, after them, the further ones. Inner objects are merged; no known value is replaced."""
    for name, value in extra.items():
        if name not in known:
            known[name] = value
        elif isinstance(value, dict) and isinstance(known[name], dict):
            known[name] = merge(known[name], value)
    return known
