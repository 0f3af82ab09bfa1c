"""What the way may rely on, whoever answers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from provider_doubles import HARNESSES, Harness

from modelport.core.catalog import Timeouts
from modelport.core.content import FunctionDefinition, Message, Tool
from modelport.core.errors import InvalidParameters, ModelportError, UpstreamFailed, UpstreamTimedOut
from modelport.core.events import (
    Answered,
    ChoiceFinished,
    Embedding,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    UsageReported,
)
from modelport.core.limit_errors import ContextLengthExceeded, RateLimited
from modelport.core.ports.providers import OpeningProvider, Provider
from modelport.core.requests import (
    ChatRequest,
    CompletionsRequest,
    EmbeddingsRequest,
    ImageEmbeddingsRequest,
    ImageInput,
)
from modelport.dialects.vectors import encode_vector

Delta = TextDelta | ReasoningDelta | ToolCallDelta
TOOL = Tool(FunctionDefinition("f"))


@pytest.fixture(params=sorted(HARNESSES))
async def harness(request) -> AsyncIterator[Harness]:
    async with HARNESSES[request.param]() as made:
        yield made


def scene(name, **fields) -> ChatRequest:
    return ChatRequest(messages=(Message("user", name),), **fields)


async def all_of(harness, request, timeouts=None):
    events = [event async for event in (harness.events(request, timeouts) if timeouts else harness.events(request))]
    check_order(events)
    return events


def check_order(events):
    """core/events.py's promise."""
    assert [type(event) for event in events].count(Answered) <= 1
    assert not any(isinstance(event, Answered) for event in events[1:])
    usage = [place for place, event in enumerate(events) if isinstance(event, UsageReported)]
    assert usage in ([], [len(events) - 1])
    finished, opened = set(), set()
    for event in events:
        match event:
            case ChoiceFinished(choice=choice):
                assert choice not in finished
                finished.add(choice)
            case ToolCallDelta(index=index, id=id, name=name, choice=choice):
                assert choice not in finished
                assert ((choice, index) in opened) is (id is None) is (name is None)
                opened.add((choice, index))
            case TextDelta(choice=choice) | ReasoningDelta(choice=choice):
                assert choice not in finished
    spoken = {event.choice for event in events if isinstance(event, Delta)}
    assert spoken <= finished


def test_provider_is_of_one_kind_or_the_other(harness):
    assert isinstance(harness.provider, Provider) is not isinstance(harness.provider, OpeningProvider)


@pytest.mark.parametrize("streamed", [True, False])
async def test_text_comes_whole_and_streamed(harness, streamed):
    events = await all_of(harness, scene("hello", stream=streamed))
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "Hello"
    assert ChoiceFinished(FinishReason.STOP, 0) in events
    assert events[-1].usage.completion == 2


@pytest.mark.parametrize("streamed", [True, False])
async def test_choices_are_kept_apart(harness, streamed):
    events = await all_of(harness, scene("hello", stream=streamed, extra={"n": 2}))
    for choice in (0, 1):
        text = "".join(event.text for event in events if isinstance(event, TextDelta) and event.choice == choice)
        assert text == "Hello"
        assert ChoiceFinished(FinishReason.STOP, choice) in events


@pytest.mark.parametrize("streamed", [True, False])
async def test_thoughts_are_no_text(harness, streamed):
    events = await all_of(harness, scene("think", stream=streamed))
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "four"
    assert "".join(event.text for event in events if isinstance(event, ReasoningDelta)).startswith("hm")


@pytest.mark.parametrize("streamed", [True, False])
async def test_tools_are_called_by_name(harness, streamed):
    events = await all_of(harness, scene("call", stream=streamed, tools=(TOOL,)))
    calls = [event for event in events if isinstance(event, ToolCallDelta)]
    assert calls[0].name == "f"
    assert "".join(call.arguments for call in calls) == "{}"
    assert ChoiceFinished(FinishReason.TOOL_CALLS, 0) in events


async def test_every_prompt_is_completed(harness):
    events = await all_of(harness, CompletionsRequest(prompt=("a", "b")))
    assert {event.choice for event in events if isinstance(event, ChoiceFinished)} == {0, 1}
    assert {event.text for event in events if isinstance(event, TextDelta)} == {"Hello"}


@pytest.mark.parametrize("dimensions", [None, 6])
@pytest.mark.parametrize("kind", [EmbeddingsRequest, ImageEmbeddingsRequest])
async def test_vectors_come_in_order_and_size(harness, kind, dimensions):
    items = ("a", "b") if kind is EmbeddingsRequest else (ImageInput("data:x"), ImageInput("data:y"))
    events = await all_of(harness, kind(input=items, dimensions=dimensions))
    found = [event for event in events if isinstance(event, Embedding)]
    assert [event.index for event in found] == [0, 1]
    assert {len(encode_vector(event.vector, "int8")) for event in found} == {dimensions or 4}
    assert events[-1].usage.total > 0


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("limited", RateLimited),
        ("too long", ContextLengthExceeded),
        ("refused", InvalidParameters),
        ("down", UpstreamFailed),
    ],
)
async def test_refusal_comes_before_any_event(harness, name, expected, streamed):
    events = []
    with pytest.raises(expected) as caught:
        async for event in harness.events(scene(name, stream=streamed)):
            events.append(event)
    assert events == []
    assert caught.value.retry_after == {"limited": 7, "down": 1}.get(name)


@pytest.mark.parametrize("streamed", [True, False])
async def test_answer_that_breaks_is_no_answer(harness, streamed):
    events = []
    with pytest.raises(UpstreamFailed):
        async for event in harness.events(scene("breaks", stream=streamed)):
            events.append(event)
    assert not any(isinstance(event, ChoiceFinished | UsageReported) for event in events)


async def test_hanging_up_in_the_middle_stops_the_work(harness):
    async with aclosing(harness.events(scene("hangs", stream=True))) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                break
    await harness.noticed()


@pytest.mark.parametrize("streamed", [True, False])
async def test_cancelled_wait_stops_the_work(harness, streamed):
    waiting = asyncio.create_task(anext(harness.events(scene("silent", stream=streamed))))
    await harness.reached()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await harness.noticed()


@pytest.mark.parametrize(
    ("name", "timeouts"),
    [("silent", Timeouts(first_event=0.2)), ("hangs", Timeouts(first_event=20, between_events=0.2))],
)
async def test_codec_with_a_slow_upstream_times_out_and_stops_the_work(name, timeouts):
    async with HARNESSES["openai_compatible"]() as harness:  # the driver times those that make their events themselves
        with pytest.raises(UpstreamTimedOut):
            await all_of(harness, scene(name, stream=True), timeouts)
        await harness.noticed()


async def test_many_calls_at_once_do_not_mix(harness):
    async def one(size):
        events = await all_of(harness, EmbeddingsRequest(input=("a",), dimensions=size))
        (vector,) = (event.vector for event in events if isinstance(event, Embedding))
        return len(encode_vector(vector, "int8"))

    assert await asyncio.gather(*(one(size) for size in range(1, 40))) == list(range(1, 40))


async def test_errors_hold_nothing_of_the_credential_or_address(harness):
    for name in ("limited", "down", "breaks"):
        with pytest.raises(ModelportError) as caught:
            await all_of(harness, scene(name, stream=True))
        assert "sk-upstream" not in str(caught.value)
        assert "127.0.0.1" not in str(caught.value)
