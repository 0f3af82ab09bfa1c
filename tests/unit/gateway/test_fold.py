"""Events, folded into whole answers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.core.answers import AnswerHead, ChatAnswer
from modelport.core.errors import UpstreamFailed
from modelport.core.events import (
    Annotation,
    Answered,
    ChoiceFinished,
    Embedding,
    Event,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    UsageReported,
)
from modelport.core.usage import TokenUsage
from modelport.dialects.azure_inference import answers as azure_answers
from modelport.dialects.openai_chat import answers as openai_answers
from modelport.gateway.fold import ChatFold, CompletionsFold, EmbeddingsFold, Fold

Folded = TypeVar("Folded")
STOP = ChoiceFinished(FinishReason.STOP)
USAGE = UsageReported(TokenUsage(input=3, output=2))


def folded(batches: Iterable[list[Event]], fold: Fold[Folded]) -> Folded:
    for batch in batches:
        fold.feed(batch)
    return fold.end()


def test_text_is_joined_and_usage_kept() -> None:
    answer = folded([[Answered("m")], [TextDelta("Hel"), TextDelta("lo")], [STOP, USAGE]], ChatFold(1))
    (choice,) = answer.choices
    assert (choice.content, choice.finish_reason, choice.tool_calls, choice.reasoning) == ("Hello", "stop", None, None)
    assert answer.usage.total == 5


def test_an_answer_without_text_is_empty_text() -> None:
    answer = folded([[STOP]], ChatFold(1))
    assert answer.choices[0].content == ""


def test_tool_calls_are_put_together_by_index_and_leave_no_content() -> None:
    events: list[Event] = [
        ToolCallDelta(0, id="call_a", name="weather"),
        ToolCallDelta(0, arguments='{"city":'),
        ToolCallDelta(0, arguments='"Oslo"}'),
        ToolCallDelta(1, id="call_b", name="time", arguments="{}"),
        ChoiceFinished(FinishReason.TOOL_CALLS),
    ]
    (choice,) = folded([events], ChatFold(1)).choices
    assert choice.content is None
    assert choice.tool_calls is not None
    assert [(c.id, c.function.name, c.function.arguments) for c in choice.tool_calls] == [
        ("call_a", "weather", '{"city":"Oslo"}'),
        ("call_b", "time", "{}"),
    ]


def test_a_tool_call_that_came_without_an_id_gets_one() -> None:
    events: list[Event] = [ToolCallDelta(0, name="f"), ToolCallDelta(1, name="g"), STOP]
    (choice,) = folded([events], ChatFold(1)).choices
    assert choice.tool_calls is not None
    assert len({call.id for call in choice.tool_calls}) == 2


def test_reasoning_is_kept_apart() -> None:
    events: list[Event] = [ReasoningDelta("hm, "), ReasoningDelta("yes"), TextDelta("Yes."), STOP]
    (choice,) = folded([events], ChatFold(1)).choices
    assert (choice.reasoning, choice.content) == ("hm, yes", "Yes.")


def test_choices_come_in_order_of_their_index() -> None:
    events: list[Event] = [
        TextDelta("b", choice=1),
        TextDelta("a"),
        ChoiceFinished(FinishReason.LENGTH, choice=1),
        STOP,
    ]
    answer = folded([events], CompletionsFold(2))
    assert [(c.index, c.text, c.finish_reason) for c in answer.choices] == [(0, "a", "stop"), (1, "b", "length")]


def test_choices_beyond_those_asked_for_are_left_out() -> None:
    events: list[Event] = [TextDelta("a"), STOP, TextDelta("b", choice=1)]
    assert len(folded([events], ChatFold(1)).choices) == 1


@pytest.mark.parametrize("batches", [[], [[TextDelta("cut")]], [[Answered("m"), USAGE]]])
def test_an_answer_that_never_ended_is_no_answer(batches: list[list[Event]]) -> None:
    with pytest.raises(UpstreamFailed):
        folded([*batches], ChatFold(1))


def test_logprobs_of_both_shapes_grow() -> None:
    chat: list[Event] = [
        TextDelta("a", logprobs={"content": [{"token": "a"}], "refusal": None}),
        TextDelta("b", logprobs={"content": [{"token": "b"}], "refusal": None}),
        STOP,
    ]
    (choice,) = folded([chat], ChatFold(1)).choices
    assert choice.logprobs == {"content": [{"token": "a"}, {"token": "b"}], "refusal": None}
    legacy: list[Event] = [
        TextDelta("a", logprobs={"tokens": ["a"], "token_logprobs": [-1.0]}),
        TextDelta("b", logprobs={"tokens": ["b"], "token_logprobs": [-2.0]}),
        STOP,
    ]
    (text,) = folded([legacy], CompletionsFold(1)).choices
    assert text.logprobs == {"tokens": ["a", "b"], "token_logprobs": [-1.0, -2.0]}


def test_folding_leaves_the_events_as_they_were() -> None:
    first = TextDelta("a", logprobs={"content": [1]})
    folded([[first, TextDelta("b", logprobs={"content": [2]}), STOP]], ChatFold(1))
    assert first.logprobs == {"content": [1]}


def test_vectors_come_in_input_order() -> None:
    answer = folded([[Embedding(1, b"two")], [Embedding(0, b"one"), USAGE]], EmbeddingsFold())
    assert answer.vectors == (b"one", b"two")
    assert answer.usage.prompt == 3


@pytest.mark.parametrize(
    "events", [[], [USAGE], [Embedding(1, b"two")], [Embedding(0, b"one"), Embedding(2, b"three")]]
)
def test_a_missing_vector_is_no_answer(events: list[Event]) -> None:
    with pytest.raises(UpstreamFailed):
        folded([events], EmbeddingsFold())


EVENTS: list[Event] = [
    TextDelta("a"), TextDelta("b", choice=1), ReasoningDelta("r"), TextDelta("ü", logprobs={"content": [1]}),
    ToolCallDelta(0, id="i", name="f"), ToolCallDelta(0, arguments="{}"), STOP,
    ChoiceFinished(FinishReason.LENGTH, choice=1), USAGE,
]  # fmt: skip


@given(st.lists(st.integers(1, 4), max_size=len(EVENTS)))
def test_how_the_events_are_batched_makes_no_difference(sizes: list[int]) -> None:
    rest = list(EVENTS)
    batches: list[list[Event]] = []
    for size in sizes:
        batches.append(rest[:size])
        rest = rest[size:]
    answer: ChatAnswer = folded([*batches, rest], ChatFold(2))
    assert answer == folded([EVENTS], ChatFold(2))


OF_PROMPT, OF_CHOICE = Annotation({"hate": "safe"}, is_notable=False), Annotation({"hate": "low"}, 0, is_notable=False)


def test_annotations_are_kept_by_what_they_are_about() -> None:
    for fold in (ChatFold, CompletionsFold):
        answer = folded([[OF_PROMPT, TextDelta("Hello"), OF_CHOICE, STOP, USAGE]], fold(1))
        assert (answer.annotations, answer.choices[0].annotation) == ((OF_PROMPT,), OF_CHOICE)
    vectors = [OF_PROMPT, Embedding(0, b"\0\0\0\0"), USAGE]
    assert folded([vectors], EmbeddingsFold()).annotations == (OF_PROMPT,)


def test_only_notable_annotations_are_written_where_documented_answers_have_none() -> None:
    events: list[Event] = [OF_PROMPT, TextDelta("Hello"), OF_CHOICE, STOP, USAGE]
    plain = [event for event in events if not isinstance(event, Annotation)]
    head = AnswerHead(id="ours", created=7, model="served")
    with_them, without = azure_answers.ChatStream(head), azure_answers.ChatStream(head)
    assert with_them.feed(events) + with_them.end() == without.feed(plain) + without.end()
    openai = openai_answers.ChatStream(head)
    written = openai.feed(events) + openai.end()
    first, *_, last, done = written.strip().split(b"\n\n")
    assert (
        b'"prompt_filter_results":[{"prompt_index":0,"content_filter_results":{"hate":"safe"}}],"choices":[]' in first
    )
    assert b'"finish_reason":"stop","content_filter_results":{"hate":"low"}}]' in last
    assert done == b"data: [DONE]"
