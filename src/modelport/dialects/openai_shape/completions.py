"""A text completion's body: one typed decode when it is as its schema says, the slow walk when not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from modelport.core.requests import CompletionsRequest
from modelport.dialects.fields import FieldWalk, Place, split_fields
from modelport.dialects.openai_shape import bounds
from modelport.dialects.openai_shape.options import walk_sampling
from modelport.dialects.openai_shape.request import StreamOptions, stop_strings

_Choices = Annotated[int, Meta(ge=1, le=bounds.CHOICES_LIMIT)]
_TokenIds = tuple[bounds.TokenId, ...]


class CompletionsOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The fields of a text completion. A list is one prompt of token ids, or several prompts."""

    prompt: str | tuple[str | bounds.TokenId | _TokenIds, ...] | None = None
    model: str | None = None
    max_tokens: bounds.MaxTokens | None = None
    temperature: bounds.Temperature | None = None
    top_p: bounds.TopP | None = None
    stop: bounds.Stop | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    frequency_penalty: bounds.Penalty | None = None
    presence_penalty: bounds.Penalty | None = None
    seed: bounds.Seed | None = None
    n: _Choices | None = None
    best_of: _Choices | None = None
    echo: bool | None = None
    suffix: str | None = None
    logprobs: Annotated[int, Meta(ge=0, le=bounds.LOGPROBS_LIMIT)] | None = None


_DECODER = msgspec.json.Decoder(CompletionsOptions)


def decode_fast(body: bytes) -> CompletionsRequest | None:
    """The request, if the body is just as the schema says; None leaves the verdict to `decode_slow`."""
    try:
        options = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return _request(options, {}, len(body))


def decode_slow(fields: dict[str, Any], body_bytes: int) -> CompletionsRequest:
    """The request, from a body that is a JSON object. Raises InvalidParameters."""
    names = CompletionsOptions.__struct_fields__
    given, extra = split_fields(fields, names)
    try:
        request = _request(msgspec.convert(given, CompletionsOptions), extra, body_bytes)
    except msgspec.ValidationError:
        request = None
    return request or _walk(given, extra, body_bytes)


def inputs_of(value: str | Sequence[Any], limit: int) -> tuple[str | tuple[int, ...], ...] | None:
    """A text, a list of token ids, or a list of either, in its one form; None if they are mixed, empty or too many."""
    if isinstance(value, str):
        return (value,)
    if not value:
        return None
    kind = type(value[0])
    if any(type(item) is not kind for item in value):
        return None
    if kind is int:
        return (tuple(value),)
    if len(value) > limit or (kind is tuple and not all(value)):
        return None
    return tuple(value)


def walk_inputs(walk: FieldWalk, value: Any, place: Place, limit: int) -> tuple[str | tuple[int, ...], ...]:
    """The same, slowly: names what is mixed, empty or too many."""
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list):
        walk.refuse("string_type", place, "Input should be a valid string or a list", value)
        return ()
    if value and isinstance(value[0], int | float):
        tokens = _token_ids(walk, value, place)
        return (tokens,)
    items = walk.items(value, place, 1, limit) or []
    kind: type = list if items and isinstance(items[0], list) else str
    inputs: list[str | tuple[int, ...]] = []
    for i, item in enumerate(items):
        place_of_item = (*place, str(i))
        if kind is list:
            ids = walk.items(item, place_of_item, 1, bounds.TOKEN_LIMIT)
            inputs.append(_token_ids(walk, ids or [], place_of_item))
        else:
            inputs.append(walk.string(item, place_of_item) or "")
    return tuple(inputs)


def _token_ids(walk: FieldWalk, values: list[Any], place: Place) -> tuple[int, ...]:
    ids = [walk.integer(value, (*place, str(i)), 0, bounds.TOKEN_LIMIT) for i, value in enumerate(values)]
    return tuple(id for id in ids if id is not None)


def _request(options: CompletionsOptions, extra: dict[str, Any], body_bytes: int) -> CompletionsRequest | None:
    prompt: tuple[str | tuple[int, ...], ...] | None = ("<|endoftext|>",)
    if options.prompt is not None:
        prompt = inputs_of(options.prompt, bounds.PROMPTS_LIMIT)
    if prompt is None:
        return None
    return CompletionsRequest(
        prompt=prompt,
        model=options.model,
        max_tokens=options.max_tokens,
        temperature=options.temperature,
        top_p=options.top_p,
        stop=stop_strings(options.stop),
        stream=options.stream or False,
        include_usage=(options.stream_options is not None and options.stream_options.include_usage) or False,
        frequency_penalty=options.frequency_penalty,
        presence_penalty=options.presence_penalty,
        seed=options.seed,
        n=options.n,
        best_of=options.best_of,
        echo=options.echo or False,
        suffix=options.suffix,
        logprobs=options.logprobs,
        extra=extra,
        body_bytes=body_bytes,
    )


def _walk(given: dict[str, Any], extra: dict[str, Any], body_bytes: int) -> CompletionsRequest:
    walk = FieldWalk()
    options = walk_sampling(walk, given)
    if "prompt" in given:
        options["prompt"] = walk_inputs(walk, given["prompt"], ("body", "prompt"), bounds.PROMPTS_LIMIT)
    for name in ("n", "best_of"):
        if name in given:
            options[name] = walk.integer(given[name], ("body", name), 1, bounds.CHOICES_LIMIT)
    if "echo" in given:
        options["echo"] = walk.boolean(given["echo"], ("body", "echo"))
    if "suffix" in given:
        options["suffix"] = walk.string(given["suffix"], ("body", "suffix"))
    if "logprobs" in given:
        options["logprobs"] = _logprobs(walk, given["logprobs"], ("body", "logprobs"))
    walk.finish()
    return CompletionsRequest(**options, extra=extra, body_bytes=body_bytes)


def _logprobs(walk: FieldWalk, value: Any, place: Place) -> int | None:
    """A count of alternatives; `true` asks for the chosen token alone, as it does in a chat."""
    if isinstance(value, bool):
        return 0 if value else None
    return walk.integer(value, place, 0, bounds.LOGPROBS_LIMIT)
