"""What OpenAI's chat route takes besides: its own names, its older functions, and whatever else is sent."""

from __future__ import annotations

from modelport.core.content import FunctionCall, FunctionDefinition, Message, Tool, ToolCall
from modelport.core.requests import NamedToolChoice
from modelport.dialects.azure_openai import requests as azure_openai
from modelport.dialects.openai_chat.requests import decode_chat, decode_completions, decode_embeddings

from .refusals import USER, body_of, chat_body, offences


def test_azure_openai_reads_the_same() -> None:
    assert azure_openai.decode_chat is decode_chat
    assert azure_openai.decode_completions is decode_completions
    assert azure_openai.decode_embeddings is decode_embeddings


def test_max_completion_tokens_is_max_tokens_and_wins() -> None:
    assert decode_chat(chat_body(max_completion_tokens=5)).max_tokens == 5
    assert decode_chat(chat_body(max_completion_tokens=5, max_tokens=9)).max_tokens == 5
    assert decode_chat(chat_body(max_completion_tokens="5", max_tokens=9)).max_tokens == 5
    assert offences(decode_chat, chat_body(max_completion_tokens=-5)) == [
        ("greater_than_equal", "body.max_completion_tokens", -5)
    ]


def test_all_other_fields_are_kept_untouched() -> None:
    sent = {"n": 2, "logprobs": True, "logit_bias": {"5": -100}, "user": "u", "reasoning_effort": "low", "x": [1]}
    assert decode_chat(chat_body(**sent)).extra == sent


def test_functions_are_tools() -> None:
    request = decode_chat(chat_body(functions=[{"name": "f", "parameters": {}}], function_call={"name": "f"}))
    assert request.tools == (Tool(FunctionDefinition("f", parameters={})),)
    assert request.tool_choice == NamedToolChoice("f")
    assert request.extra == {}
    assert decode_chat(chat_body(functions=[{"name": "f"}], function_call="none")).tool_choice == "none"
    assert decode_chat(chat_body(functions=[{"name": "f"}], function_call="f")).tool_choice == NamedToolChoice("f")


def test_a_call_and_its_result_in_the_older_form_belong_together() -> None:
    messages = [
        USER,
        {"role": "assistant", "content": "", "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "1"},
    ]
    assert decode_chat(body_of({"messages": messages})).messages[1:] == (
        Message("assistant", "", tool_calls=(ToolCall("call_1", FunctionCall("f", "{}")),)),
        Message("tool", "1", name="f", tool_call_id="call_1"),
    )


def test_what_is_wrong_in_the_older_form_is_still_named() -> None:
    assert offences(decode_chat, body_of({"messages": [5], "functions": [{}], "function_call": "any"})) == [
        ("dict_type", "body.messages.0", 5),
        ("missing", "body.functions.0.name", {}),
        ("literal_error", "body.function_call", "any"),
    ]
    assert offences(decode_chat, chat_body(functions="f")) == [("list_type", "body.functions", "f")]
    assert offences(decode_chat, chat_body(function_call={"name": 5})) == [
        ("string_type", "body.function_call.name", 5)
    ]


def test_who_asks_with_functions_is_known_as_such() -> None:
    old, new = [{"name": "f"}], [{"type": "function", "function": {"name": "g"}}]
    assert decode_chat(chat_body(functions=old)).speaks_functions
    assert not decode_chat(chat_body(functions=[])).speaks_functions
    assert not decode_chat(chat_body(tools=new)).speaks_functions
    both = decode_chat(chat_body(functions=old, tools=new, function_call="auto"))
    assert not both.speaks_functions
    assert both.tools[0].function.name == "g"
    assert both.extra == {"functions": old}  # said, and not in a way that we could carry out: the target sees it
