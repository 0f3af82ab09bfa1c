"""A chat request's body: one typed decode when it is as its schema says, the slow walk when not."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from modelport.core.content import Message, ResponseFormat, Tool
from modelport.core.requests import ChatRequest, NamedToolChoice, ToolChoice
from modelport.dialects.body import check_depth
from modelport.dialects.fields import FieldWalk, Place, split_fields
from modelport.dialects.openai_shape import bounds
from modelport.dialects.openai_shape.messages import is_sound, walk_message
from modelport.dialects.openai_shape.options import walk_options


class StreamOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """How a stream is written."""

    include_usage: bool | None = None


class NamedFunction(Struct, frozen=True):
    """The function inside a named `tool_choice`."""

    name: str


class NamedFunctionChoice(Struct, frozen=True):
    """`tool_choice` as an object."""

    function: NamedFunction
    type: Literal["function"] = "function"


class ChatCompletionsOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The fields of the inference API's chat request, and `stream_options`, which its clients send all the same."""

    messages: Annotated[tuple[Message, ...], Meta(min_length=1, max_length=bounds.MESSAGES_LIMIT)]
    model: str | None = None
    frequency_penalty: bounds.Penalty | None = None
    presence_penalty: bounds.Penalty | None = None
    temperature: bounds.Temperature | None = None
    top_p: bounds.TopP | None = None
    max_tokens: bounds.MaxTokens | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    stop: bounds.Stop | None = None
    seed: bounds.Seed | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[tuple[Tool, ...], Meta(max_length=bounds.TOOLS_LIMIT)] | None = None
    tool_choice: ToolChoice | NamedFunctionChoice | None = None
    modalities: Annotated[tuple[Literal["text", "audio"], ...], Meta(max_length=bounds.MODALITIES_LIMIT)] | None = None
    user_security_context: dict[str, Any] | None = None


def decode_fast(body: bytes, decoder: msgspec.json.Decoder[Any], json_depth: int) -> ChatRequest | None:
    """The request, if the body is just as the schema says; None leaves the verdict to `decode_slow`."""
    try:
        options = decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not _is_consistent(options):
        return None
    if options.tools or options.response_format is not None:  # they may hold schemas, free in form
        check_depth(body, json_depth)
    return _request(options, {}, len(body))


def decode_slow(fields: dict[str, Any], schema: type[ChatCompletionsOptions], body_bytes: int) -> ChatRequest:
    """The request, from a body that is a JSON object. Raises InvalidParameters."""
    names = schema.__struct_fields__
    given, extra = split_fields(fields, names)
    try:
        options = msgspec.convert(given, schema)
    except msgspec.ValidationError:
        return _walk(given, extra, body_bytes)
    return _request(options, extra, body_bytes) if _is_consistent(options) else _walk(given, extra, body_bytes)


def _is_consistent(options: ChatCompletionsOptions) -> bool:
    """What types cannot say. A rare field is left to the walk altogether."""
    if not all(map(is_sound, options.messages)) or options.user_security_context is not None:
        return False
    if options.tools and not all(bounds.is_name(tool.function.name) for tool in options.tools):
        return False
    choice, format = options.tool_choice, options.response_format
    if isinstance(choice, NamedFunctionChoice) and not bounds.is_name(choice.function.name):
        return False
    if format is None:
        return True
    if format.schema is not None and format.type != "json_object":
        return False
    if format.json_schema is None:
        return format.type != "json_schema"
    return format.type == "json_schema" and bounds.is_name(format.json_schema.name)


def _request(options: ChatCompletionsOptions, extra: dict[str, Any], body_bytes: int) -> ChatRequest:
    choice, stop = options.tool_choice, options.stop
    max_completion_tokens = getattr(options, "max_completion_tokens", None)
    return ChatRequest(
        messages=options.messages,
        model=options.model,
        frequency_penalty=options.frequency_penalty,
        presence_penalty=options.presence_penalty,
        temperature=options.temperature,
        top_p=options.top_p,
        max_tokens=options.max_tokens if max_completion_tokens is None else max_completion_tokens,
        stream=options.stream or False,
        include_usage=(options.stream_options is not None and options.stream_options.include_usage) or False,
        stop=stop_strings(stop),
        seed=options.seed,
        response_format=options.response_format,
        tools=options.tools or (),
        tool_choice=NamedToolChoice(choice.function.name) if isinstance(choice, NamedFunctionChoice) else choice,
        modalities=options.modalities or None,
        extra=extra,
        body_bytes=body_bytes,
    )


def stop_strings(stop: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """`stop` in its one form; an empty string stops nothing."""
    if not stop:
        return ()
    return (stop,) if isinstance(stop, str) else tuple(text for text in stop if text)


def _walk(given: dict[str, Any], extra: dict[str, Any], body_bytes: int) -> ChatRequest:
    walk = FieldWalk()
    messages = _messages(walk, given)
    options = walk_options(walk, given)
    walk.finish()
    return ChatRequest(messages=messages, **options, extra=extra, body_bytes=body_bytes)


def _messages(walk: FieldWalk, given: dict[str, Any]) -> tuple[Message, ...]:
    place: Place = ("body", "messages")
    if "messages" not in given:
        walk.missing(place, given)
        return ()
    items = walk.items(given["messages"], place, 1, bounds.MESSAGES_LIMIT) or []
    messages = [walk_message(walk, item, (*place, str(i))) for i, item in enumerate(items)]
    return tuple(message for message in messages if message is not None)
