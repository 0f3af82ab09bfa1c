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
from modelport.dialects.fields import FieldWalk, Place
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


def messages(walk: FieldWalk, value: Any, place: Place, taken: dict[str, Any]) -> tuple[Message, ...]:
    """The turns; those that are refused are left out, their offences noted."""
    items = walk.items(value, place, 1, MESSAGES_LIMIT) or []
    found = [walk_message(walk, item, (*place, str(i))) for i, item in enumerate(items)]
    return tuple(message for message in found if message is not None)


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
    before = len(walk.offences)
    if fields.get("role") is None:
        walk.missing((*place, "role"), fields)
        return None
    role = walk.literal(fields["role"], (*place, "role"), _ROLES)
    content = _content(walk, fields, place, role)
    tool_calls = _tool_calls(walk, fields, place)
    texts = {
        name: _optional(fields, name, place, walk.string)
        for name in ("name", "tool_call_id", "reasoning_content", "refusal")
    }
    if role == "tool" and fields.get("tool_call_id") is None:
        walk.missing((*place, "tool_call_id"), fields)
    extra = walk.further(fields, Message.__struct_fields__, place)
    if len(walk.offences) > before:
        return None
    # The walk has checked each part: the conversion cannot fail, it only gives the role its type.
    typed_role = msgspec.convert(role, RoleName)
    is_open = any(hasattr(part, "extra") for part in (*(content or ()), *(tool_calls or ())))
    if extra or is_open:
        return OpenMessage(typed_role, content, tool_calls=tool_calls, extra=extra, **texts)
    return Message(typed_role, content, tool_calls=tool_calls, **texts)


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
    if kind is None:
        return None
    extra = walk.further(fields, ("type", kind), place)
    match kind:
        case "text" | "refusal":
            text = _required(walk, fields, kind, place, walk.string)
            if text is None:
                return None
            if kind == "refusal":
                return RefusalPart(text, extra)
            return OpenTextPart(text, extra) if extra else TextPart(text)
        case "image_url":
            return _image(walk, fields, place, extra)
        case "input_audio":
            return _audio(walk, fields, place, extra)
        case _:
            return _audio_url(walk, fields, place, extra)


def _inner(
    walk: FieldWalk, fields: dict[str, Any], name: str, known: tuple[str, ...], place: Place, extra: dict[str, Any]
) -> dict[str, Any] | None:
    """A part's own object; what it has further goes to `extra`, under its name."""
    inner: dict[str, Any] | None = _required(walk, fields, name, place, walk.mapping)
    if inner is not None and (further := walk.further(inner, known, (*place, name))):
        extra[name] = further
    return inner


def _image(walk: FieldWalk, fields: dict[str, Any], place: Place, extra: dict[str, Any]) -> ImagePart | None:
    detail = None
    if isinstance(fields.get("image_url"), str):  # a bare address instead of an object
        url = fields["image_url"]
    else:
        image = _inner(walk, fields, "image_url", ("url", "detail"), place, extra)
        if image is None:
            return None
        url = _required(walk, image, "url", (*place, "image_url"), walk.string)
        detail = _optional(image, "detail", (*place, "image_url"), walk.string)
    if url is None:
        return None
    return OpenImagePart(ImageUrl(url, detail), extra) if extra else ImagePart(ImageUrl(url, detail))


def _audio(walk: FieldWalk, fields: dict[str, Any], place: Place, extra: dict[str, Any]) -> AudioPart | None:
    audio = _inner(walk, fields, "input_audio", ("data", "format"), place, extra)
    if audio is None:
        return None
    data = _required(walk, audio, "data", (*place, "input_audio"), walk.string)
    format = _required(walk, audio, "format", (*place, "input_audio"), walk.string)
    if data is None or format is None:
        return None
    return OpenAudioPart(InputAudio(data, format), extra) if extra else AudioPart(InputAudio(data, format))


def _audio_url(walk: FieldWalk, fields: dict[str, Any], place: Place, extra: dict[str, Any]) -> AudioUrlPart | None:
    audio = _inner(walk, fields, "audio_url", ("url",), place, extra)
    url = None if audio is None else _required(walk, audio, "url", (*place, "audio_url"), walk.string)
    if url is None:
        return None
    return OpenAudioUrlPart(AudioUrl(url), extra) if extra else AudioUrlPart(AudioUrl(url))


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
    extra = walk.further(fields, ToolCall.__struct_fields__, place)
    function = _inner(walk, fields, "function", FunctionCall.__struct_fields__, place, extra)
    if function is None:
        return None
    place = (*place, "function")
    name = _required(walk, function, "name", place, walk.string)
    arguments = function.get("arguments")
    if isinstance(arguments, dict):  # some senders forget that it is JSON text
        arguments = msgspec.json.encode(arguments).decode()
    elif arguments is not None:
        arguments = walk.string(arguments, (*place, "arguments"))
        if arguments is None:
            return None
    if id is None or name is None:
        return None
    called = FunctionCall(name, arguments or "{}")
    return OpenToolCall(id, called, extra=extra) if extra else ToolCall(id, called)
