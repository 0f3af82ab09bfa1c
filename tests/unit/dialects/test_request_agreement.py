"""The typed decode and the walk through the fields never differ: whatever the fast one takes, the slow one reads alike;
and no body at all makes either do anything but answer or refuse."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.core.errors import BadRequest, InvalidParameters
from modelport.dialects.azure_inference import requests as azure_inference
from modelport.dialects.fields import split_fields
from modelport.dialects.openai_chat import requests as openai_chat
from modelport.dialects.openai_shape import completions as completions_request
from modelport.dialects.openai_shape import embeddings as embeddings_request
from modelport.dialects.openai_shape import request as chat_request
from modelport.dialects.openai_shape.request import ChatCompletionsOptions

words = st.text(max_size=4)
names = st.sampled_from(["f", "get_it", "F-9"] * 9 + ["a b", ""])
numbers = st.one_of(st.integers(-3, 3), st.floats(-3, 3), st.sampled_from(["0.1", "1", "x", "true"]))
small = st.one_of(st.integers(0, 1), st.integers(0, 1), st.integers(0, 1), numbers)
anything = st.one_of(st.none(), st.booleans(), numbers, words, st.lists(numbers, max_size=2), st.just({"a": [1]}))


def maybe(usual: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly what belongs there, sometimes what does not."""
    return st.sampled_from([usual] * 60 + [st.none(), anything]).flatmap(lambda chosen: chosen)


def fields(**known: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {}, optional={name: maybe(value) for name, value in known.items()} | {"more": anything}
    )


parts = st.one_of(
    fields(type=st.just("text"), text=words),
    fields(type=st.just("image_url"), image_url=fields(url=words, detail=words)),
    fields(type=st.just("input_audio"), input_audio=fields(data=words, format=words)),
    fields(type=st.just("audio_url"), audio_url=fields(url=words)),
)
calls = fields(id=words, type=st.just("function"), function=fields(name=names, arguments=words))
texts = st.one_of(words, st.lists(parts, max_size=2))
more = {"name": words, "reasoning_content": words}
messages = st.one_of(
    st.fixed_dictionaries({"role": maybe(st.just("user")), "content": maybe(texts)}, optional=more),
    st.fixed_dictionaries({"role": st.sampled_from(["system", "developer"]), "content": maybe(words)}, optional=more),
    st.fixed_dictionaries(
        {"role": st.just("assistant")},
        optional={"content": maybe(texts), "tool_calls": maybe(st.lists(calls, max_size=2))} | more,
    ),
    st.fixed_dictionaries({"role": st.just("tool"), "tool_call_id": maybe(words)}, optional={"content": texts}),
)
schemas = fields(name=names, schema=st.just({"type": "object"}), description=words, strict=st.booleans())
formats = st.one_of(
    fields(type=st.sampled_from(["text", "json_object"])),
    fields(type=st.just("json_schema"), json_schema=schemas),
    st.sampled_from(["text", {"type": {"type": "text"}}]),
)
functions = fields(name=names, description=words, parameters=st.just({}), strict=st.booleans())
sampling = {
    "model": maybe(words),
    "frequency_penalty": maybe(small),
    "presence_penalty": maybe(small),
    "temperature": maybe(small),
    "top_p": maybe(small),
    "max_tokens": maybe(small),
    "seed": maybe(small),
    "stream": maybe(st.booleans()),
    "stream_options": maybe(fields(include_usage=st.booleans())),
    "stop": maybe(st.one_of(words, st.lists(words, max_size=3))),
}
chats = st.fixed_dictionaries(
    {"messages": maybe(st.lists(messages, min_size=1, max_size=3))},
    optional=sampling
    | {
        "max_completion_tokens": maybe(small),
        "response_format": maybe(formats),
        "tools": maybe(st.lists(fields(type=st.just("function"), function=functions), max_size=2)),
        "tool_choice": maybe(
            st.one_of(
                st.sampled_from(["auto", "none", "required"]),
                fields(type=st.just("function"), function=fields(name=names)),
            )
        ),
        "modalities": maybe(st.lists(st.sampled_from(["text", "audio"]), max_size=2)),
        "user_security_context": maybe(fields(application_name=words, source_ip=words)),
        "n": anything,
    },
)
inputs = st.one_of(
    words,
    st.lists(words, max_size=3),
    st.lists(st.integers(-1, 9), max_size=3),
    st.lists(st.lists(st.integers(0, 9), max_size=2), max_size=2),
    st.lists(anything, max_size=2),
)
completions = st.fixed_dictionaries(
    {},
    optional=sampling
    | {
        "prompt": inputs,
        "n": maybe(small),
        "best_of": maybe(small),
        "echo": maybe(st.booleans()),
        "suffix": maybe(words),
        "logprobs": maybe(small),
        "user": anything,
    },
)
embeddings = st.fixed_dictionaries(
    {"input": inputs},
    optional={
        "model": maybe(words),
        "dimensions": maybe(small),
        "encoding_format": maybe(st.sampled_from(["float", "base64", "int8"])),
        "input_type": maybe(st.sampled_from(["text", "query"])),
        "user": anything,
    },
)
pictures = st.fixed_dictionaries(
    {"input": maybe(st.lists(fields(image=words, text=words), max_size=3))}, optional={"dimensions": maybe(small)}
)
CHAT = msgspec.json.Decoder(ChatCompletionsOptions)


def without_conversion(value: dict[str, Any], size: int) -> Any:
    """The walk alone, as if the typed conversion had refused too."""
    given, extra = split_fields(value, ChatCompletionsOptions.__struct_fields__)
    return chat_request._walk(given, extra, size)


@given(chats)
def test_chats(value: dict[str, Any]) -> None:
    body = json.dumps(value).encode()
    fast = chat_request.decode_fast(body, CHAT, 64)
    try:
        walked = without_conversion(json.loads(body), len(body))
    except InvalidParameters:
        walked = None
    try:
        slow = chat_request.decode_slow(json.loads(body), ChatCompletionsOptions, len(body))
    except InvalidParameters as refusal:
        slow = None
        assert refusal.offences
    assert slow == walked
    assert fast is None or fast == slow


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"temperature": 1, "stop": ["x"], "stream": True, "stream_options": {"include_usage": True}, "seed": 1},
        {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "auto", "model": None},
        {"tool_choice": {"type": "function", "function": {"name": "f"}}, "response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}, "strict": True}}},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "t"}]}]},
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f"}}]}]},
    ],
)
def test_what_clients_usually_send_is_taken_fast(value: dict[str, Any]) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "hi"}], **value}).encode()
    assert chat_request.decode_fast(body, CHAT, 64) is not None


@given(completions)
def test_completions(value: dict[str, Any]) -> None:
    body = json.dumps(value).encode()
    fast = completions_request.decode_fast(body)
    try:
        slow = completions_request.decode_slow(json.loads(body), len(body))
        given = {name: item for name, item in value.items() if name != "user" and item is not None}
        assert completions_request._walk(given, slow.extra, len(body)) == slow
    except InvalidParameters as refusal:
        slow = None
        assert refusal.offences
    assert fast is None or fast == slow


@given(embeddings)
def test_embeddings(value: dict[str, Any]) -> None:
    body = json.dumps(value).encode()
    fast = embeddings_request.decode_texts_fast(body)
    try:
        slow = embeddings_request.decode_texts_slow(json.loads(body), len(body))
    except InvalidParameters as refusal:
        slow = None
        assert refusal.offences
    assert fast is None or fast == slow


@given(pictures)
def test_pictures(value: dict[str, Any]) -> None:
    body = json.dumps(value).encode()
    fast = embeddings_request.decode_images_fast(body)
    try:
        slow = embeddings_request.decode_images_slow(json.loads(body), len(body))
    except InvalidParameters as refusal:
        slow = None
        assert refusal.offences
    assert fast is None or fast == slow


DECODERS = (
    azure_inference.decode_chat,
    azure_inference.decode_completions,
    azure_inference.decode_embeddings,
    azure_inference.decode_image_embeddings,
    azure_inference.decode_score,
    openai_chat.decode_chat,
)
trees = st.recursive(
    anything, lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(words, inner, max_size=2))
)
odd_keys = st.sampled_from(
    ["messages", "input", "prompt", "input_data", "params", "functions", "function_call", "tools", "stop"]
)


@given(st.one_of(chats, completions, embeddings, pictures, st.dictionaries(odd_keys, trees, max_size=4)))
def test_any_body_is_read_or_refused(value: dict[str, Any]) -> None:
    body = json.dumps(value).encode()
    for decode in DECODERS:
        try:
            decode(body)
        except (BadRequest, InvalidParameters) as refusal:
            assert refusal.status in (400, 422)
