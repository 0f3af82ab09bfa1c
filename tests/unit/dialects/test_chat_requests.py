"""What the inference API's chat route takes, coerces, keeps as extra, and refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from modelport.core.content import (
    AudioPart,
    AudioUrl,
    AudioUrlPart,
    FunctionCall,
    FunctionDefinition,
    ImagePart,
    ImageUrl,
    InputAudio,
    JsonSchemaFormat,
    Message,
    OpenMessage,
    OpenTextPart,
    RefusalPart,
    ResponseFormat,
    TextPart,
    Tool,
    ToolCall,
)
from modelport.core.errors import InvalidParameters, MalformedBody
from modelport.core.requests import ChatRequest, NamedToolChoice, OpenStreamOptions
from modelport.dialects.azure_inference.requests import decode_chat
from modelport.dialects.openai_chat.requests import decode_chat as decode_openai_chat

from .refusals import USER, body_of, chat_body, offences

MESSAGE = Message("user", "hi")


@pytest.mark.parametrize("escaped", [r"a\ud83d", r"\uDE00b", r"\ud83d\ud83d\ude00", r"\\ \ud83dx"])
def test_half_a_character_is_refused_and_named(escaped: str) -> None:
    with pytest.raises(MalformedBody, match="half of a surrogate pair"):
        decode_chat(b'{"messages":[{"role":"user","content":"%b"}]}' % escaped.encode())


def test_a_whole_character_and_the_name_of_a_half_are_read() -> None:
    [message] = decode_chat(rb'{"messages":[{"role":"user","content":"\uD83D\ude00 \\ud83d"}]}').messages
    assert message.content == "\U0001f600 \\ud83d"


@pytest.mark.parametrize("content", [b'a\x01b"', b'\xff"', b'\xed\xa0\xbd"', b'\\ud8"', b"\\ud83d"])
def test_what_is_no_json_stays_refused(content: bytes) -> None:
    with pytest.raises(MalformedBody):
        decode_chat(b'{"messages":[{"role":"user","content":"%b}]}' % content)


def test_a_plain_request_is_read_as_it_stands() -> None:
    body = chat_body(model="m", temperature=0, top_p=1, max_tokens=2048, stream=True, seed=-5, frequency_penalty=-2)
    assert decode_chat(body) == ChatRequest(
        messages=(MESSAGE,),
        model="m",
        temperature=0.0,
        top_p=1.0,
        max_tokens=2048,
        stream=True,
        seed=-5,
        frequency_penalty=-2.0,
        body_bytes=len(body),
    )


def test_null_is_the_same_as_nothing() -> None:
    names = (*ChatRequest.__struct_fields__, "stream_options", "logit_bias", "n")
    body = chat_body(**{name: None for name in names if name not in ("messages", "extra", "body_bytes")})
    assert decode_chat(body) == ChatRequest(messages=(MESSAGE,), body_bytes=len(body))


def test_numbers_and_truths_may_come_as_text() -> None:
    request = decode_chat(
        chat_body(
            presence_penalty="0.1", frequency_penalty="-.8", max_tokens="12", seed="7", stream="true", top_p="1e-1"
        )
    )
    assert (request.presence_penalty, request.frequency_penalty, request.max_tokens) == (0.1, -0.8, 12)
    assert (request.seed, request.stream, request.top_p) == (7, True, 0.1)


@pytest.mark.parametrize("value", ["yes", "on", "True", " true", "1", 1, 0, 1.0, "", []])
def test_a_truth_is_true_or_false_and_nothing_else(value: Any) -> None:
    [(type, place, given)] = offences(decode_chat, chat_body(stream=value))
    assert (type, place, given) == ("bool_type", "body.stream", value)


def test_what_is_a_number_in_an_extra_is_sent_on_as_one() -> None:
    sent = {"n": "2", "top_logprobs": 3.0, "logprobs": "true", "logit_bias": {"7": "-1.5"}, "best_of": 1e2}
    request = decode_openai_chat(chat_body(**sent, stop_token_ids=["5", 6.0], ignore_eos="false", other="4"))
    assert request.extra == {
        "n": 2,
        "top_logprobs": 3,
        "logprobs": True,
        "logit_bias": {"7": -1.5},
        "best_of": 100,
        "stop_token_ids": [5, 6],
        "ignore_eos": False,
        "other": "4",
    }
    assert request.choices == 2


@pytest.mark.parametrize("decode", [decode_chat, decode_openai_chat])
@pytest.mark.parametrize(
    "name", ["Model", "MAX_TOKENS", "Stream", "N", "\u017ftream", "toolS", "Max_Completion_Tokens"]
)
def test_a_name_in_another_case_is_refused(decode: Callable[[bytes], ChatRequest], name: str) -> None:
    [(type, place, _)] = offences(decode, chat_body(**{name: 1}))
    assert (type, place) == ("extra_forbidden", f"body.{name}")


@pytest.mark.parametrize(
    ("message", "place"),
    [
        ({"role": "user", "content": "x", "Content": "y"}, "0.Content"),
        ({"role": "user", "content": [{"type": "text", "text": "x", "Text": "y"}]}, "0.content.0.Text"),
        (
            {
                "role": "assistant",
                "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}", "Arguments": "1"}}],
            },
            "0.tool_calls.0.function.Arguments",
        ),
    ],
)
def test_a_nested_name_in_another_case_is_refused(message: Any, place: str) -> None:
    [(type, where, _)] = offences(decode_chat, body_of({"messages": [message]}))
    assert (type, where) == ("extra_forbidden", f"body.messages.{place}")


def test_of_a_repeated_field_the_last_counts() -> None:
    body = b'{"model":"a","max_tokens":1,"messages":[{"role":"user","content":"x","content":"hi"}],"max_tokens":2}'
    request = decode_chat(body)
    assert (request.max_tokens, request.messages) == (2, (MESSAGE,))


def test_whole_numbers_may_come_as_floats() -> None:
    assert decode_chat(chat_body(max_tokens=12.0)).max_tokens == 12


@pytest.mark.parametrize(
    ("sent", "read"),
    [("x", ("x",)), (["x", "y"], ("x", "y")), ([], ()), ("", ()), (["", "x"], ("x",)), (["<|endoftext|>"],) * 2],
)
def test_stop_has_many_shapes(sent: Any, read: Any) -> None:
    assert decode_chat(chat_body(stop=sent)).stop == tuple(read)


SCHEMA = {"name": "a-Z_9", "schema": {"type": "object"}, "strict": True, "description": "d"}


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ({"type": "text"}, ResponseFormat("text")),
        ({"type": "json_object"}, ResponseFormat("json_object")),
        ("json_object", ResponseFormat("json_object")),
        ("text", ResponseFormat("text")),
        ({"type": {"type": "text"}}, ResponseFormat("text")),
        (
            {"type": "json_schema", "json_schema": SCHEMA},
            ResponseFormat("json_schema", JsonSchemaFormat("a-Z_9", {"type": "object"}, "d", True)),
        ),
        (
            {"type": "json_schema", "json_schema": {"name": "n", "schema": {}, "strict": None}},
            ResponseFormat("json_schema", JsonSchemaFormat("n", {})),
        ),
    ],
)
def test_response_format_has_five_shapes(sent: Any, read: ResponseFormat) -> None:
    assert decode_chat(chat_body(response_format=sent)).response_format == read


@pytest.mark.parametrize(
    ("sent", "type", "place"),
    [
        ("xml", "literal_error", "type"),
        ({"type": "xml"}, "literal_error", "type"),
        ({}, "missing", "type"),
        ({"type": "json_schema"}, "missing", "json_schema"),
        ({"type": "json_schema", "json_schema": {"schema": {}}}, "missing", "json_schema.name"),
        ({"type": "json_schema", "json_schema": {"name": "n"}}, "missing", "json_schema.schema"),
        ({"type": "json_schema", "json_schema": {**SCHEMA, "name": "n" * 65}}, "string_too_long", "json_schema.name"),
        (
            {"type": "json_schema", "json_schema": {**SCHEMA, "name": "a b"}},
            "string_pattern_mismatch",
            "json_schema.name",
        ),
        ({"type": "json_schema", "json_schema": {**SCHEMA, "schema": []}}, "dict_type", "json_schema.schema"),
    ],
)
def test_any_other_response_format_is_refused(sent: Any, type: str, place: str) -> None:
    [(found, where, _)] = offences(decode_chat, chat_body(response_format=sent))
    assert (found, where) == (type, f"body.response_format.{place}")


def test_every_kind_of_part_is_read() -> None:
    parts = [
        {"type": "text", "text": "t", "cache_control": {"type": "ephemeral"}},
        {"type": "image_url", "image_url": {"url": "https://a/b.png", "detail": "low"}},
        {"type": "image_url", "image_url": "data:image/png;base64,AA=="},
        {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
        {"type": "audio_url", "audio_url": {"url": "https://a/b.wav"}},
    ]
    [message] = decode_chat(body_of({"messages": [{"role": "user", "content": parts}]})).messages
    assert message.content == (
        OpenTextPart("t", {"cache_control": {"type": "ephemeral"}}),
        ImagePart(ImageUrl("https://a/b.png", "low")),
        ImagePart(ImageUrl("data:image/png;base64,AA==")),
        AudioPart(InputAudio("AA==", "wav")),
        AudioUrlPart(AudioUrl("https://a/b.wav")),
    )


def test_a_conversation_with_tools_is_read() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    messages = [
        {"role": "developer", "content": "d"},
        {"role": "user", "content": [{"type": "text", "text": "u"}], "name": None},
        {"role": "assistant", "tool_calls": [call], "refusal": None},
        {"role": "tool", "tool_call_id": "c1", "content": None, "name": None},
    ]
    assert decode_chat(body_of({"messages": messages})).messages == (
        Message("developer", "d"),
        Message("user", (TextPart("u"),)),
        Message("assistant", None, tool_calls=(ToolCall("c1", FunctionCall("f", '{"a":1}')),)),
        Message("tool", None, tool_call_id="c1"),
    )


def test_arguments_as_an_object_become_text_again() -> None:
    call = {"id": "c1", "function": {"name": "f", "arguments": {"é": [1]}}}
    [message] = decode_chat(body_of({"messages": [{"role": "assistant", "tool_calls": [call]}]})).messages
    assert message.tool_calls == (ToolCall("c1", FunctionCall("f", '{"é":[1]}')),)


def test_no_tool_calls_are_none() -> None:
    [message] = decode_chat(body_of({"messages": [{"role": "assistant", "content": "", "tool_calls": []}]})).messages
    assert message.tool_calls is None


def test_a_refusal_that_is_sent_back_is_kept_and_reads_as_text() -> None:
    content = [{"type": "refusal", "refusal": "no"}]
    [message] = decode_chat(body_of({"messages": [{"role": "assistant", "content": content}]})).messages
    assert message.content == (RefusalPart("no", {}),)
    [other] = decode_chat(body_of({"messages": [{"role": "assistant", "refusal": "no"}]})).messages
    assert (message.text(), other.text()) == ("no", "no")


@pytest.mark.parametrize("arguments", [{}, {"arguments": None}, {"arguments": ""}, {"arguments": {}}])
def test_a_call_without_arguments_has_an_empty_object(arguments: Any) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", **arguments}}
    [message] = decode_chat(body_of({"messages": [{"role": "assistant", "tool_calls": [call]}]})).messages
    assert message.tool_calls is not None and message.tool_calls[0].function.arguments == "{}"


def test_tools_and_their_choice_are_read() -> None:
    tools = [
        {"type": "function", "function": {"name": "f", "description": None}},
        {"type": "function", "function": {"name": "g", "parameters": {"type": "object"}, "strict": True}},
    ]
    request = decode_chat(chat_body(tools=tools, tool_choice={"function": {"name": "f"}, "type": "function"}))
    assert request.tools == (
        Tool(FunctionDefinition("f")),
        Tool(FunctionDefinition("g", parameters={"type": "object"}, strict=True)),
    )
    assert request.tool_choice == NamedToolChoice("f")
    assert decode_chat(chat_body(tools=[], tool_choice="required")).tools == ()


@pytest.mark.parametrize("kept", [{}, {"stop": "x", "temperature": "1"}])  # the second goes the lenient way
@pytest.mark.parametrize("decode", [decode_chat, decode_openai_chat])
def test_a_schema_beside_json_object_is_kept(decode: Callable[[bytes], ChatRequest], kept: dict[str, Any]) -> None:
    schema = {"type": "object", "required": ["a"]}
    asked = {"type": "json_object", "schema": schema}
    request = decode(chat_body(response_format=asked, **kept))
    assert request.response_format == ResponseFormat("json_object", schema=schema)
    assert msgspec.to_builtins(request.response_format) == asked
    for wrong in (
        {"type": "text", "schema": schema},
        {"type": "json_object", "json_schema": {"name": "a", "schema": {}}},
    ):
        with pytest.raises(InvalidParameters) as caught:
            decode(chat_body(response_format=wrong, **kept))
        assert caught.value.target in ("response_format.schema", "response_format.json_schema")


@pytest.mark.parametrize("decode", [decode_chat, decode_openai_chat])
def test_the_bare_name_of_an_offered_tool_chooses_it(decode: Callable[[bytes], ChatRequest]) -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in ("look_up", "auto")]
    assert decode(chat_body(tools=tools, tool_choice="look_up")).tool_choice == NamedToolChoice("look_up")
    assert decode(chat_body(tools=tools, tool_choice="auto")).tool_choice == "auto"  # the word wins
    for fields in ({"tools": tools, "tool_choice": "lookup"}, {"tool_choice": "look_up"}):
        with pytest.raises(InvalidParameters) as caught:
            decode(chat_body(**fields))
        assert caught.value.target == "tool_choice"


def test_unknown_fields_are_extra_in_the_order_sent_after_those_that_are_often_sent() -> None:
    request = decode_chat(chat_body(zeta=1, n=2, model="m", name="x", alpha={"deep": [None]}, max_completion_tokens=3))
    assert list(request.extra.items()) == [
        ("n", 2),
        ("zeta", 1),
        ("name", "x"),
        ("alpha", {"deep": [None]}),
        ("max_completion_tokens", 3),
    ]
    assert request.max_tokens is None


def test_extra_survives_beside_a_value_that_needs_coercion() -> None:
    request = decode_chat(chat_body(temperature="0.5", safe_mode=True))
    assert (request.temperature, request.extra) == (0.5, {"safe_mode": True})


def test_stream_options_are_known_and_their_further_keys_kept() -> None:
    request = decode_chat(chat_body(stream_options={"include_usage": True, "continuous_usage_stats": True}))
    assert (request.include_usage, request.extra) == (True, {})
    assert request.stream_options == OpenStreamOptions(True, extra={"continuous_usage_stats": True})


def test_unknown_nested_keys_are_kept_unless_null() -> None:
    message = {"role": "user", "content": "hi", "mood": "good", "function_call": None}
    assert decode_chat(body_of({"messages": [message]})).messages == (
        OpenMessage("user", "hi", extra={"mood": "good"}),
    )


def test_the_security_context_is_kept_and_checked() -> None:
    context = {"application_name": "a", "source_ip": "::1", "more": 1}
    assert decode_chat(chat_body(user_security_context=context)).user_security_context == context
    wrong = {"application_name": "a" * 101, "end_user_id": "short", "source_ip": 4}
    found = offences(decode_chat, chat_body(user_security_context=wrong))
    assert [(type, place.rpartition(".")[2]) for type, place, _ in found] == [
        ("string_too_long", "application_name"),
        ("string_too_short", "end_user_id"),
        ("string_type", "source_ip"),
    ]


@pytest.mark.parametrize(
    ("fields", "offence"),
    [
        ({"temperature": 3}, ("less_than_equal", "body.temperature", 3)),
        ({"temperature": "3"}, ("less_than_equal", "body.temperature", "3")),
        ({"temperature": -0.1}, ("greater_than_equal", "body.temperature", -0.1)),
        ({"temperature": "warm"}, ("float_parsing", "body.temperature", "warm")),
        ({"temperature": "nan"}, ("float_parsing", "body.temperature", "nan")),
        ({"temperature": True}, ("float_type", "body.temperature", True)),
        ({"temperature": 10**400}, ("less_than_equal", "body.temperature", 10**400)),
        ({"top_p": 1.1}, ("less_than_equal", "body.top_p", 1.1)),
        ({"presence_penalty": 2.1}, ("less_than_equal", "body.presence_penalty", 2.1)),
        ({"frequency_penalty": -3}, ("greater_than_equal", "body.frequency_penalty", -3)),
        ({"max_tokens": -1}, ("greater_than_equal", "body.max_tokens", -1)),
        ({"max_tokens": 1.5}, ("int_from_float", "body.max_tokens", 1.5)),
        ({"max_tokens": "1.5"}, ("int_parsing", "body.max_tokens", "1.5")),
        ({"max_tokens": []}, ("int_type", "body.max_tokens", [])),
        ({"seed": 2**63}, ("less_than_equal", "body.seed", 2**63)),
        ({"stream": "perhaps"}, ("bool_type", "body.stream", "perhaps")),
        ({"stop": ["a"] * 17}, ("too_long", "body.stop", ["a"] * 17)),
        ({"stop": 5}, ("list_type", "body.stop", 5)),
        ({"stop": ["a", 5]}, ("string_type", "body.stop.1", 5)),
        ({"model": 5}, ("string_type", "body.model", 5)),
        ({"stream_options": "all"}, ("dict_type", "body.stream_options", "all")),
        ({"modalities": ["text", "smell"]}, ("literal_error", "body.modalities.1", "smell")),
        ({"tools": [{"type": "function"}]}, ("missing", "body.tools.0.function", {"type": "function"})),
        ({"tools": [{"function": {"name": "a b"}}]}, ("string_pattern_mismatch", "body.tools.0.function.name", "a b")),
        ({"tools": [{"function": {"name": ""}}]}, ("string_pattern_mismatch", "body.tools.0.function.name", "")),
        ({"tools": [{"type": "web", "function": {"name": "a"}}]}, ("literal_error", "body.tools.0.type", "web")),
        ({"tool_choice": "any"}, ("literal_error", "body.tool_choice", "any")),
        ({"tool_choice": {"type": "function"}}, ("missing", "body.tool_choice.function", {"type": "function"})),
        ({"messages": []}, ("too_short", "body.messages", [])),
        ({"messages": "hi"}, ("list_type", "body.messages", "hi")),
        ({"messages": [{"role": "robot", "content": ""}]}, ("literal_error", "body.messages.0.role", "robot")),
        ({"messages": [{"role": "function", "content": ""}]}, ("literal_error", "body.messages.0.role", "function")),
        ({"messages": [{"content": ""}]}, ("missing", "body.messages.0.role", {"content": ""})),
        ({"messages": [{"role": "user"}]}, ("missing", "body.messages.0.content", {"role": "user"})),
        ({"messages": [{"role": "user", "content": 5}]}, ("string_type", "body.messages.0.content", 5)),
        ({"messages": ["hi"]}, ("dict_type", "body.messages.0", "hi")),
        (
            {"messages": [{"role": "system", "content": [{"type": "image_url", "image_url": "x"}]}]},
            ("literal_error", "body.messages.0.content.0.type", "image_url"),
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            ("missing", "body.messages.0.content.0.image_url.url", {}),
        ),
        (
            {"messages": [{"role": "tool", "content": "x"}]},
            ("missing", "body.messages.0.tool_call_id", {"role": "tool", "content": "x"}),
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}]},
            ("missing", "body.messages.0.tool_calls.0.id", {"function": {"name": "f"}}),
        ),
    ],
)
def test_what_cannot_be_is_named_with_its_place_and_value(fields: Any, offence: tuple[str, str, Any]) -> None:
    assert offences(decode_chat, chat_body(**fields)) == [offence]


def test_every_offending_field_is_named_at_once() -> None:
    body = body_of({"messages": [{"role": "robot"}, USER, {"role": "user"}], "temperature": 3, "seed": "x", "n": 1})
    assert [place for _, place, _ in offences(decode_chat, body)] == [
        "body.messages.0.role",
        "body.messages.2.content",
        "body.temperature",
        "body.seed",
    ]


def test_missing_messages_are_invalid_input() -> None:
    with pytest.raises(InvalidParameters) as refusal:
        decode_chat(b'{"model":"m"}')
    assert refusal.value.code == "Invalid input"
    assert [(o.type, o.loc, o.input) for o in refusal.value.offences] == [
        ("missing", ("body", "messages"), {"model": "m"})
    ]


def test_lists_are_bounded() -> None:
    tool = {"function": {"name": "f"}}
    call = {"id": "c", "function": {"name": "f"}}
    part = {"type": "text", "text": ""}
    found = offences(
        decode_chat,
        body_of(
            {
                "messages": [
                    {"role": "assistant", "tool_calls": [call] * 129},
                    {"role": "user", "content": [part] * 1025},
                ],
                "tools": [tool] * 129,
            }
        ),
    )
    assert [(type, place) for type, place, _ in found] == [
        ("too_long", "body.messages.0.tool_calls"),
        ("too_long", "body.messages.1.content"),
        ("too_long", "body.tools"),
    ]
    assert [place for _, place, _ in offences(decode_chat, body_of({"messages": [USER] * 4097}))] == ["body.messages"]


def test_a_flood_of_offences_is_cut() -> None:
    assert len(offences(decode_chat, body_of({"messages": [{}] * 4000}))) == 100


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b'{"messages":', b"\xff", b"[" * 100_000])
def test_what_is_no_object_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedBody):
        decode_chat(body)


def test_the_depth_is_a_parameter() -> None:
    body = chat_body(extra_thing=[[[[1]]]])
    assert decode_chat(body, json_depth=5).extra == {"extra_thing": [[[[1]]]]}
    with pytest.raises(MalformedBody, match="more than 4 levels"):
        decode_chat(body, json_depth=4)


def test_a_deep_schema_of_a_tool_is_refused() -> None:
    schema = b'{"a":' * 70 + b"{}" + b"}" * 70
    tool = b'{"type":"function","function":{"name":"f","parameters":' + schema + b"}}"
    with pytest.raises(MalformedBody, match="more than 64 levels"):
        decode_chat(b'{"messages":[{"role":"user","content":"hi"}],"tools":[' + tool + b"]}")


@pytest.mark.parametrize("depth", [100, 10_000, 1_000_000])
def test_what_is_passed_on_is_no_deeper_than_the_rest(depth: int) -> None:
    junk = b"[" * depth + b"]" * depth
    with pytest.raises(MalformedBody):
        decode_chat(b'{"messages":[{"role":"user","content":"hi","junk":' + junk + b"}]}")
