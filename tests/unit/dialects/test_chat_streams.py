"""Streams obey the rules that genuine clients insist on, whatever the events and however they are batched. The exact
bytes are in tests/golden/streams."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.core.answers import AnswerHead, ChatAnswer, ChatChoice
from modelport.core.content import FunctionCall, ToolCall
from modelport.core.errors import UpstreamFailed
from modelport.core.events import (
    Answered,
    ChoiceFinished,
    Event,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    UsageReported,
)
from modelport.core.usage import TokenUsage
from modelport.dialects.azure_inference import answers as azure_inference
from modelport.dialects.openai_chat import answers as openai_chat
from modelport.dialects.openai_shape.stream import ChunkStream

HEAD = AnswerHead("the-id", 1739300519, 'a "model"')
USAGE = TokenUsage(input=19, output=45)
Streams = Callable[..., ChunkStream]
AZURE: Streams = partial(azure_inference.ChatStream, HEAD)
OPENAI: Streams = partial(openai_chat.ChatStream, HEAD)
every_stream = pytest.mark.parametrize("stream", [AZURE, OPENAI], ids=["azure_inference", "openai_chat"])

texts = st.text(max_size=5)


@st.composite
def answers(draw: st.DrawFn, choices: int = 2) -> list[Event]:
    """What a decoder may give: the deltas of each choice, then its finish; the usage last."""
    queues: list[list[Event]] = []
    for choice in range(draw(st.integers(1, choices))):
        queue: list[Event] = [ReasoningDelta(text, choice) for text in draw(st.lists(texts, max_size=2))]
        queue += [TextDelta(text, choice) for text in draw(st.lists(texts, max_size=3))]
        for index in range(draw(st.integers(0, 2))):
            queue.append(ToolCallDelta(index, f"call_{index}", "f", "", choice))
            queue.append(ToolCallDelta(index, arguments='{"a":', choice=choice))
            queue.append(ToolCallDelta(index, arguments="1}", choice=choice))
        queue.append(ChoiceFinished(draw(st.sampled_from(list(FinishReason))), choice))
        queues.append(queue)
    events: list[Event] = [Answered("x")] if draw(st.booleans()) else []
    random = draw(st.randoms(use_true_random=False))
    while any(queues):
        events.append(random.choice([queue for queue in queues if queue]).pop(0))
    return [*events, UsageReported(USAGE)]


def write(stream: ChunkStream, events: list[Event]) -> bytes:
    return stream.feed(events) + stream.end()


def chunks(written: bytes) -> list[dict[str, Any]]:
    """The JSON of each event, after a look at every byte between them."""
    assert written.endswith(b"\n\ndata: [DONE]\n\n") or written == b"data: [DONE]\n\n"
    lines = written.decode().removesuffix("data: [DONE]\n\n").split("\n\n")
    assert lines.pop() == ""
    assert all(re.fullmatch(r"data: \{[^\n\r]*\}", line) for line in lines)
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def deltas(written: bytes, choice: int) -> list[dict[str, Any]]:
    found = [each for chunk in chunks(written) for each in chunk["choices"] if each["index"] == choice]
    return [each["delta"] for each in found]


@every_stream
@given(answers(), st.booleans(), st.sampled_from(["inline", "field"]))
def test_every_chunk_says_whose_it_is(stream: Streams, events: list[Event], asked: bool, reasoning: str) -> None:
    for chunk in chunks(write(stream(include_usage=asked, reasoning=reasoning), events)):
        assert (chunk["id"], chunk["created"], chunk["model"]) == ("the-id", 1739300519, 'a "model"')
        assert chunk["object"] == "chat.completion.chunk"
        assert all(set(choice) == {"index", "delta", "finish_reason", "logprobs"} for choice in chunk["choices"])


@every_stream
@given(answers(), st.sampled_from(["inline", "field"]))
def test_the_role_comes_first_and_once(stream: Streams, events: list[Event], reasoning: str) -> None:
    written = write(stream(reasoning=reasoning), events)
    for choice in {event.choice for event in events if isinstance(event, ChoiceFinished)}:
        first, *later = deltas(written, choice)
        assert first == {"role": "assistant", "content": ""}
        assert all("role" not in delta for delta in later)


@given(answers(), st.sampled_from(["inline", "field"]))
def test_azures_deltas_always_have_a_string_and_never_a_null(events: list[Event], reasoning: str) -> None:
    written = write(AZURE(reasoning=reasoning), events)
    assert b'"content":null' not in written and b'"tool_calls":null' not in written
    for chunk in chunks(written):
        assert [type(choice["delta"]["content"]) for choice in chunk["choices"]] == [str]


@given(answers())
def test_azures_last_chunk_has_reason_and_usage_unasked(events: list[Event]) -> None:
    *earlier, last = chunks(write(AZURE(), events))
    assert last["choices"][0]["finish_reason"] is not None
    assert last["usage"] == {"prompt_tokens": 19, "completion_tokens": 45, "total_tokens": 64}
    assert all("usage" not in chunk for chunk in earlier)


@given(answers())
def test_azures_usage_moves_to_a_chunk_of_its_own_when_asked_for(events: list[Event]) -> None:
    *earlier, last = chunks(write(AZURE(include_usage=True), events))
    assert (last["choices"], last["usage"]["total_tokens"]) == ([], 64)
    assert all("usage" not in chunk for chunk in earlier)
    assert earlier[-1]["choices"][0]["finish_reason"] is not None


@given(answers())
def test_openais_usage_comes_only_when_asked_for(events: list[Event]) -> None:
    assert all("usage" not in chunk for chunk in chunks(write(OPENAI(), events)))
    *earlier, last = chunks(write(OPENAI(include_usage=True), events))
    assert (last["choices"], last["usage"]["total_tokens"]) == ([], 64)
    assert all(chunk["usage"] is None and chunk["choices"] for chunk in earlier)


@every_stream
@given(answers())
def test_the_last_finish_the_usage_and_done_are_the_ends_alone(stream: Streams, events: list[Event]) -> None:
    fed = stream(include_usage=True)
    written = fed.feed(events)
    finishes = len(re.findall(rb'"finish_reason":"', written))
    assert finishes == sum(isinstance(event, ChoiceFinished) for event in events) - 1
    assert b"[DONE]" not in written and b'"usage":{' not in written
    assert len(re.findall(rb'"finish_reason":"', fed.end())) == 1


@every_stream
@given(answers(), st.lists(st.integers(0, 30)), st.sampled_from(["inline", "field"]))
def test_batches_make_no_difference(stream: Streams, events: list[Event], cuts: list[int], reasoning: str) -> None:
    fed = stream(reasoning=reasoning)
    places = sorted({0, len(events), *(cut for cut in cuts if cut < len(events))})
    pieces = [fed.feed(events[start:stop]) for start, stop in pairwise(places)]
    assert b"".join(pieces) + fed.end() == write(stream(reasoning=reasoning), events)


@every_stream
@given(answers(), st.sampled_from(["inline", "field"]))
def test_the_deltas_add_up_to_the_whole_answer(stream: Streams, events: list[Event], reasoning: Any) -> None:
    written = write(stream(reasoning=reasoning), events)
    for choice in {event.choice for event in events if isinstance(event, ChoiceFinished)}:
        own = [event for event in events if getattr(event, "choice", None) == choice]
        text = "".join(event.text for event in own if isinstance(event, TextDelta))
        thought = "".join(event.text for event in own if isinstance(event, ReasoningDelta))
        calls = {event.index for event in own if isinstance(event, ToolCallDelta)}
        tool_calls = tuple(ToolCall(f"call_{i}", FunctionCall("f", '{"a":1}')) for i in sorted(calls))
        whole = ChatChoice(choice, text or None, FinishReason.STOP, thought or None, tool_calls or None)
        module = azure_inference if stream is AZURE else openai_chat
        body = module.whole_chat(HEAD, ChatAnswer((whole,), USAGE), reasoning=reasoning)
        message = json.loads(body)["choices"][0]["message"]
        added = deltas(written, choice)
        assert "".join(delta.get("content", "") for delta in added) == (message["content"] or "")
        assert "".join(delta.get("reasoning_content", "") for delta in added) == message.get("reasoning_content", "")
        fragments = [fragment for delta in added for fragment in delta.get("tool_calls", [])]
        assert [fragment["id"] for fragment in fragments if "id" in fragment] == [call.id for call in tool_calls]
        order = [fragment["index"] for fragment in fragments]
        assert order == sorted(order)


@every_stream
def test_nothing_is_written_before_the_first_event(stream: Streams) -> None:
    fed = stream()
    assert fed.feed([]) == b""
    assert fed.idle() == b""
    assert fed.feed([Answered()]).count(b"data: ") == 1


@every_stream
def test_a_silent_stream_is_kept_warm_by_a_legal_chunk(stream: Streams) -> None:
    fed = stream()
    fed.feed([TextDelta("a")])
    [chunk] = chunks(fed.idle() + b"data: [DONE]\n\n")
    assert chunk["choices"][0]["delta"] == {"content": ""}
    fed.feed([ChoiceFinished(FinishReason.STOP)])
    assert fed.idle() == b""


@every_stream
def test_a_source_that_gives_no_reason_is_given_one(stream: Streams) -> None:
    assert chunks(write(stream(), [TextDelta("a")]))[-1]["choices"][0]["finish_reason"] == "stop"
    assert chunks(write(stream(), []))[-1]["choices"][0]["finish_reason"] == "stop"


@every_stream
def test_counts_of_ours_stand_in_for_counts_that_never_came(stream: Streams) -> None:
    fed = stream(include_usage=True)
    fed.feed([TextDelta("a"), ChoiceFinished(FinishReason.STOP)])
    assert chunks(fed.end(USAGE))[-1]["usage"]["total_tokens"] == 64


@every_stream
def test_a_broken_stream_says_so_and_does_not_end(stream: Streams) -> None:
    fed = stream()
    fed.feed([TextDelta("a"), ChoiceFinished(FinishReason.STOP)])
    written = fed.broken(UpstreamFailed("The upstream went away."))
    assert b"[DONE]" not in written
    [chunk] = chunks(written + b"data: [DONE]\n\n")
    assert chunk["error"]["message"] == "The upstream went away."
    assert (chunk["choices"], chunk["id"], chunk["object"]) == ([], "the-id", "chat.completion.chunk")


@pytest.mark.parametrize("stream", [azure_inference.CompletionsStream, openai_chat.CompletionsStream])
def test_text_completions_have_texts_and_no_role(stream: Callable[..., ChunkStream]) -> None:
    events: list[Event] = [Answered(), TextDelta("a"), TextDelta("b", 1), ChoiceFinished(FinishReason.LENGTH, 1)]
    written = write(stream(HEAD), [*events, ChoiceFinished(FinishReason.STOP), UsageReported(USAGE)])
    found = [
        (c["choices"][0]["index"], c["choices"][0]["text"], c["choices"][0]["finish_reason"]) for c in chunks(written)
    ]
    assert found == [(0, "a", None), (1, "b", None), (1, "", "length"), (0, "", "stop")]
    assert {chunk["object"] for chunk in chunks(written)} == {"text_completion"}


def test_a_call_in_the_older_form_is_one_function_call_a_choice() -> None:
    stream = openai_chat.FunctionStream(HEAD)
    fragments = [
        ToolCallDelta(1, "call_a", "look", "", 0),
        ToolCallDelta(1, arguments='{"at":', choice=0),
        ToolCallDelta(1, arguments='"it"}', choice=0),
        ToolCallDelta(2, "call_b", "other", "{}", 0),
        ChoiceFinished(FinishReason.TOOL_CALLS, 0),
    ]
    written = stream.feed(fragments) + stream.end()
    assert b"tool_calls" not in written
    chunks = [json.loads(line[6:]) for line in written.decode().split("\n\n") if line.startswith("data: {")]
    calls = [chunk["choices"][0]["delta"].get("function_call") for chunk in chunks]
    assert [call for call in calls if call] == [
        {"name": "look", "arguments": ""},
        {"arguments": '{"at":'},
        {"arguments": '"it"}'},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks if chunk["choices"][0]["finish_reason"]] == [
        "function_call"
    ]


def test_a_whole_call_in_the_older_form_is_a_function_call() -> None:
    calls = (ToolCall("call_a", FunctionCall("look", '{"at":"it"}')), ToolCall("call_b", FunctionCall("other", "{}")))
    answer = ChatAnswer((ChatChoice(0, None, FinishReason.TOOL_CALLS, tool_calls=calls),), USAGE)
    choice = json.loads(openai_chat.whole_chat(HEAD, answer, speaks_functions=True))["choices"][0]
    assert choice["finish_reason"] == "function_call"
    assert choice["message"]["function_call"] == {"name": "look", "arguments": '{"at":"it"}'}
    assert choice["message"]["content"] is None
    assert "tool_calls" not in choice["message"]
    text = ChatAnswer((ChatChoice(0, "hi", FinishReason.STOP),), USAGE)
    assert json.loads(openai_chat.whole_chat(HEAD, text, speaks_functions=True)) == json.loads(
        openai_chat.whole_chat(HEAD, text)
    )
