"""Chat completions, whole: fields, parameters, formats and tools."""

from __future__ import annotations

import json
import re
from typing import Any

import openai
import pytest
from azure.ai.inference import ChatCompletionsClient
from azure.ai.inference.models import (
    AssistantMessage,
    ChatCompletionsNamedToolChoice,
    ChatCompletionsNamedToolChoiceFunction,
    ChatCompletionsToolCall,
    ChatCompletionsToolDefinition,
    ChatRequestMessage,
    CompletionsFinishReason,
    DeveloperMessage,
    FunctionDefinition,
    JsonSchemaFormat,
    SystemMessage,
    ToolMessage,
    UserMessage,
)
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import HttpResponseError

from .deployments import EMBEDDED, LLAMA, png_data_url
from .serving import Server
from .wire import Reply, send

DOCUMENTED: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "How many languages are in the world?"},
    ]
}
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Seoul"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
NO_PARAMETERS: dict[str, Any] = {"type": "function", "function": {"name": "get_time"}}


def ask(server: Server, body: dict[str, Any], *, model: str = LLAMA, headers: dict[str, str] | None = None) -> Reply:
    whole = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8, "model": model, **body}
    return send("POST", f"{server.models}/chat/completions", whole, {**server.bearer, **(headers or {})})


def refused(reply: Reply, *loc: str) -> dict[str, Any]:
    """The entry of a 422 that names this place."""
    assert reply.status == 422, reply.body
    entries = {tuple(entry["loc"]): entry for entry in reply.json()["detail"]}
    assert ("body", *loc) in entries, entries
    found: dict[str, Any] = entries[("body", *loc)]
    return found


def client_of(server: Server, **defaults: Any) -> ChatCompletionsClient:
    return ChatCompletionsClient(server.models, AzureKeyCredential(server.key), **defaults)


@pytest.mark.check(26)
def test_the_documented_request_has_the_documented_answer(server: Server) -> None:
    reply = send("POST", f"{server.url}/chat/completions", {**DOCUMENTED, "max_tokens": 32}, server.bearer)
    assert reply.status == 200
    answer = reply.json()
    assert set(answer) == {"id", "object", "created", "model", "choices", "usage"}
    assert re.fullmatch(r"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", answer["id"])
    assert answer["object"] == "chat.completion"
    assert isinstance(answer["created"], int)
    assert answer["model"] == "Meta-Llama-3.1-405B-Instruct"
    (choice,) = answer["choices"]
    assert set(choice) == {"index", "message", "finish_reason", "logprobs"}
    assert choice["logprobs"] is None
    assert set(choice["message"]) == {"role", "content", "tool_calls"}
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"]
    assert choice["message"]["tool_calls"] is None
    usage = answer["usage"]
    assert {"prompt_tokens", "total_tokens", "completion_tokens"} <= set(usage)
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


@pytest.mark.check(27)
def test_the_documented_parameters_are_taken(server: Server) -> None:
    with client_of(server, model="mistral-large") as client:
        response = client.complete(messages=[UserMessage("Hello")], temperature=0, top_p=1, max_tokens=2048)
    assert response.choices[0].finish_reason == "stop"
    # 2048 is the whole context of an embedded slot: an answer gets what the prompt leaves of it.
    assert ask(server, {"temperature": 0, "top_p": 1, "max_tokens": 2048, "stop": ["."]}).status == 200


@pytest.mark.check(28)
def test_numeric_strings_are_numbers(server: Server) -> None:
    reply = ask(server, {"presence_penalty": "0.1", "frequency_penalty": "0.8"})
    assert reply.status == 200
    seen = ask(server, {"presence_penalty": "0.1", "frequency_penalty": "0.8"}, model="Mistral-large-echo").json()
    asked = json.loads(seen["choices"][0]["message"]["content"])
    assert "0.8" in json.dumps(asked)
    assert '"0.8"' not in json.dumps(asked)


@pytest.mark.check(29)
def test_stop_as_string_and_as_list_cuts_before_the_word(server: Server) -> None:
    greedy = {"temperature": 0, "max_tokens": 24, **DOCUMENTED}
    whole = ask(server, greedy).json()["choices"][0]["message"]["content"]
    word = whole.split()[3]
    for stop in (word, [word], [word, "<|endoftext|>"]):
        choice = ask(server, {**greedy, "stop": stop}).json()["choices"][0]
        assert choice["message"]["content"] == whole[: whole.index(word)]
        assert choice["finish_reason"] == "stop"


@pytest.mark.check(30)
def test_an_end_of_text_stop_is_taken(server: Server) -> None:
    assert ask(server, {"stop": ["<|endoftext|>"]}).status == 200
    assert ask(server, {"stop": ["<|endoftext|>"]}, model="mistral-large").status == 200
    for nothing in ([], None):
        assert ask(server, {"stop": nothing}).status == 200


@pytest.mark.check(31)
def test_one_token_ends_with_length(server: Server) -> None:
    answer = ask(server, {"max_tokens": 1, **DOCUMENTED}).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 1


@pytest.mark.check(32)
def test_empty_messages_are_refused(server: Server) -> None:
    entry = refused(ask(server, {"messages": []}), "messages")
    assert entry["input"] == []


@pytest.mark.check(33)
def test_missing_messages_are_refused(server: Server) -> None:
    reply = send("POST", f"{server.models}/chat/completions", {"model": LLAMA}, server.bearer)
    entry = refused(reply, "messages")
    assert entry["type"] == "missing"
    assert entry["msg"] == "Field required"
    assert reply.error_code() == "Invalid input"


@pytest.mark.check(34)
def test_an_unknown_role_is_refused(server: Server) -> None:
    body = {"messages": [{"role": "user", "content": "a"}, {"role": "wizard", "content": "b"}]}
    assert refused(ask(server, body), "messages", "1", "role")["input"] == "wizard"


@pytest.mark.check(35)
def test_a_temperature_of_three_is_refused(server: Server) -> None:
    assert refused(ask(server, {"temperature": 3}), "temperature")["input"] == 3


@pytest.mark.check(36)
def test_penalties_out_of_range_are_refused_together(server: Server) -> None:
    reply = ask(server, {"frequency_penalty": 2.1, "presence_penalty": -2.1, "top_p": 1.5})
    assert refused(reply, "frequency_penalty")["input"] == 2.1
    assert refused(reply, "presence_penalty")["input"] == -2.1
    assert refused(reply, "top_p")["input"] == 1.5


@pytest.mark.check(37)
def test_a_seed_makes_the_answer_repeatable(server: Server) -> None:
    body = {"temperature": 1.0, "max_tokens": 16, **DOCUMENTED}
    seeded = [ask(server, {**body, "seed": 7}, model=EMBEDDED).json()["choices"][0]["message"] for _ in range(2)]
    assert seeded[0] == seeded[1]
    greedy = [ask(server, {**body, "temperature": 0, "seed": 1}, model=EMBEDDED).json() for _ in range(2)]
    assert greedy[0]["choices"] == greedy[1]["choices"]


@pytest.mark.check(38)
def test_the_developer_role_is_accepted(server: Server) -> None:
    with client_of(server) as client:
        messages: list[ChatRequestMessage] = [DeveloperMessage("Be brief."), UserMessage("Hello")]
        assert client.complete(messages=messages, model=EMBEDDED, max_tokens=8).choices[0].message.content


@pytest.mark.check(39)
def test_a_system_message_for_phi_3_is_folded_into_the_first_turn(server: Server) -> None:
    with client_of(server) as client:
        messages: list[ChatRequestMessage] = [SystemMessage("Answer in verse."), UserMessage("Hello")]
        response = client.complete(messages=messages, model="Phi-3-mini-4k-instruct")
    asked = json.loads(response.choices[0].message.content)
    assert [message["role"] for message in asked["messages"]] == ["user"]
    assert "Answer in verse." in json.dumps(asked["messages"])
    assert "Hello" in json.dumps(asked["messages"])


@pytest.mark.check(40)
def test_an_image_part_goes_to_a_vision_model_and_not_to_a_text_model(server: Server) -> None:
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": png_data_url(), "detail": "low"}},
    ]
    body = {"messages": [{"role": "user", "content": parts}]}
    assert ask(server, body, model="Llama-3.2-11B-Vision-Instruct").status == 200
    for model in (LLAMA, EMBEDDED):
        reply = ask(server, body, model=model)
        assert reply.status == 422
        assert reply.json()["detail"][0]["loc"][:3] == ["body", "messages", "0"]


@pytest.mark.check(41)
def test_an_audio_part_does_not_go_to_a_text_model(server: Server) -> None:
    part = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    for model in (LLAMA, EMBEDDED, "mistral-large"):
        assert ask(server, {"messages": [{"role": "user", "content": [part]}]}, model=model).status == 422


@pytest.mark.check(42)
@pytest.mark.parametrize("shape", [{"type": "text"}, "text", {"type": {"type": "text"}}], ids=["type", "bare", "twice"])
def test_the_text_format_is_understood_in_every_shape(server: Server, shape: Any) -> None:
    assert ask(server, {"response_format": shape}).status == 200


@pytest.mark.check(42)
@pytest.mark.parametrize(
    "shape",
    [
        {"type": "json_object"},
        "json_object",
        {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
    ],
    ids=["type", "bare", "schema"],
)
def test_the_json_formats_are_understood_in_every_shape(server: Server, shape: Any) -> None:
    assert ask(server, {"response_format": shape}, model="gpt-4o-json").status == 200
    assert ask(server, {"response_format": {"type": "yaml"}}, model="gpt-4o-json").status == 422


def test_the_documented_handler_prints_the_value_that_the_model_itself_refuses(server: Server) -> None:
    with client_of(server) as client, pytest.raises(HttpResponseError) as caught:
        client.complete(messages=[UserMessage("Hello")], model=EMBEDDED, model_extras={"stop_token_ids": [9_000_000]})
    response = json.loads(caught.value.response._content.decode("utf-8"))  # type: ignore[union-attr]
    printed = [f"{'.'.join(bad['loc'])} with value '{bad['input']}'" for bad in response["detail"]]
    assert printed == ["body.stop_token_ids with value '[9000000]'"]


@pytest.mark.check(43)
def test_json_on_a_llama_is_refused_and_the_documented_handler_names_it(server: Server) -> None:
    printed = []
    with client_of(server) as client, pytest.raises(HttpResponseError) as caught:
        client.complete(messages=[UserMessage("Hello")], model=LLAMA, response_format="json_object")
    ex = caught.value
    assert ex.status_code == 422
    response = json.loads(ex.response._content.decode("utf-8"))  # type: ignore[union-attr]
    if isinstance(response, dict) and "detail" in response:
        for offending in response["detail"]:
            param = ".".join(offending["loc"])
            value = offending["input"]
            printed.append((param, value))
    assert [param for param, _ in printed] == ["body.response_format"]
    assert "json_object" in str(printed[0][1])
    assert response["error"]["code"] == "parameter_not_supported"
    assert "response_format" in response["detail"][0]["msg"]


@pytest.mark.check(44)
def test_json_on_a_mistral_is_json(server: Server) -> None:
    with client_of(server) as client:
        response = client.complete(
            messages=[UserMessage("Reply in JSON")], model="Mistral-large-json", response_format="json_object"
        )
    assert isinstance(json.loads(response.choices[0].message.content), dict)


@pytest.mark.check(44)
def test_json_from_the_embedded_model_is_json(server: Server) -> None:
    body = {
        "messages": [{"role": "user", "content": "Describe a cat as a JSON object with one key"}],
        "response_format": {"type": "json_object"},
        "max_tokens": 200,
        "seed": 3,
        "temperature": 0,
    }
    choice = ask(server, body, model=EMBEDDED).json()["choices"][0]
    if choice["finish_reason"] == "stop":
        assert isinstance(json.loads(choice["message"]["content"]), dict)
    else:
        assert choice["finish_reason"] == "length"
        assert choice["message"]["content"].lstrip().startswith("{")


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "green"]}, "count": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["colour", "count"],
    "additionalProperties": False,
}


@pytest.mark.check(45)
@pytest.mark.parametrize("model", ["gpt-4o-json", EMBEDDED])
def test_a_strict_schema_is_obeyed(server: Server, model: str) -> None:
    with client_of(server) as client:
        response = client.complete(
            messages=[UserMessage("How many apples, and of which colour?")],
            model=model,
            max_tokens=100,
            response_format=JsonSchemaFormat(name="apples", schema=SCHEMA, strict=True),
        )
    answer = json.loads(response.choices[0].message.content)
    assert set(answer) == {"colour", "count"}
    assert answer["colour"] in {"red", "green"}
    assert answer["count"] in range(10)


@pytest.mark.check(45)
@pytest.mark.parametrize("name", ["x" * 65, "with space", ""])
def test_a_bad_schema_name_is_refused(server: Server, name: str) -> None:
    shape = {"type": "json_schema", "json_schema": {"name": name, "schema": SCHEMA, "strict": True}}
    assert ask(server, {"response_format": shape}, model="gpt-4o-json").status == 422


@pytest.mark.check(46)
def test_a_tool_call_and_its_result_make_an_answer(server: Server) -> None:
    function = FunctionDefinition(**WEATHER["function"])
    tools = [ChatCompletionsToolDefinition(function=function)]
    messages: list[ChatRequestMessage] = [UserMessage("What is the weather in Paris?")]
    with client_of(server, model="gpt-4o-tools") as client:
        first = client.complete(messages=messages, tools=tools)
        (choice,) = first.choices
        assert choice.finish_reason == CompletionsFinishReason.TOOL_CALLS
        assert not choice.message.content
        assert choice.message.tool_calls is not None
        (call,) = choice.message.tool_calls
        assert isinstance(call, ChatCompletionsToolCall)
        assert call.function.name == "get_weather"
        assert json.loads(call.function.arguments) == {"city": "Paris"}
        assert 0 < len(call.id) <= 40
        messages += [AssistantMessage(tool_calls=[call]), ToolMessage(tool_call_id=call.id, content='{"sky": "blue"}')]
        second = client.complete(messages=messages, tools=tools)
    assert second.choices[0].finish_reason == CompletionsFinishReason.STOPPED
    assert second.choices[0].message.content == 'The tool answered: {"sky": "blue"}'


@pytest.mark.check(47)
def test_a_named_tool_is_called(server: Server) -> None:
    choice = ChatCompletionsNamedToolChoice(function=ChatCompletionsNamedToolChoiceFunction(name="get_weather"))
    with client_of(server, model=EMBEDDED) as client:
        response = client.complete(
            messages=[UserMessage("Weather in Seoul?")],
            tools=[ChatCompletionsToolDefinition(WEATHER), ChatCompletionsToolDefinition(NO_PARAMETERS)],
            tool_choice=choice,
            max_tokens=100,
        )
    calls = response.choices[0].message.tool_calls
    assert calls is not None
    assert [call.function.name for call in calls] == ["get_weather"]
    assert json.loads(calls[0].function.arguments)["city"] in {"Paris", "Seoul"}


@pytest.mark.check(48)
def test_a_required_tool_is_called(server: Server) -> None:
    with client_of(server, model=EMBEDDED) as client:
        response = client.complete(
            messages=[UserMessage("Say hello")],
            tools=[ChatCompletionsToolDefinition(WEATHER)],
            tool_choice="required",
            max_tokens=100,
        )
    assert response.choices[0].finish_reason == CompletionsFinishReason.TOOL_CALLS
    calls = response.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].function.name == "get_weather"
    assert json.loads(calls[0].function.arguments)["city"] in {"Paris", "Seoul"}


@pytest.mark.check(49)
@pytest.mark.parametrize("model", ["gpt-4o-auto", EMBEDDED])
def test_no_tool_is_called_when_none_may_be(server: Server, model: str) -> None:
    with client_of(server, model=model) as client:
        response = client.complete(
            messages=[UserMessage("What is the weather in Paris?")],
            tools=[ChatCompletionsToolDefinition(WEATHER)],
            tool_choice="none",
            max_tokens=16,
        )
    assert response.choices[0].message.tool_calls is None
    assert response.choices[0].message.content
    assert response.choices[0].finish_reason in {"stop", "length"}


@pytest.mark.check(50)
@pytest.mark.parametrize("model", ["gpt-4o", EMBEDDED])
def test_a_tool_without_parameters_is_taken(server: Server, model: str) -> None:
    body = {"tools": [NO_PARAMETERS], "tool_choice": "required", "max_tokens": 64}
    reply = ask(server, body if model == EMBEDDED else {"tools": [NO_PARAMETERS]}, model=model)
    assert reply.status == 200
    if model == EMBEDDED:
        (call,) = reply.json()["choices"][0]["message"]["tool_calls"]
        assert call["function"]["name"] == "get_time"
        assert isinstance(json.loads(call["function"]["arguments"]), dict)


@pytest.mark.check(51)
@pytest.mark.parametrize("model", ["Codestral-2501", "Phi-3-mini-4k-instruct", "DeepSeek-R1"])
def test_tools_for_a_model_without_tools_are_refused(server: Server, model: str) -> None:
    assert refused(ask(server, {"tools": [WEATHER]}, model=model), "tools")["type"] == "parameter_not_supported"


@pytest.mark.check(52)
def test_arguments_as_an_object_are_tolerated(server: Server) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "Paris"}}}
    messages = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "name": None, "content": "blue"},
    ]
    assert ask(server, {"messages": messages, "tools": [WEATHER]}, model="gpt-4o-tools").status == 200
    for choice in ("none", "auto"):
        body = {"messages": messages, "tools": [WEATHER], "tool_choice": choice, "max_tokens": 24}
        assert ask(server, body, model=EMBEDDED).status == 200


@pytest.mark.check(46)
def test_the_embedded_model_may_choose_between_text_and_a_call(server: Server) -> None:
    reply = ask(server, {"tools": [WEATHER], "max_tokens": 32}, model=EMBEDDED)
    assert reply.status == 200
    (choice,) = reply.json()["choices"]
    assert choice["finish_reason"] in {"stop", "length", "tool_calls"}
    assert choice["message"]["content"] or choice["message"]["tool_calls"]
    assert '{"name"' not in (choice["message"]["content"] or "")


@pytest.mark.check(53)
@pytest.mark.parametrize("body", [b"{", b"", b"[1]", b'"text"', b"\xff\xfe", b"null"])
@pytest.mark.parametrize("path", ["/models/chat/completions", "/openai/v1/chat/completions", "/embeddings"])
def test_a_body_that_is_no_json_object_is_400(server: Server, path: str, body: bytes) -> None:
    reply = send("POST", f"{server.url}{path}", body, server.bearer)
    assert reply.status == 400
    assert reply.json()["error"]["message"]


@pytest.mark.check(54)
@pytest.mark.parametrize("stream", [False, True])
def test_a_context_overflow_says_so(server: Server, stream: bool) -> None:
    body = {"messages": [{"role": "user", "content": "word " * 20_000}], "stream": stream}
    reply = ask(server, body, model=EMBEDDED)
    assert reply.status == 400
    assert reply.error_code() == "context_length_exceeded"
    assert reply.json()["error"]["message"].startswith("This model's maximum context length is ")
    assert reply.json()["error"]["param"] == "messages"


@pytest.mark.check(55)
def test_unknown_nested_keys_are_ignored(server: Server) -> None:
    message = {"role": "user", "content": [{"type": "text", "text": "Hello", "cache": True}], "name": None, "mood": "x"}
    body = {"messages": [message], "response_format": {"type": "text", "colour": "blue"}}
    assert ask(server, body).status == 200


def test_openai_reads_the_same_refusal(server: Server) -> None:
    with (
        openai.OpenAI(base_url=f"{server.url}/openai/v1", api_key=server.key, max_retries=0) as client,
        pytest.raises(openai.UnprocessableEntityError) as caught,
    ):
        client.chat.completions.create(model=LLAMA, messages=[{"role": "user", "content": "a"}], temperature=3)
    assert caught.value.status_code == 422
