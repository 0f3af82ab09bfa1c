"""The messages of a chat request: what their types cannot say, and the slow walk through those that were refused."""

from __future__ import annotations

from functools import partial
from typing import Any, Final, get_args

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
    OpenAudioPart,
    OpenAudioUrlPart,
    OpenImagePart,
    OpenMessage,
    OpenTextPart,
    OpenToolCall,
    Part,
    RefusalPart,
    RoleName,
    TextPart,
    ToolCall,
)
from modelport.dialects.fields import FieldWalk, Place, Read, Shape, literal, many
from modelport.dialects.openai_shape.bounds import MESSAGES_LIMIT, PARTS_LIMIT, TOOL_CALLS_LIMIT

_ROLES: tuple[str, ...] = get_args(RoleName)


def is_sound(message: Message) -> bool:
    """Whether a message that has the right types also has the fields that its role needs, none of them too long."""
    content, calls = message.content, message.tool_calls
    if calls is not None:
        if not 0 < len(calls) <= TOOL_CALLS_LIMIT:
            return False
        if not all(call.function.arguments for call in calls):
            return False  # an upstream parses them: the walk makes an empty object of it
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
    try:
        message = msgspec.convert(fields, Message)
        if is_sound(message):
            return message
    except msgspec.ValidationError:
        pass
    role = fields.get("role")
    if role is None:
        walk.missing((*place, "role"), fields)
        return None
    shape = Shape(
        Message,
        {
            "role": literal(*_ROLES),
            "content": partial(_content, role=role),
            "tool_calls": _tool_calls,
            **dict.fromkeys(("name", "tool_call_id", "reasoning_content", "refusal"), FieldWalk.string),
        },
        ("tool_call_id",) if role == "tool" else ("content",) if role in ("system", "developer", "user") else (),
    )
    found = shape.parts(walk, fields, place)
    if found is None:
        return None
    known, extra = found
    held = [item for name in ("content", "tool_calls") if isinstance(known.get(name), tuple) for item in known[name]]
    if extra or any(hasattr(item, "extra") for item in held):
        return OpenMessage(**known, extra=extra)
    return Message(**known)


messages: Final = many(walk_message, 1, MESSAGES_LIMIT)


def _content(walk: FieldWalk, value: Any, place: Place, role: Any) -> str | tuple[Part, ...] | None:
    if not isinstance(value, list):
        return walk.string(value, place)
    return many(partial(_part, role=role), 0, PARTS_LIMIT)(walk, value, place)


def _part(walk: FieldWalk, value: Any, place: Place, role: Any) -> Part | None:
    fields = walk.mapping(value, place)
    if fields is None:
        return None
    if fields.get("type") is None:
        walk.missing((*place, "type"), fields)
        return None
    allowed: tuple[str, ...] = ("text", "image_url", "input_audio", "audio_url")
    if role == "assistant":
        allowed = (*allowed, "refusal")  # an earlier answer that is sent back
    elif role in _ROLES and role != "user":
        allowed = ("text",)
    kind = walk.literal(fields["type"], (*place, "type"), allowed)
    if kind is None:
        return None
    if kind == "image_url" and isinstance(fields.get(kind), str):  # a bare address instead of an object
        fields = {**fields, kind: {"url": fields[kind]}}
    if kind != "refusal":
        part: Part | None = _PARTS[kind].read(walk, fields, place)
        return part
    extra = walk.further(fields, ("type", kind), place)
    if fields.get(kind) is None:
        walk.missing((*place, kind), fields)
        return None
    text = walk.string(fields[kind], (*place, kind))
    return None if text is None else RefusalPart(text, extra)


def _kept(walk: FieldWalk, value: Any, place: Place) -> Any:
    return value


def _arguments(walk: FieldWalk, value: Any, place: Place) -> str | None:
    if isinstance(value, dict):  # some senders forget that it is JSON text
        return msgspec.json.encode(value).decode()
    text = walk.string(value, place)
    return "{}" if text == "" else text


def _tool_calls(walk: FieldWalk, value: Any, place: Place) -> tuple[ToolCall, ...] | None:
    return many(_TOOL_CALL.read, 0, TOOL_CALLS_LIMIT)(walk, value, place) or None


_URL: Final = {"url": FieldWalk.string}
_IMAGE_URL: Final = Shape(ImageUrl, {**_URL, "detail": FieldWalk.string}, ("url",))
_SOUND: Final = Shape(InputAudio, {"data": FieldWalk.string, "format": FieldWalk.string}, ("data", "format"))
_AUDIO_URL: Final = Shape(AudioUrl, _URL, ("url",))


def _shape(kind: str, of: type[Part], inner: Read | Shape, open_kind: type[Part]) -> Shape:
    return Shape(of, {"type": _kept, kind: inner}, (kind,), open_kind)


_PARTS: Final = {
    "text": _shape("text", TextPart, FieldWalk.string, OpenTextPart),
    "image_url": _shape("image_url", ImagePart, _IMAGE_URL, OpenImagePart),
    "input_audio": _shape("input_audio", AudioPart, _SOUND, OpenAudioPart),
    "audio_url": _shape("audio_url", AudioUrlPart, _AUDIO_URL, OpenAudioUrlPart),
}
_CALL: Final = Shape(FunctionCall, {"name": FieldWalk.string, "arguments": _arguments}, ("name",))
_TOOL_CALL: Final = Shape(
    ToolCall,
    {"id": FieldWalk.string, "type": literal("function"), "function": _CALL},
    ("id", "function"),
    OpenToolCall,
)
