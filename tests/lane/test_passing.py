"""What is not read passes through: fields of requests and of answers, on every surface, whole and
streamed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .harness import Answer, chunked, post, whole
from .shared import Client, Scenario, Shared, player, shared

CONFIG = """
providers:
  up: {{type: openai_compatible, base_url: "http://127.0.0.1:{port}/v1"}}
deployments:
  served:
    model: {{format: Custom, name: served}}
    provider: up
    default: true
    limits: {{tokens_per_minute: null, requests_per_minute: null}}
"""
TARGETS = {
    "v1": "/v1/{operation}",
    "openai-v1": "/openai/v1/{operation}",
    "deployments": "/openai/deployments/served/{operation}?api-version=2024-10-21",
    "models": "/models/{operation}?api-version=2025-04-01",
}
SAFE = {"violence": {"filtered": False, "severity": "safe"}}
SIGNED = {"google": {"thought_signature": "c2lnbmVk"}}
DETAILS = [{"type": "reasoning.encrypted", "data": "e30=", "index": 0}]
ANNOTATIONS = [{"type": "url_citation", "url_citation": {"url": "https://example.org", "title": "t"}}]
USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
HALF, OTHER_HALF = b"\\ud83d", b"\\ude00"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    with shared(tmp_path_factory.mktemp("passing"), CONFIG) as found:
        yield found


@pytest.fixture
def play(server: Shared) -> Callable[[Scenario], None]:
    return player(server)


def asked(base: str, operation: str = "chat/completions", **fields: Any) -> bytes:
    """A request; on `/models` with everything allowed."""
    given = {"model": "served", **fields}
    if operation == "chat/completions":
        given = {"messages": [{"role": "user", "content": "Say"}], **given}
    target = TARGETS[base].format(operation=operation)
    return post(target, json.dumps(given).encode(), "extra-parameters: pass-through")


def message(finish: str = "stop", *, choice: Any = None, top: Any = None, **fields: Any) -> dict[str, Any]:
    """A whole answer."""
    said = {"index": 0, "message": {"role": "assistant", **fields}, "finish_reason": finish, **(choice or {})}
    return {"id": "u", "object": "chat.completion", "model": "m", "choices": [said], "usage": USAGE, **(top or {})}


def delta(*, finish: str | None = None, choice: Any = None, top: Any = None, **fields: Any) -> dict[str, Any]:
    """A chunk of a streamed one."""
    said = {"index": 0, "delta": fields, "finish_reason": finish, **(choice or {})}
    return {"id": "u", "object": "chat.completion.chunk", "model": "m", "choices": [said], **(top or {})}


def events(*chunks: dict[str, Any] | bytes) -> list[bytes]:
    """The chunks as a stream, each in a read of its own."""
    written = [chunk if isinstance(chunk, bytes) else json.dumps(chunk).encode() for chunk in chunks]
    data = [b"data: " + chunk + b"\n\n" for chunk in (*written, b"[DONE]")]
    cuts = [sum(map(len, data[:count])) for count in range(1, len(data))]
    return chunked(b"".join(data), *cuts)


def chunks_of(answer: Answer) -> list[dict[str, Any]]:
    """A whole stream's chunks."""
    assert (answer.status, answer.is_complete) == (200, True), answer.body
    payloads = [event.removeprefix(b"data: ") for event in answer.body.split(b"\n\n")]
    assert payloads[-2:] == [b"[DONE]", b""]
    return [json.loads(payload) for payload in payloads[:-2]]


def text_of(chunks: list[dict[str, Any]], channel: str = "content") -> str:
    return "".join(choice["delta"].get(channel) or "" for chunk in chunks for choice in chunk["choices"])


def object_of(answer: Answer) -> dict[str, Any]:
    assert answer.status == 200, answer.body
    said: dict[str, Any] = json.loads(answer.body)
    return said


def sent(server: Shared) -> dict[str, Any]:
    """What the upstream was asked last."""
    said: dict[str, Any] = json.loads(server.upstream.seen[-1].partition(b"\r\n\r\n")[2])
    return said


@pytest.mark.parametrize("base", TARGETS)
def test_fields_of_a_conversation_reach_the_upstream(play: Callable[[Scenario], None], base: str) -> None:
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "look", "arguments": "{}", "signed": True},
        "extra_content": SIGNED,
    }
    turns = [
        {
            "role": "system",
            "content": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
            "weight": 0,
        },
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": "https://example.org/a.png", "max_pixels": 9}}],
        },
        {"role": "assistant", "content": None, "reasoning_details": DETAILS, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "x", "cache_control": {"type": "ephemeral"}},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}], "audio": {"id": "a1"}},
        {"role": "assistant", "refusal": "never", "content": None, "prefix": True},
        {"role": "user", "content": "x"},
    ]
    tool = {
        "type": "function",
        "function": {"name": "look", "parameters": {"type": "object"}, "eager": True},
        "cache_control": {"type": "ephemeral"},
    }
    options = {"include_usage": True, "include_obfuscation": False}

    async def scenario(server: Shared, client: Client) -> None:
        server.upstream.pieces = events(delta(content="a"), delta(finish="stop"))
        answer = await client.ask(asked(base, messages=turns, tools=[tool], stream=True, stream_options=options))
        assert answer.status == 200, answer.body
        written = sent(server)
        turns[5]["content"] = ""  # null is refused by many
        del turns[2]["content"]
        assert written["messages"] == turns
        assert written["tools"] == [tool]
        assert written["stream_options"] == options

    play(scenario)


@pytest.mark.parametrize("base", TARGETS)
def test_fields_of_a_whole_answer_reach_the_caller(play: Callable[[Scenario], None], base: str) -> None:
    top = {"system_fingerprint": "fp", "service_tier": "default", "citations": ["c"], "provider": {"name": "p"}}
    top["prompt_filter_results"] = [{"prompt_index": 0, "content_filter_results": SAFE}]
    choice = {"content_filter_results": SAFE, "stop_reason": 3}

    async def scenario(server: Shared, client: Client) -> None:
        said = message(content="Hi", annotations=ANNOTATIONS, reasoning_details=DETAILS, choice=choice, top=top)
        server.upstream.pieces = whole(json.dumps(said).encode())
        answer = object_of(await client.ask(asked(base)))
        assert {name: answer[name] for name in top} == top
        assert {name: answer["choices"][0][name] for name in choice} == choice
        given = answer["choices"][0]["message"]
        assert (given["content"], given["annotations"], given["reasoning_details"]) == ("Hi", ANNOTATIONS, DETAILS)
        assert (answer["model"], answer["usage"]["total_tokens"]) == ("served", 13)

    play(scenario)


@pytest.mark.parametrize("base", TARGETS)
def test_nothing_is_asserted_that_the_upstream_has_not_said(play: Callable[[Scenario], None], base: str) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        server.upstream.pieces = whole(json.dumps(message(content="Hi")).encode())
        given = object_of(await client.ask(asked(base)))["choices"][0]["message"]
        assert "annotations" not in given
        server.upstream.pieces = whole(json.dumps(message(content="Hi", annotations=[])).encode())
        given = object_of(await client.ask(asked(base)))["choices"][0]["message"]
        assert given["annotations"] == []

    play(scenario)


@pytest.mark.parametrize("base", TARGETS)
def test_fields_of_a_stream_reach_the_caller(play: Callable[[Scenario], None], base: str) -> None:
    first = {"choices": [], "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": SAFE}]}
    beside = {"choice": {"content_filter_results": SAFE}, "top": {"system_fingerprint": "fp"}}
    words = ["one", " two", " three", " four"]

    async def scenario(server: Shared, client: Client) -> None:
        server.upstream.pieces = events(
            first,
            delta(role="assistant", content=""),
            *(delta(content=word, **beside) for word in words),
            delta(annotations=ANNOTATIONS),
            delta(finish="stop", choice={"native": "end"}, top={"system_fingerprint": "last"}),
        )
        chunks = chunks_of(await client.ask(asked(base, stream=True, max_tokens=50)))
        assert text_of(chunks) == "".join(words)
        texts = [chunk for chunk in chunks if chunk["choices"] and chunk["choices"][0]["delta"].get("content")]
        assert [chunk["system_fingerprint"] for chunk in texts] == ["fp"] * 4
        assert [chunk["choices"][0]["content_filter_results"] for chunk in texts] == [SAFE] * 4
        assert [chunk.get("prompt_filter_results") for chunk in texts] == [first["prompt_filter_results"], *[None] * 3]
        [annotated] = [c["choices"][0]["delta"] for c in chunks if c["choices"] and "annotations" in str(c)]
        assert annotated["annotations"] == ANNOTATIONS
        [last] = [chunk for chunk in chunks if chunk["choices"] and chunk["choices"][0]["finish_reason"]]
        assert (last["choices"][0]["native"], last["system_fingerprint"]) == ("end", "last")

    play(scenario)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("base", TARGETS)
def test_a_signed_call_comes_back_as_it_went(play: Callable[[Scenario], None], base: str, stream: bool) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}, "extra_content": SIGNED}

    async def scenario(server: Shared, client: Client) -> None:
        said = message("tool_calls", content=None, tool_calls=[call])
        chunks = [delta(tool_calls=[{"index": 0, **call}]), delta(finish="tool_calls")]
        server.upstream.pieces = events(*chunks) if stream else whole(json.dumps(said).encode())
        answer = await client.ask(asked(base, stream=stream))
        if stream:
            [given] = [d["tool_calls"][0] for c in chunks_of(answer) if "tool_calls" in (d := c["choices"][0]["delta"])]
            assert given.pop("index") == 0
        else:
            [given] = object_of(answer)["choices"][0]["message"]["tool_calls"]
        assert given == call

    play(scenario)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("base", TARGETS)
def test_a_refusal_keeps_its_channel(play: Callable[[Scenario], None], base: str, stream: bool) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        said = message(content=None, refusal="I will not.")
        chunks = [
            delta(role="assistant", content=None),
            delta(refusal="I will"),
            delta(refusal=" not."),
            delta(finish="stop"),
        ]
        server.upstream.pieces = events(*chunks) if stream else whole(json.dumps(said).encode())
        answer = await client.ask(asked(base, stream=stream))
        channel = "content" if base == "models" else "refusal"  # that API has no field for it
        if stream:
            read = chunks_of(answer)
            assert text_of(read, channel) == "I will not."
            assert base == "models" or text_of(read) == ""
        else:
            given = object_of(answer)["choices"][0]["message"]
            assert given[channel] == "I will not."
            assert base == "models" or given["content"] is None

    play(scenario)


@pytest.mark.parametrize("function", [{}, {"arguments": None}, {"arguments": ""}, {"arguments": {}}])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("base", ["v1", "models"])
def test_arguments_that_are_missing_are_an_empty_object(
    play: Callable[[Scenario], None], base: str, stream: bool, function: dict[str, Any]
) -> None:
    calls = [{"index": i, "id": f"c{i}", "type": "function", "function": {"name": "f", **function}} for i in range(2)]

    async def scenario(server: Shared, client: Client) -> None:
        said = message("tool_calls", content=None, tool_calls=calls)
        chunks = [*(delta(tool_calls=[call]) for call in calls), delta(finish="tool_calls")]
        server.upstream.pieces = events(*chunks) if stream else whole(json.dumps(said).encode())
        answer = await client.ask(asked(base, stream=stream))
        arguments = ["", ""]
        if stream:
            for chunk in chunks_of(answer):
                for call in chunk["choices"][0]["delta"].get("tool_calls", ()):
                    arguments[call["index"]] += call["function"]["arguments"]
        else:
            made = object_of(answer)["choices"][0]["message"]["tool_calls"]
            arguments = [call["function"]["arguments"] for call in made]
        assert arguments == ["{}", "{}"]

    play(scenario)


def raw_delta(text: bytes, channel: bytes = b"content") -> bytes:
    return b'{"id":"u","model":"m","choices":[{"index":0,"delta":{"%b":"%b"},"finish_reason":null}]}' % (channel, text)


@pytest.mark.parametrize(
    ("texts", "read"),
    [
        ([b"a", b"b" + HALF, OTHER_HALF + b"c", b"d"], "ab\U0001f600cd"),
        ([b"a", b"b", HALF, b"c", b"d"], "ab\ufffdcd"),
        ([b"a", b"b", OTHER_HALF, b"d"], "ab\ufffdd"),
        ([b"a", b"b", HALF], "ab\ufffd"),
        ([b"a", b"b\xffc", b"d"], "ab\ufffdcd"),
        ([b"a", b"b\x00\x1fc", b"d"], "ab\x00\x1fcd"),
        ([b"a", b"b\nc", b"d", b"e\rf"], "ab\ncde\nf"),
    ],
)
@pytest.mark.parametrize("channel", ["content", "reasoning_content", "refusal"])
def test_a_broken_character_ends_no_stream(
    play: Callable[[Scenario], None], texts: list[bytes], read: str, channel: str
) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        last = delta(finish="stop") if channel == "content" else delta(content=".", finish="stop")
        server.upstream.pieces = events(*(raw_delta(text, channel.encode()) for text in texts), last)
        chunks = chunks_of(await client.ask(asked("v1", stream=True, max_tokens=90)))
        assert text_of(chunks, channel) == read

    play(scenario)


@pytest.mark.parametrize("field", ["content", "reasoning_content", "refusal", "unknown"])
def test_a_broken_character_ends_no_whole_answer(play: Callable[[Scenario], None], field: str) -> None:
    said = json.dumps(message(**{"content": "x", field: "@"})).encode()

    async def scenario(server: Shared, client: Client) -> None:
        server.upstream.pieces = whole(said.replace(b"@", b"a\xff" + HALF + OTHER_HALF + b"\n" + HALF + b"b"))
        given = object_of(await client.ask(asked("v1")))["choices"][0]["message"]
        assert given[field] == "a\ufffd\U0001f600\n\ufffdb"

    play(scenario)


def test_a_broken_character_in_an_error_is_replaced(play: Callable[[Scenario], None]) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        said = b'{"error":{"message":"too \xff' + HALF + b' warm","code":"bad_\x01value","param":"top_p"}}'
        server.upstream.pieces = whole(said, "400 Bad Request")
        answer = await client.ask(asked("v1"))
        assert answer.status == 400
        assert "warm" in json.loads(answer.body)["error"]["message"]

    play(scenario)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("written", [b"-Infinity", b"NaN", b"Infinity", b"-1e999"])
def test_a_log_probability_that_json_cannot_write(
    play: Callable[[Scenario], None], stream: bool, written: bytes
) -> None:
    entry = {
        "token": "a",
        "logprob": "@",
        "bytes": [97],
        "top_logprobs": [{"token": "b", "logprob": "@", "bytes": None}],
    }
    beside = {"logprobs": {"content": [entry], "refusal": None}}

    async def scenario(server: Shared, client: Client) -> None:
        said = json.dumps(message(content="a", choice=beside)).encode().replace(b'"@"', written)
        chunk = json.dumps(delta(content="a", choice=beside)).encode().replace(b'"@"', written)
        server.upstream.pieces = events(chunk, delta(finish="stop")) if stream else whole(said)
        answer = await client.ask(asked("v1", stream=stream, logprobs=True))
        found = next(c for c in chunks_of(answer) if c["choices"][0]["logprobs"]) if stream else object_of(answer)
        [read] = found["choices"][0]["logprobs"]["content"]
        assert (read["logprob"], read["top_logprobs"][0]["logprob"]) == (-9999.0, -9999.0)

    play(scenario)


def test_a_vector_with_nan_is_an_error_that_says_so(play: Callable[[Scenario], None]) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        server.upstream.pieces = whole(b'{"data":[{"index":0,"embedding":[0.5,NaN]}],"model":"m"}')
        answer = await client.ask(asked("v1", "embeddings", input="x"))
        assert answer.status == 503
        assert "no finite number" in json.loads(answer.body)["error"]["message"]

    play(scenario)


def test_fields_of_vectors_and_of_completions_reach_the_caller(play: Callable[[Scenario], None]) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        server.upstream.pieces = whole(b'{"data":[{"index":0,"embedding":[0.5]}],"model":"m","meta":{"a":1}}')
        assert object_of(await client.ask(asked("v1", "embeddings", input="x")))["meta"] == {"a": 1}
        choice = {"index": 0, "text": "x", "finish_reason": "stop", "stop_reason": 7}
        said = {"id": "u", "choices": [choice], "usage": USAGE, "system_fingerprint": "fp"}
        server.upstream.pieces = whole(json.dumps(said).encode())
        answer = object_of(await client.ask(asked("v1", "completions", prompt="x")))
        assert (answer["system_fingerprint"], answer["choices"][0]["stop_reason"]) == ("fp", 7)
        server.upstream.pieces = events(said)
        [first, *_] = chunks_of(await client.ask(asked("v1", "completions", prompt="x", stream=True)))
        assert (first["system_fingerprint"], first["choices"][0]["text"]) == ("fp", "x")

    play(scenario)


@pytest.mark.parametrize("base", TARGETS)
def test_without_tools_what_is_said_of_them_is_dropped_and_named(play: Callable[[Scenario], None], base: str) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        answer = await client.ask(asked(base, tools=[], tool_choice="auto", parallel_tool_calls=False))
        assert answer.status == 200
        assert dict(answer.headers)["x-modelport-dropped-parameters"] == "tool_choice, parallel_tool_calls"
        assert not {"tools", "tool_choice", "parallel_tool_calls"} & sent(server).keys()

    play(scenario)


def test_what_is_checked_is_what_is_sent(play: Callable[[Scenario], None]) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        await client.ask(
            asked("v1", n="1", max_tokens=5.0, temperature="0.5", top_logprobs="2", logprobs="true", seed="-0")
        )
        written = sent(server)
        values = [written[name] for name in ("n", "max_tokens", "temperature", "top_logprobs", "logprobs", "seed")]
        assert [(type(value), value) for value in values] == [
            (int, 1),
            (int, 5),
            (float, 0.5),
            (int, 2),
            (bool, True),
            (int, 0),
        ]
        for content in ('"content":"one","content":"two"', '"content":"two"', '"content":"one","content":"two"'):
            turn = '{"role":"user",' + content + "}"
            body = '{"model":"a","messages":[' + turn + '],"max_tokens":5,"model":"served","max_tokens":7}'
            await client.ask(post("/v1/chat/completions", body.encode()))
            assert server.upstream.seen[-1].count(b'"content"') == 1
            assert (sent(server)["messages"][0]["content"], sent(server)["max_tokens"]) == ("two", 7)

    play(scenario)


@pytest.mark.parametrize(
    "fields", [{"stream": "yes"}, {"stream": 1}, {"n": "two"}, {"n": 1.5}, {"Model": "other"}, {"N": 3}]
)
@pytest.mark.parametrize("base", TARGETS)
def test_what_can_be_read_in_two_ways_is_refused(
    play: Callable[[Scenario], None], base: str, fields: dict[str, Any]
) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        answer = await client.ask(asked(base, **fields))
        assert answer.status == 422
        assert json.loads(answer.body)["detail"][0]["loc"] == ["body", *fields]
        assert not server.upstream.seen

    play(scenario)


def test_half_a_character_of_a_caller_is_refused(play: Callable[[Scenario], None]) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        for name in ("user", "content"):
            body = '{"model":"served","messages":[{"role":"user","content":"x"}],"user":"x"}'
            body = body.replace(f'"{name}":"x"', f'"{name}":"a\\ud83d"')
            answer = await client.ask(post("/v1/chat/completions", body.encode()))
            assert answer.status == 400
            assert "half of a surrogate pair" in json.loads(answer.body)["error"]["message"]

    play(scenario)
