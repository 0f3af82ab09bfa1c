"""Lenient readers of the parameters: take what can be understood as it was meant, and note every offence."""

from __future__ import annotations

from typing import Any

from modelport.core.content import (
    FunctionDefinition,
    JsonSchemaFormat,
    OpenResponseFormat,
    OpenTool,
    ResponseFormat,
    Tool,
)
from modelport.core.requests import NamedToolChoice, OpenStreamOptions, StreamOptions, ToolChoice
from modelport.dialects.fields import FieldWalk, Place, Shape, literal, many
from modelport.dialects.openai_shape import bounds


def _name(walk: FieldWalk, value: Any, place: Place) -> str | None:
    return walk.matching(value, place, bounds.NAME, bounds.NAME_LIMIT)


_DESCRIBED = {"name": _name, "description": FieldWalk.string, "strict": FieldWalk.boolean}
_JSON_SCHEMA = Shape(JsonSchemaFormat, {**_DESCRIBED, "schema": FieldWalk.mapping}, ("name", "schema"))
_FUNCTION = Shape(FunctionDefinition, {**_DESCRIBED, "parameters": FieldWalk.mapping}, ("name",))
_TOOL = Shape(Tool, {"type": literal("function"), "function": _FUNCTION}, ("function",), OpenTool)
_FORMAT = Shape(
    ResponseFormat,
    {
        "type": literal("text", "json_object", "json_schema"),
        "json_schema": _JSON_SCHEMA,
        "schema": FieldWalk.mapping,
    },
    open_kind=OpenResponseFormat,
)
_CHOICES: dict[str, ToolChoice] = {"auto": "auto", "none": "none", "required": "required"}


def stream_options(walk: FieldWalk, value: Any, place: Place) -> StreamOptions:
    """How a stream is written, and what else is said of that."""
    fields = walk.mapping(value, place) or {}
    asked, extra = fields.get("include_usage"), walk.further(fields, ("include_usage",), place)
    include_usage = None if asked is None else walk.boolean(asked, (*place, "include_usage"))
    return OpenStreamOptions(include_usage, extra=extra) if extra else StreamOptions(include_usage)


def stop(walk: FieldWalk, value: Any, place: Place) -> tuple[str, ...]:
    """A text, or a list of such."""
    if isinstance(value, str):
        return (value,) if value else ()
    items = walk.items(value, place, 0, bounds.STOP_LIMIT) or []
    strings = [walk.string(item, (*place, str(i))) for i, item in enumerate(items)]
    return tuple(text for text in strings if text)


def completion_logprobs(walk: FieldWalk, value: Any, place: Place) -> int | None:
    """A count of alternatives; `true` asks for the chosen token alone, as it does in a chat."""
    if isinstance(value, bool):
        return 0 if value else None
    return walk.integer(value, place, 0, bounds.LOGPROBS_LIMIT)


def response_format(walk: FieldWalk, value: Any, place: Place) -> ResponseFormat | None:
    """Five shapes are in use: the three of the specification, the bare word, and the word wrapped twice."""
    if isinstance(value, str):
        value = {"type": value}
    fields = walk.mapping(value, place)
    if fields is None:
        return None
    word = fields.get("type")
    if isinstance(word, dict):
        word = word.get("type")
    if word is None:
        walk.missing((*place, "type"), fields)
        return None
    for name, owner in (("json_schema", "json_schema"), ("schema", "json_object")):
        if word != owner and fields.get(name) is not None:
            walk.refuse("value_error", (*place, name), f"'{name}' goes with type '{owner}' only", fields[name])
    if word == "json_schema" and fields.get("json_schema") is None:
        walk.missing((*place, "json_schema"), fields)
    format: ResponseFormat | None = _FORMAT.read(walk, {**fields, "type": word}, place)
    return format


def tools(walk: FieldWalk, value: Any, place: Place) -> tuple[Tool, ...]:
    """A list of functions."""
    found: tuple[Tool, ...] = many(_TOOL.read, 0, bounds.TOOLS_LIMIT)(walk, value, place)
    walk.offered = frozenset(tool.function.name for tool in found)
    return found


def tool_choice(walk: FieldWalk, value: Any, place: Place) -> ToolChoice | NamedToolChoice | None:
    """A word, an object that names a function, or the bare name of an offered one (LangChain's form)."""
    if not isinstance(value, dict):
        if isinstance(value, str) and value not in _CHOICES and value in walk.offered:
            return NamedToolChoice(value)
        word = walk.literal(value, place, _CHOICES)
        return None if word is None else _CHOICES[word]
    if value.get("type") is not None:
        walk.literal(value["type"], (*place, "type"), ("function",))
    if value.get("function") is None:
        walk.missing((*place, "function"), value)
        return None
    function = walk.mapping(value["function"], (*place, "function"))
    if function is None or function.get("name") is None:
        if function is not None:
            walk.missing((*place, "function", "name"), function)
        return None
    name = _name(walk, function["name"], (*place, "function", "name"))
    return None if name is None else NamedToolChoice(name)


def modalities(walk: FieldWalk, value: Any, place: Place) -> tuple[str, ...] | None:
    """The kinds of output that are wanted."""
    return many(literal("text", "audio"), 0, bounds.MODALITIES_LIMIT)(walk, value, place) or None


def security_context(walk: FieldWalk, value: Any, place: Place) -> dict[str, Any] | None:
    """Who the end user is; what is not known is kept."""
    fields = walk.mapping(value, place)
    if fields is None:
        return None
    for name, (shortest, longest) in bounds.SECURITY_CONTEXT.items():
        given = fields.get(name)
        text = None if given is None else walk.string(given, (*place, name))
        if text is None:
            continue
        if len(text) > longest:
            walk.refuse("string_too_long", (*place, name), f"String should have at most {longest} characters", given)
        if len(text) < shortest:
            walk.refuse("string_too_short", (*place, name), f"String should have at least {shortest} characters", given)
    return fields
