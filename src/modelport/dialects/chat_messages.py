"""The messages of a chat request: what their types cannot say, and the slow walk through those that were refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import msgspec

from modelport.core.content import (
    AudioPart,
    AudioUrl,
    AudioUrlPart,
    FunctionCall,
    ImagePart,
    ImageUrl,
    InputAudio,
    Message,
    Part,
    RoleName,
    TextPart,
    ToolCall,
)
from modelport.dialects.bounds import PARTS_LIMIT, TOOL_CALLS_LIMIT
from modelport.dialects.fields import FieldWalk, Place

_ROLES: tuple[str, ...] = get_args(RoleName)


def is_sound(message: Message) -> bool:
    """Whether a message that has the right types also has the fields that its role needs, none of them too long."""
    content = message.content
    if message.tool_calls is not None and not 0 < len(message.tool_calls) <= TOOL_CALLS_LIMIT:
        return False
    if message.role == "assistant":
        return content is None or isinstance(content, str) or len(content) <= PARTS_LIMIT
    if message.role == "tool":
        if message.tool_call_id is None:
            return False
    elif content is None:
        return False
    if content is None or isinstance(content, str):
        return True
    if message.role != "user" and not all(isinstance(part, TextPart) for part in content):
        return False
    return len(content) <= PARTS_LIMIT


def walk_message(walk: FieldWalk, value: Any, place: Place) -> Message | None:
    """One message, or None with its offences noted."""
    fields = walk.mapping(value, place)
    if fields is None:
        return None
    before = len(walk.offences)
    if fields.get("role") is None:
        walk.missing((*place, "role"), fields)
        return None
    role = walk.literal(fields["role"], (*place, "role"), _ROLES)
    content = _content(walk, fields, place, role)
    name = _optional(fields, "name", place, walk.string)
    tool_calls = _tool_calls(walk, fields, place)
    tool_call_id = _optional(fields, "tool_call_id", place, walk.string)
    reasoning = _optional(fields, "reasoning_content", place, walk.string)
    if role == "tool" and fields.get("tool_call_id") is None:
        walk.missing((*place, "tool_call_id"), fields)
    if len(walk.offences) > before:
        return None
    # The walk has checked each part: the conversion cannot fail, it only gives the role its type.
    typed_role = msgspec.convert(role, RoleName)
    return Message(typed_role, content, name, tool_calls, tool_call_id, reasoning)


def _optional(fields: dict[str, Any], name: str, place: Place, read: Callable[[Any, Place], Any]) -> Any:
    value = fields.get(name)
    return None if value is None else read(value, (*place, name))


def _content(walk: FieldWalk, fields: dict[str, Any], place: Place, role: str | None) -> str | tuple[Part, ...] | None:
    value, place_of_content = fields.get("content"), (*place, "content")
    if value is None:
        if role in ("system", "developer", "user"):
            walk.missing(place_of_content, fields)
        return None
    if not isinstance(value, list):
        return walk.string(value, place_of_content)
    items = walk.items(value, place_of_content, 0, PARTS_LIMIT) or []
    parts = [_part(walk, item, (*place_of_content, str(i)), role) for i, item in enumerate(items)]
    return tuple(part for part in parts if part is not None)


def _part(walk: FieldWalk, value: Any, place: Place, role: str | None) -> Part | None:
    fields = walk.mapping(value, place)
    if fields is None:
        return None
    if fields.get("type") is None:
        walk.missing((*place, "type"), fields)
        return None
    allowed: tuple[str, ...] = ("text", "image_url", "input_audio", "audio_url")
    if role == "assistant":
        allowed = (*allowed, "refusal")  # an earlier answer that is sent back
    elif role is not None and role != "user":
        allowed = ("text",)
    kind = walk.literal(fields["type"], (*place, "type"), allowed)
    match kind:
        case "text" | "refusal":
            text = _required(walk, fields, kind, place, walk.string)
            return None if text is None else TextPart(text)
        case "image_url":
            return _image(walk, fields, place)
        case "input_audio":
            return _audio(walk, fields, place)
        case "audio_url":
            audio = _required(walk, fields, "audio_url", place, walk.mapping)
            url = None if audio is None else _required(walk, audio, "url", (*place, "audio_url"), walk.string)
            return None if url is None else AudioUrlPart(AudioUrl(url))
        case _:
            return None


def _image(walk: FieldWalk, fields: dict[str, Any], place: Place) -> ImagePart | None:
    if isinstance(fields.get("image_url"), str):  # a bare address instead of an object
        return ImagePart(ImageUrl(fields["image_url"]))
    image = _required(walk, fields, "image_url", place, walk.mapping)
    if image is None:
        return None
    url = _required(walk, image, "url", (*place, "image_url"), walk.string)
    detail = _optional(image, "detail", (*place, "image_url"), walk.string)
    return None if url is None else ImagePart(ImageUrl(url, detail))


def _audio(walk: FieldWalk, fields: dict[str, Any], place: Place) -> AudioPart | None:
    audio = _required(walk, fields, "input_audio", place, walk.mapping)
    if audio is None:
        return None
    data = _required(walk, audio, "data", (*place, "input_audio"), walk.string)
    format = _required(walk, audio, "format", (*place, "input_audio"), walk.string)
    return None if data is None or format is None else AudioPart(InputAudio(data, format))


def _required(
    walk: FieldWalk, fields: dict[str, Any], name: str, place: Place, read: Callable[[Any, Place], Any]
) -> Any:
    value = fields.get(name)
    if value is None:
        walk.missing((*place, name), fields)
        return None
    return read(value, (*place, name))


def _tool_calls(walk: FieldWalk, fields: dict[str, Any], place: Place) -> tuple[ToolCall, ...] | None:
    place = (*place, "tool_calls")
    if fields.get("tool_calls") is None:
        return None
    items = walk.items(fields["tool_calls"], place, 0, TOOL_CALLS_LIMIT)
    if not items:
        return None
    calls = [_tool_call(walk, item, (*place, str(i))) for i, item in enumerate(items)]
    return tuple(call for call in calls if call is not None)


def _tool_call(walk: FieldWalk, value: Any, place: Place) -> ToolCall | None:
    fields = walk.mapping(value, place)
    if fields is None:
        return None
    id = _required(walk, fields, "id", place, walk.string)
    if fields.get("type") is not None:
        walk.literal(fields["type"], (*place, "type"), ("function",))
    function = _required(walk, fields, "function", place, walk.mapping)
    if function is None:
        return None
    place = (*place, "function")
    name = _required(walk, function, "name", place, walk.string)
    arguments = function.get("arguments")
    if arguments is None:
        arguments = ""
    elif isinstance(arguments, dict):  # some senders forget that it is JSON text
        arguments = msgspec.json.encode(arguments).decode()
    else:
        arguments = walk.string(arguments, (*place, "arguments"))
    if id is None or name is None or arguments is None:
        return None
    return ToolCall(id, FunctionCall(name, arguments))
