"""Lenient readers of the parameters: take what can be understood as it was meant, and note every offence."""

from __future__ import annotations

from collections.abc import Callable, Collection
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
from modelport.dialects.fields import FieldWalk, Place
from modelport.dialects.openai_shape import bounds

_FORMATS = ("text", "json_object", "json_schema")
_CHOICES: dict[str, ToolChoice] = {"auto": "auto", "none": "none", "required": "required"}


Read = Callable[[FieldWalk, Any, Place, dict[str, Any]], Any]
"""Walk, value, its place, what was read before it → the value as the request has it, its offences noted."""


def string(walk: FieldWalk, value: Any, place: Place, taken: dict[str, Any]) -> str | None:
    """A text."""
    return walk.string(value, place)


def boolean(walk: FieldWalk, value: Any, place: Place, taken: dict[str, Any]) -> bool | None:
    """A truth."""
    return walk.boolean(value, place)


def number(minimum: float, maximum: float) -> Read:
    """A number within bounds."""
    return lambda walk, value, place, taken: walk.number(value, place, minimum, maximum)


def integer(minimum: int, maximum: int) -> Read:
    """A whole number within bounds."""
    return lambda walk, value, place, taken: walk.integer(value, place, minimum, maximum)


def literal(words: Collection[str]) -> Read:
    """One of these words."""
    return lambda walk, value, place, taken: walk.literal(value, place, words)


def stream_options(walk: FieldWalk, value: Any, place: Place, taken: dict[str, Any]) -> StreamOptions:
    """How a stream is written, and what else is said of that."""
    fields = walk.mapping(value, place) or {}
    asked, extra = fields.get("include_usage"), walk.further(fields, ("include_usage",), place)
    include_usage = None if asked is None else walk.boolean(asked, (*place, "include_usage"))
    return OpenStreamOptions(include_usage, extra=extra) if extra else StreamOptions(include_usage)


def stop(walk: FieldWalk, value: Any, place: Place, taken: dict[str, Any]) -> tuple[str, ...]:
    """A text, or a list of such."""
    if isinstance(value, str):
        return (value,) if value else ()
    items = walk.items(value, place, 0, bounds.STOP_LIMIT) or []
    strings = [walk.string(item, (*place, str(i))) for i, item in enumerate(items)]
    return tuple(text for text in strings if text)


def completion_logprobs(walk: FieldWalk, value: Any, place: Place, taken: dict[str, Any]) -> int | None:
    """A count of alternatives; `true` asks for the chosen token alone, as it does in a chat."""
    if isinstance(value, bool):
        return 0 if value else None
    return walk.integer(value, place, 0, bounds.LOGPROBS_LIMIT)


def response_format(walk: FieldWalk, value: Any, place: Place, taken: dict[str, Any]) -> ResponseFormat | None:
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
    kind = walk.literal(word, (*place, "type"), _FORMATS)
    if kind is None:
        return None
    extra = walk.further(fields, ResponseFormat.__struct_fields__, place)
    for name, owner in (("json_schema", "json_schema"), ("schema", "json_object")):
        if kind != owner and fields.get(name) is not None:
            walk.refuse("value_error", (*place, name), f"'{name}' goes with type '{owner}' only", fields[name])
    if kind == "text":
        return OpenResponseFormat("text", extra=extra) if extra else ResponseFormat("text")
    if kind == "json_object":
        given = fields.get("schema")
        beside = None if given is None else walk.mapping(given, (*place, "schema"))
        if extra:
            return OpenResponseFormat("json_object", schema=beside, extra=extra)
        return ResponseFormat("json_object", schema=beside)
    if fields.get("json_schema") is None:
        walk.missing((*place, "json_schema"), fields)
        return None
    schema = _json_schema(walk, fields["json_schema"], (*place, "json_schema"), extra)
    if schema is None:
        return None
    return OpenResponseFormat("json_schema", schema, extra=extra) if extra else ResponseFormat("json_schema", schema)


def _json_schema(walk: FieldWalk, value: Any, place: Place, extra: dict[str, Any]) -> JsonSchemaFormat | None:
    fields = walk.mapping(value, place)
    if fields is None:
        return None
    if further := walk.further(fields, JsonSchemaFormat.__struct_fields__, place):
        extra["json_schema"] = further
    name = _name(walk, fields, place)
    schema = description = strict = None
    if fields.get("schema") is None:
        walk.missing((*place, "schema"), fields)
    else:
        schema = walk.mapping(fields["schema"], (*place, "schema"))
    if fields.get("description") is not None:
        description = walk.string(fields["description"], (*place, "description"))
    if fields.get("strict") is not None:
        strict = walk.boolean(fields["strict"], (*place, "strict"))
    return None if name is None or schema is None else JsonSchemaFormat(name, schema, description, strict)


def _name(walk: FieldWalk, fields: dict[str, Any], place: Place) -> str | None:
    if fields.get("name") is None:
        walk.missing((*place, "name"), fields)
        return None
    return walk.matching(fields["name"], (*place, "name"), bounds.NAME, bounds.NAME_LIMIT)


def tools(walk: FieldWalk, value: Any, place: Place, taken: dict[str, Any]) -> tuple[Tool, ...]:
    """A list of functions."""
    items = walk.items(value, place, 0, bounds.TOOLS_LIMIT) or []
    found = [_tool(walk, item, (*place, str(i))) for i, item in enumerate(items)]
    return tuple(tool for tool in found if tool is not None)


def _tool(walk: FieldWalk, value: Any, place: Place) -> Tool | None:
    fields = walk.mapping(value, place)
    if fields is None:
        return None
    if fields.get("type") is not None:
        walk.literal(fields["type"], (*place, "type"), ("function",))
    if fields.get("function") is None:
        walk.missing((*place, "function"), fields)
        return None
    extra = walk.further(fields, Tool.__struct_fields__, place)
    place = (*place, "function")
    function = walk.mapping(fields["function"], place)
    if function is None:
        return None
    if further := walk.further(function, FunctionDefinition.__struct_fields__, place):
        extra["function"] = further
    name = _name(walk, function, place)
    description = parameters = strict = None
    if function.get("description") is not None:
        description = walk.string(function["description"], (*place, "description"))
    if function.get("parameters") is not None:
        parameters = walk.mapping(function["parameters"], (*place, "parameters"))
    if function.get("strict") is not None:
        strict = walk.boolean(function["strict"], (*place, "strict"))
    if name is None:
        return None
    definition = FunctionDefinition(name, description, parameters, strict)
    return OpenTool(definition, extra=extra) if extra else Tool(definition)


def tool_choice(
    walk: FieldWalk, value: Any, place: Place, taken: dict[str, Any]
) -> ToolChoice | NamedToolChoice | None:
    """A word, an object that names a function, or the bare name of an offered one (LangChain's form)."""
    if not isinstance(value, dict):
        offered = {tool.function.name for tool in taken.get("tools", ())}
        if isinstance(value, str) and value not in _CHOICES and value in offered:
            return NamedToolChoice(value)
        word = walk.literal(value, place, _CHOICES)
        return None if word is None else _CHOICES[word]
    if value.get("type") is not None:
        walk.literal(value["type"], (*place, "type"), ("function",))
    if value.get("function") is None:
        walk.missing((*place, "function"), value)
        return None
    function = walk.mapping(value["function"], (*place, "function"))
    name = None if function is None else _name(walk, function, (*place, "function"))
    return None if name is None else NamedToolChoice(name)


def modalities(walk: FieldWalk, value: Any, place: Place, taken: dict[str, Any]) -> tuple[str, ...] | None:
    """The kinds of output that are wanted."""
    items = walk.items(value, place, 0, bounds.MODALITIES_LIMIT) or []
    words = [walk.literal(item, (*place, str(i)), ("text", "audio")) for i, item in enumerate(items)]
    return tuple(word for word in words if word is not None) or None


def security_context(walk: FieldWalk, value: Any, place: Place, taken: dict[str, Any]) -> dict[str, Any] | None:
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
