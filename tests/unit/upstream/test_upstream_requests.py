"""What an OpenAI-shaped upstream is sent."""

import json

import pytest

from modelport.core.content import (
    FunctionCall,
    FunctionDefinition,
    ImagePart,
    ImageUrl,
    JsonSchemaFormat,
    Message,
    ResponseFormat,
    TextPart,
    Tool,
    ToolCall,
)
from modelport.core.requests import (
    ChatRequest,
    CompletionsRequest,
    EmbeddingsRequest,
    ImageEmbeddingsRequest,
    ImageInput,
    NamedToolChoice,
    StreamOptions,
)
from modelport.dialects.openai_chat.upstream_requests import UpstreamEncoder, UpstreamFacts

HELLO = (Message("user", "hello"),)
DEFAULTS = UpstreamFacts()


def encode(request, model, facts, headers=()):
    return UpstreamEncoder(request, model, facts, headers).encode(request)


def body(request, facts=DEFAULTS):
    return json.loads(encode(request, "theirs", facts).body)


def test_plain_chat_holds_nothing_that_was_not_asked():
    assert body(ChatRequest(messages=HELLO, model="ours")) == {
        "model": "theirs",
        "messages": [{"role": "user", "content": "hello"}],
    }


def test_every_chat_parameter_is_passed_on():
    schema = {"type": "object"}
    request = ChatRequest(
        messages=HELLO,
        frequency_penalty=0.0,
        presence_penalty=-1.0,
        temperature=0.0,
        top_p=0.5,
        max_tokens=0,
        stop=("a", "b"),
        seed=0,
        response_format=ResponseFormat("json_schema", JsonSchemaFormat("n", schema, strict=True)),
        tools=(Tool(FunctionDefinition("f", parameters=schema)), Tool(FunctionDefinition("g"))),
        tool_choice=NamedToolChoice("f"),
        modalities=("text",),
        extra={"n": 2, "logit_bias": {"7": -1}, "safe_mode": True},
    )
    assert body(request) == {
        "model": "theirs",
        "messages": [{"role": "user", "content": "hello"}],
        "frequency_penalty": 0.0,
        "presence_penalty": -1.0,
        "temperature": 0.0,
        "top_p": 0.5,
        "max_tokens": 0,
        "stop": ["a", "b"],
        "seed": 0,
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}},
        "tools": [
            {"type": "function", "function": {"name": "f", "parameters": schema}},
            {"type": "function", "function": {"name": "g"}},
        ],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "modalities": ["text"],
        "n": 2,
        "logit_bias": {"7": -1},
        "safe_mode": True,
    }


def test_turns_of_every_kind_are_written_as_openai_has_them():
    call = ToolCall("call_1", FunctionCall("f", '{"x":1}'))
    picture = ImagePart(ImageUrl("data:image/png;base64,AA==", "low"))
    request = ChatRequest(
        messages=(
            Message("developer", "be brief"),
            Message("user", (TextPart("what is this?"), picture)),
            Message("assistant", None, tool_calls=(call,)),
            Message("tool", None, tool_call_id="call_1"),
            Message("assistant", "4", reasoning_content="2+2"),
        )
    )
    assert body(request)["messages"] == [
        {"role": "system", "content": "be brief"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "what is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
            ],
        },
        {
            "role": "assistant",
            "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}],
        },
        {"role": "tool", "content": "", "tool_call_id": "call_1"},
        {"role": "assistant", "content": "4", "reasoning_content": "2+2"},
    ]


def test_host_with_a_developer_role_and_without_thoughts_gets_just_that():
    facts = UpstreamFacts(has_developer_role=True, takes_reasoning=False)
    request = ChatRequest(messages=(Message("developer", "x"), Message("assistant", "4", reasoning_content="2+2")))
    assert body(request, facts)["messages"] == [
        {"role": "developer", "content": "x"},
        {"role": "assistant", "content": "4"},
    ]


def test_stream_is_asked_with_its_usage_whatever_the_caller_wanted():
    sent = encode(ChatRequest(messages=HELLO, stream=True), "theirs", DEFAULTS)
    assert sent.streamed
    assert json.loads(sent.body)["stream_options"] == {"include_usage": True}
    assert json.loads(sent.body)["stream"] is True
    assert ("Accept", "text/event-stream") in sent.headers


def test_host_that_refuses_stream_options_is_not_sent_them():
    sent = body(ChatRequest(messages=HELLO, stream=True), UpstreamFacts(asks_stream_usage=False))
    assert sent["stream"] is True
    assert "stream_options" not in sent


@pytest.mark.parametrize(
    ("name", "request_", "expected"),
    [
        ("max_completion_tokens", ChatRequest(messages=HELLO, max_tokens=5), {"max_completion_tokens": 5}),
        (None, ChatRequest(messages=HELLO, max_tokens=5), {"max_tokens": 5}),
        (
            "max_tokens",
            ChatRequest(messages=HELLO, extra={"max_completion_tokens": 6}),
            {"max_tokens": 6},
        ),
        (
            None,
            ChatRequest(messages=HELLO, extra={"max_completion_tokens": 6}),
            {"max_completion_tokens": 6},
        ),
    ],
)
def test_the_limit_is_spelled_as_the_host_wants_it(name, request_, expected):
    sent = body(request_, UpstreamFacts(max_tokens_name=name))
    assert {key: value for key, value in sent.items() if key.startswith("max_")} == expected


def test_limit_of_a_text_completion_keeps_its_name():
    sent = body(CompletionsRequest(max_tokens=5), UpstreamFacts(max_tokens_name="max_completion_tokens"))
    assert sent["max_tokens"] == 5


def test_extras_replace_nothing_of_ours():
    extra = {"model": "other", "messages": [], "stream": True, "stream_options": {}, "temperature": 9, "top_k": 3}
    assert body(ChatRequest(messages=HELLO, temperature=0.5, extra=extra)) == {
        "model": "theirs",
        "messages": [{"role": "user", "content": "hello"}],
        "temperature": 0.5,
        "top_k": 3,
    }


def test_host_with_its_own_spelling_gets_it():
    assert body(ChatRequest(messages=HELLO, seed=3), UpstreamFacts(renamed=(("seed", "random_seed"),))) == {
        "model": "theirs",
        "messages": [{"role": "user", "content": "hello"}],
        "random_seed": 3,
    }


def test_end_users_identity_goes_only_where_it_is_understood():
    request = ChatRequest(messages=HELLO, user_security_context={"end_user_id": "u"})
    assert "user_security_context" not in body(request)
    sent = body(request, UpstreamFacts(takes_security_context=True))
    assert sent["user_security_context"] == {"end_user_id": "u"}


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [(("a",), "a"), (((1, 2),), [1, 2]), (("a", "b"), ["a", "b"]), (((1,), (2,)), [[1], [2]])],
)
def test_prompts_of_all_four_kinds(prompt, expected):
    assert body(CompletionsRequest(prompt=prompt))["prompt"] == expected


def test_text_completion_parameters_are_passed_on():
    request = CompletionsRequest(prompt=("a",), n=1, best_of=2, echo=True, suffix="z", logprobs=0, stop=("x",))
    assert body(request) == {
        "model": "theirs",
        "prompt": "a",
        "stop": ["x"],
        "n": 1,
        "best_of": 2,
        "suffix": "z",
        "logprobs": 0,
        "echo": True,
    }


def test_vectors_are_asked_in_the_hosts_format_whatever_the_caller_wants():
    request = EmbeddingsRequest(input=("a", (1, 2)), dimensions=8, encoding_format="uint8", input_type="query")
    expected = {"model": "theirs", "input": ["a", [1, 2]], "dimensions": 8, "input_type": "query"}
    assert body(request) == {**expected, "encoding_format": "base64"}
    assert body(request, UpstreamFacts(embeddings_format="float")) == {**expected, "encoding_format": "float"}
    assert body(request, UpstreamFacts(embeddings_format=None)) == expected


def test_pictures_go_to_their_own_path():
    request = ImageEmbeddingsRequest(input=(ImageInput("data:x"), ImageInput("data:y", "a cat")))
    sent = encode(request, "theirs", DEFAULTS)
    assert sent.path == "/images/embeddings"
    assert json.loads(sent.body)["input"] == [{"image": "data:x"}, {"image": "data:y", "text": "a cat"}]


def test_path_may_name_the_model_and_a_version():
    facts = UpstreamFacts(chat_path="/deployments/{model}/chat/completions", query="api-version=2024-10-21")
    sent = encode(ChatRequest(messages=HELLO), "gpt/4 o", facts, (("api-key", "k"),))
    assert sent.path == "/deployments/gpt%2F4%20o/chat/completions?api-version=2024-10-21"
    assert ("api-key", "k") in sent.headers


def test_thoughts_beside_a_text_go_only_to_hosts_that_take_them():
    turns = (*HELLO, Message("assistant", "Hi.", reasoning_content="A greeting."))
    assert body(ChatRequest(messages=turns))["messages"][1]["reasoning_content"] == "A greeting."
    assert body(ChatRequest(messages=turns), UpstreamFacts(takes_reasoning=False))["messages"][1] == {
        "role": "assistant",
        "content": "Hi.",
    }


def test_options_of_a_stream_are_not_sent_without_a_stream():
    request = ChatRequest(messages=HELLO, stream_options=StreamOptions(True))
    assert "stream_options" not in body(request)
    assert "stream_options" not in body(CompletionsRequest(stream_options=StreamOptions(True)))
