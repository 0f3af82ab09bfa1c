"""The slow walk through all of a chat request but its messages."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from modelport.core.content import (
    FunctionDefinition,
    JsonSchemaFormat,
    OpenResponseFormat,
    OpenTool,
    ResponseFormat,
    Tool,
)
from modelport.core.requests import NamedToolChoice, ToolChoice
from modelport.dialects.fields import FieldWalk, Place
from modelport.dialects.openai_shape import bounds

_FORMATS = ("text", "json_object", "json_schema")
_CHOICES: dict[str, ToolChoice] = {"auto": "auto", "none": "none", "required": "required"}


def walk_options(walk: FieldWalk, given: dict[str, Any]) -> dict[str, Any]:
    """ChatRequest's arguments, by name; `given` holds no nulls."""
    options = walk_sampling(walk, given)
    if "response_format" in given:
        options["response_format"] = _response_format(walk, given["response_format"], ("body", "response_format"))
    if "tools" in given:
        options["tools"] = _tools(walk, given["tools"], ("body", "tools"))
    if "tool_choice" in given:
        offered = frozenset(tool.function.name for tool in options.get("tools", ()))
        options["tool_choice"] = _tool_choice(walk, given["tool_choice"], ("body", "tool_choice"), offered)
    if "modalities" in given:
        options["modalities"] = _modalities(walk, given["modalities"], ("body", "modalities"))
    if "user_security_context" in given:
        place = ("body", "user_security_context")
        options["user_security_context"] = _security_context(walk, given["user_security_context"], place)
    return options


def walk_sampling(walk: FieldWalk, given: dict[str, Any]) -> dict[str, Any]:
    """What chats and text completions have in common."""
    options: dict[str, Any] = {}
    if "model" in given:
        options["model"] = walk.string(given["model"], ("body", "model"))
    numbers = {
        "frequency_penalty": (-bounds.PENALTY_MAXIMUM, bounds.PENALTY_MAXIMUM),
        "presence_penalty": (-bounds.PENALTY_MAXIMUM, bounds.PENALTY_MAXIMUM),
        "temperature": (0.0, bounds.TEMPERATURE_MAXIMUM),
        "top_p": (0.0, 1.0),
    }
    for name, (minimum, maximum) in numbers.items():
        if name in given:
            options[name] = walk.number(given[name], ("body", name), minimum, maximum)
    for name in ("max_tokens", "max_completion_tokens"):
        if name in given:
            options["max_tokens"] = walk.integer(given[name], ("body", name), 0, bounds.TOKEN_LIMIT)
    if "seed" in given:
        options["seed"] = walk.integer(given["seed"], ("body", "seed"), bounds.SEED_MINIMUM, bounds.SEED_MAXIMUM)
    if "stream" in given:
        options["stream"] = walk.boolean(given["stream"], ("body", "stream"))
    if "stream_options" in given:
        place = ("body", "stream_options")
        stream_options = walk.mapping(given["stream_options"], place) or {}
        options["include_usage"] = _include_usage(walk, stream_options, place)
        options["stream_extra"] = walk.further(stream_options, ("include_usage",), place)
    if "stop" in given:
        options["stop"] = _stop(walk, given["stop"], ("body", "stop"))
    return options


def _include_usage(walk: FieldWalk, fields: dict[str, Any], place: Place) -> bool:
    asked = fields.get("include_usage")
    return False if asked is None else walk.boolean(asked, (*place, "include_usage")) or False


def _stop(walk: FieldWalk, value: Any, place: Place) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,) if value else ()
    items = walk.items(value, place, 0, bounds.STOP_LIMIT) or []
    strings = [walk.string(item, (*place, str(i))) for i, item in enumerate(items)]
    return tuple(text for text in strings if text)


def _response_format(walk: FieldWalk, value: Any, place: Place) -> ResponseFormat | None:
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


def _tools(walk: FieldWalk, value: Any, place: Place) -> tuple[Tool, ...]:
    items = walk.items(value, place, 0, bounds.TOOLS_LIMIT) or []
    tools = [_tool(walk, item, (*place, str(i))) for i, item in enumerate(items)]
    return tuple(tool for tool in tools if tool is not None)


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


def _tool_choice(walk: FieldWalk, value: Any, place: Place, offered: Set[str]) -> ToolChoice | NamedToolChoice | None:
    """A word, an object that names a function, or the bare name of an offered one (LangChain's form)."""
    if not isinstance(value, dict):
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


def _modalities(walk: FieldWalk, value: Any, place: Place) -> tuple[str, ...] | None:
    items = walk.items(value, place, 0, bounds.MODALITIES_LIMIT) or []
    words = [walk.literal(item, (*place, str(i)), ("text", "audio")) for i, item in enumerate(items)]
    return tuple(word for word in words if word is not None) or None


def _security_context(walk: FieldWalk, value: Any, place: Place) -> dict[str, Any] | None:
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
