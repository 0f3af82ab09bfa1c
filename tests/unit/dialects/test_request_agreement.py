"""The typed decode and the walk through the fields never differ: whatever the fast one takes, the slow one reads alike;
and no body at all makes either do anything but answer or refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.core.errors import BadRequest, InvalidParameters, MalformedBody
from modelport.dialects.azure_inference import requests as azure_inference
from modelport.dialects.openai_chat import requests as openai_chat
from modelport.dialects.openai_shape import request as chat
from modelport.dialects.openai_shape.completions import COMPLETIONS
from modelport.dialects.openai_shape.embeddings import EMBEDDINGS, IMAGE_EMBEDDINGS
from modelport.dialects.openai_shape.extras import split_fields

from .refusals import body_of

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
        "user": anything,
        "logit_bias": st.one_of(anything, st.dictionaries(words, numbers, max_size=2)),
        "stop_token_ids": anything,
        "logprobs": anything,
        "functions": st.one_of(st.none(), st.none(), anything),
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
SCHEMAS = {
    "chat": (chat.INFERENCE, chats),
    "OpenAI's chat": (chat.OPENAI, chats),
    "completions": (COMPLETIONS, completions),
    "embeddings": (EMBEDDINGS, embeddings),
    "images": (IMAGE_EMBEDDINGS, pictures),
}


def given_by(read: Callable[[], Any]) -> Any:
    """The request, or None where it is refused."""
    try:
        return read()
    except InvalidParameters as refusal:
        assert refusal.offences
        return None


@pytest.mark.parametrize("operation", SCHEMAS)
@given(data=st.data())
def test_all_three_ways_of_reading_agree(operation: str, data: st.DataObject) -> None:
    schema, bodies = SCHEMAS[operation]
    value = data.draw(bodies)
    body = json.dumps(value).encode()
    fast = schema.read_fast(body, 64)
    slow = given_by(lambda: schema.read_fields(json.loads(body), len(body)))
    names = [row.name for row in schema.rows]
    walked = given_by(lambda: schema.walk(*split_fields(json.loads(body), names), len(body)))
    assert slow == walked
    assert fast is None or fast == slow
    if fast is not None:
        assert list(fast.extra) == list(slow.extra)
        assert given_by(lambda: schema.read(body, 64)) == fast


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
        {"user": "u", "n": 2, "logit_bias": {"7": "-1"}, "metadata": {"a": [1]}, "top_k": None},
    ],
)
def test_what_clients_usually_send_is_taken_fast(value: dict[str, Any]) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "hi"}], **value}).encode()
    assert chat.OPENAI.read_fast(body, 64) is not None
    assert chat.INFERENCE.read_fast(body, 64) is not None


@pytest.mark.parametrize(
    "more",
    [
        '"User":"u"',
        '"functions":[{"name":"f"}]',
        '"function_call":null',
        '"user":"\\ud800"',
        '"user":1,"temperature":"1"',
        '"user":1,"temperature":3',
    ],
)
def test_what_is_not_certain_is_not_taken_fast(more: str) -> None:
    body = b'{"messages":[{"role":"user","content":"hi"}],' + more.encode() + b"}"
    assert chat.OPENAI.read_fast(body, 64) is None


def test_of_two_fields_with_one_name_the_last_counts() -> None:
    body = b'{"user":"a","messages":[{"role":"user","content":"hi"}],"user":null,"top_k":1,"top_k":2}'
    fast = chat.OPENAI.read_fast(body, 64)
    assert fast is not None
    assert fast.extra == {"top_k": 2}


@pytest.mark.parametrize("name", ["metadata", "tools", "response_format"])
def test_free_json_is_bounded_in_depth(name: str) -> None:
    deep: Any = []
    for _ in range(70):
        deep = [deep]
    fields = {
        "metadata": deep,
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"a": deep}}}],
        "response_format": {"type": "json_object", "schema": {"a": deep}},
    }
    body = body_of({"messages": [{"role": "user", "content": "hi"}], name: fields[name]})
    with pytest.raises(MalformedBody):
        chat.OPENAI.read(body, 64)
    assert chat.OPENAI.read_fast(body, 80) is not None


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
