"""Answers of OpenAI-shaped upstreams: every habit that is known, however the bytes are cut."""

import json
import struct
from base64 import b64encode
from itertools import count, pairwise
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import structs

from modelport.core.content import Message
from modelport.core.errors import EngineFailed, ModelportError, UpstreamFailed
from modelport.core.events import (
    Answered,
    ChoiceFinished,
    Embedding,
    NumberList,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    UsageReported,
)
from modelport.core.requests import ChatRequest, CompletionsRequest, EmbeddingsRequest
from modelport.core.usage import TokenUsage
from modelport.dialects.openai_chat.upstream_answers import decoder
from modelport.dialects.openai_chat.upstream_json import HalfCharacters

GOLDEN = Path(__file__).parents[2] / "golden" / "upstream"
HABITS = sorted(path.stem for path in GOLDEN.glob("*.body"))
HELLO = (Message("user", "hello"),)
FIRST_TEXT = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'


def read(pieces, request=None, engine=False):
    """The events, and the error that came after them."""
    numbers = count(1)
    reading = decoder(request or ChatRequest(messages=HELLO), engine=engine, new_id=lambda: f"new-{next(numbers)}")
    events = []
    try:
        for piece in pieces:
            events += reading.feed(piece)
        events += reading.end()
    except ModelportError as error:
        return events, error
    return events, None


def by_object(extra):
    return {name: value for name, value in structs.asdict(extra).items() if value}


def written(event):
    match event:
        case Answered(model, id):
            return ["answered", model, id]
        case TextDelta(text, choice, tokens, logprobs, extra):
            told = ["text", text, choice]
            if extra is not None:
                return [*told, tokens, logprobs, by_object(extra)]
            return told + ([tokens, logprobs] if logprobs is not None else [])
        case RefusalDelta(text, choice):
            return ["refusal", text, choice]
        case ReasoningDelta(text, choice):
            return ["reasoning", text, choice]
        case ToolCallDelta(index, id, name, arguments, choice, extra):
            return ["call", index, id, name, arguments, choice] + ([extra] if extra is not None else [])
        case ChoiceFinished(reason, choice, extra):
            return ["finish", str(reason), choice] + ([by_object(extra)] if extra is not None else [])
        case UsageReported(usage):
            names = TokenUsage.__struct_fields__
            return ["usage", {name: getattr(usage, name) for name in names if getattr(usage, name)}]


def habit(name):
    expected = json.loads((GOLDEN / f"{name}.json").read_text())
    asked = expected["request"]
    if asked.get("operation") == "completions":
        request = CompletionsRequest(prompt=("x",), n=asked.get("n"))
    else:
        request = ChatRequest(messages=HELLO, extra={"n": asked["n"]} if "n" in asked else {})
    return (GOLDEN / f"{name}.body").read_bytes(), request, expected


@pytest.mark.parametrize("name", HABITS)
def test_habit_means_what_is_written_beside_it(name):
    body, request, expected = habit(name)
    events, error = read([body], request)
    assert [written(event) for event in events] == expected["events"]
    assert (type(error).__name__ if error else None) == expected.get("fails")


@pytest.mark.parametrize("name", HABITS)
def test_habit_means_the_same_byte_by_byte(name):
    body, request, expected = habit(name)
    events, error = read([body[place : place + 1] for place in range(len(body))], request)
    assert [written(event) for event in events] == expected["events"]
    assert (type(error).__name__ if error else None) == expected.get("fails")


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(HABITS), st.lists(st.integers(0, 3000), max_size=8))
@example("crlf", [1, 2, 3])
def test_habit_means_the_same_however_it_is_cut(name, places):
    body, request, expected = habit(name)
    edges = [0, *sorted(min(place, len(body)) for place in places), len(body)]
    events, error = read([body[a:b] for a, b in pairwise(edges)], request)
    assert [written(event) for event in events] == expected["events"]
    assert (type(error).__name__ if error else None) == expected.get("fails")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
@example(b'{"choices":[{"index":0,"delta":[],"message":"x","finish_reason":7}]}')
@example(b'{"choices":[{"index":true,"message":{"tool_calls":[{"function":[]}]}}]}')
@example(b'data: {"choices":{},"usage":[]}\n\ndata: [DONE]\n\n')
@example(b"[" * 5000)
def test_nonsense_is_an_error_of_ours_and_never_another(body):
    events, error = read([body])
    assert error is not None or isinstance(events[-1], ChoiceFinished | UsageReported)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "stop", "x", "f"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "delta",
                    "message",
                    "content",
                    "tool_calls",
                    "function",
                    "name",
                    "arguments",
                    "id",
                    "index",
                    "text",
                    "error",
                    "code",
                    "finish_reason",
                    "logprobs",
                    "tokens",
                    "usage",
                    "prompt_tokens",
                    "reasoning",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)


@settings(max_examples=300, deadline=None)
@given(st.lists(JSON, max_size=4), st.booleans())
def test_any_json_keeps_the_order_of_events_or_is_an_error(chunks, is_done):
    lines = [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks] + [b"data: [DONE]\n\n"] * is_done
    events, error = read(lines)
    finished = [place for place, event in enumerate(events) if isinstance(event, ChoiceFinished)]
    deltas = [place for place, event in enumerate(events) if isinstance(event, TextDelta | ToolCallDelta)]
    assert error is not None or finished
    assert not finished or not deltas or min(finished) > max(deltas)
    opened = {(event.choice, event.index) for event in events if isinstance(event, ToolCallDelta) and event.id}
    assert all((e.choice, e.index) in opened for e in events if isinstance(e, ToolCallDelta))


def test_broken_answer_of_an_engine_is_the_engines_failure():
    for body in (b"", b"data: {}\n\n", b'data: {"error":{"code":500}}\n\n', b"<html>", b"{}", b"data: x\n\n"):
        _, error = read([body], engine=True)
        assert isinstance(error, EngineFailed), body


def test_internal_words_of_an_upstream_are_not_repeated():
    _, error = read([b'data: {"error":{"message":"CUDA error at 10.0.0.7","code":500}}\n\n'])
    assert "10.0.0.7" not in error.message


# --- usage ---------------------------------------------------------------------------------------------------------


def test_the_tier_is_the_last_that_the_upstream_has_said() -> None:
    def chunk(tier, **fields):
        return b"data: " + json.dumps({"service_tier": tier, **fields}).encode() + b"\n\n"

    text = {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}]}
    usage = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
    for tiers, said in ((("auto", "flex"), "flex"), (("default", None), "default"), ((None, None), None)):
        events, error = read([chunk(tiers[0], **text), chunk(tiers[1], **usage), b"data: [DONE]\n\n"])
        assert error is None
        assert events[-1] == UsageReported(TokenUsage(input=1, output=1), said)
    within = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1, "service_tier": "x" * 100}}
    events, _ = read([chunk(7, **text), chunk(None, **within), b"data: [DONE]\n\n"])
    assert events[-1].service_tier == "x" * 64


# --- embeddings ----------------------------------------------------------------------------------------------------

TWO = EmbeddingsRequest(input=("a", "b"))


def vectors(*items, **top):
    return json.dumps({"object": "list", "data": list(items), "model": "e", **top}).encode()


def test_embeddings_come_as_numbers_or_base64_and_in_any_order():
    packed = struct.pack("<2f", 0.5, -2.0)
    body = vectors(
        {"index": 1, "embedding": b64encode(packed).decode()},
        {"index": 0, "embedding": [1, 0.25]},
        usage={"prompt_tokens": 3, "total_tokens": 3},
    )
    events, error = read([body[:30], body[30:]], TWO)
    assert error is None
    assert events == [
        Answered("e", None),
        Embedding(0, NumberList(b"[1,0.25]")),
        Embedding(1, packed),
        UsageReported(TokenUsage(input=3)),
    ]


def test_embeddings_without_index_are_in_the_order_sent():
    events, _ = read([vectors({"embedding": [1.0]}, {"embedding": [2.0]})], TWO)
    assert events[1:] == [Embedding(0, NumberList(b"[1.0]")), Embedding(1, NumberList(b"[2.0]"))]


@pytest.mark.parametrize(
    "body",
    [
        vectors({"index": 0, "embedding": [1.0]}),
        vectors({"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}),
        vectors({"index": 0, "embedding": [1.0]}, {"index": 2, "embedding": [1.0]}),
        vectors({"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [1.0, 2.0]}),
        vectors({"index": 0, "embedding": [[1.0]]}, {"index": 1, "embedding": [[1.0]]}),
        vectors({"index": 0, "embedding": []}, {"index": 1, "embedding": []}),
        vectors({"index": 0, "embedding": [1e300]}, {"index": 1, "embedding": [1.0]}),
        vectors({"index": 0, "embedding": [10**39]}, {"index": 1, "embedding": [1.0]}),
        vectors({"index": 0, "embedding": ["1"]}, {"index": 1, "embedding": ["1"]}),
        vectors({"index": 0, "embedding": "!!!!"}, {"index": 1, "embedding": "!!!!"}),
        vectors({"index": 0, "embedding": "AAA="}, {"index": 1, "embedding": "AAA="}),
        vectors({"index": 0, "embedding": "AADAfw=="}, {"index": 1, "embedding": "AADAfw=="}),
        vectors({"index": 0, "embedding": None}, {"index": 1, "embedding": None}),
        b'{"data":[{"embedding":[NaN]},{"embedding":[NaN]}]}',
        b'{"error":{"message":"no","code":500}}',
        b'{"data":[],"error":{"message":"no","code":500}}',
        b"data: [DONE]",
        b"",
    ],
)
def test_unusable_vectors_are_a_failure(body):
    events, error = read([body], TWO)
    assert events == []
    assert isinstance(error, UpstreamFailed)


def test_fields_that_pile_up_without_a_text_break_the_answer_off():
    long = json.dumps("x" * 1_000_000)
    chunks = [f'data: {{"choices":[],"field_{number}":{long}}}\n\n'.encode() for number in range(20)]
    events, error = read([FIRST_TEXT, *chunks])
    assert [type(event) for event in events] == [TextDelta]
    assert isinstance(error, UpstreamFailed)


def test_fields_of_many_chunks_with_texts_are_carried_one_by_one():
    long = json.dumps("x" * 1_000_000)
    text = '{"choices":[{"index":0,"delta":{"content":"a"}}],"field":%s}'
    end = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    events, error = read([b"data: " + (text % long).encode() + b"\n\n" for _ in range(20)] + [end])
    assert error is None
    assert [len(event.extra.answer["field"]) for event in events if isinstance(event, TextDelta)] == [1_000_000] * 20


def test_half_characters_of_more_choices_than_any_answer_has_are_replaced():
    reader = HalfCharacters()
    for index in range(5_000):
        reader.joined({"choices": [{"index": index, "delta": {"content": "\ud83d"}}]})
    assert len(reader.rest()) == 1024


def test_a_call_that_was_cut_off_before_its_arguments_has_none():
    call = {"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}}
    choice = {"index": 0, "message": {"tool_calls": [call]}, "finish_reason": "length"}
    events, error = read([json.dumps({"choices": [choice]}).encode()])
    assert error is None
    assert [event.arguments for event in events if isinstance(event, ToolCallDelta)] == [""]
