"""The model that follows a script, as the way sees it: events in, nothing else."""

import asyncio
import json
import math
import struct
from contextlib import aclosing

import jsonschema_rs
import pytest
from hypothesis import example as sample
from hypothesis import given
from hypothesis import strategies as st

from modelport.core.catalog import Target
from modelport.core.content import FunctionDefinition, JsonSchemaFormat, Message, ResponseFormat, Tool
from modelport.core.errors import EngineFailed, InvalidParameters, Unavailable, UpstreamFailed, UpstreamTimedOut
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
from modelport.core.requests import (
    ChatRequest,
    CompletionsRequest,
    EmbeddingsRequest,
    ImageEmbeddingsRequest,
    ImageInput,
    NamedToolChoice,
)
from modelport.core.usage import TokenUsage
from modelport.providers.scripted import ScriptFault, Settings
from modelport.providers.scripted import open as open_scripted
from modelport.providers.scripted.examples import NoExample, example
from modelport.providers.scripted.tokens import tokens

TARGET = Target("script", "the-model")


def scripted(*replies, **settings):
    return open_scripted(Settings.model_validate({"replies": list(replies), **settings}), "script")


def ask(text="What is the weather in Paris?", **fields):
    return ChatRequest(messages=(Message("user", text),), **fields)


async def events_of(provider, request):
    return [event async for event in provider.open(request, TARGET)]


def text_of(events, choice=0):
    return "".join(event.text for event in events if isinstance(event, TextDelta) and event.choice == choice)


def calls_of(events):
    calls = {}
    for event in events:
        if isinstance(event, ToolCallDelta):
            id, name, arguments = calls.get(event.index, (event.id, event.name, ""))
            calls[event.index] = (id, name, arguments + event.arguments)
    return [(name, json.loads(arguments)) for _, name, arguments in calls.values()]


def reason_of(events):
    return next(event.reason for event in events if isinstance(event, ChoiceFinished))


def usage_of(events):
    return next((event.usage for event in events if isinstance(event, UsageReported)), None)


# --- what is said --------------------------------------------------------------------------------------------------


async def test_without_a_script_the_user_is_quoted():
    events = await events_of(scripted(), ask("hi there"))
    assert events[0] == Answered("the-model")
    assert text_of(events) == "Hello! You said: hi there"
    assert reason_of(events) is FinishReason.STOP
    assert usage_of(events) == TokenUsage(input=5, output=7)


async def test_whole_and_streamed_answers_say_and_count_the_same():
    for reply in ({}, {"text": "one two three"}, {"chunks": ["Hel", "lo, wor", "ld"]}):
        whole = await events_of(scripted(reply), ask())
        streamed = await events_of(scripted(reply), ask(stream=True))
        assert text_of(whole) == text_of(streamed)
        assert usage_of(whole) == usage_of(streamed)
        assert len(streamed) > len(whole)


async def test_chunks_are_streamed_as_written():
    events = await events_of(scripted({"chunks": ["Hel", "lo ", "world"]}), ask(stream=True))
    assert [event.text for event in events if isinstance(event, TextDelta)] == ["Hel", "lo ", "world"]


async def test_reasoning_comes_first_and_is_counted_apart():
    events = await events_of(scripted({"reasoning": "two and two", "text": "four"}), ask(stream=True))
    kinds = [type(event) for event in events]
    assert kinds.index(TextDelta) > max(place for place, kind in enumerate(kinds) if kind is ReasoningDelta)
    assert usage_of(events).reasoning == 3


async def test_echo_tells_exactly_what_was_asked():
    request = ask(temperature=0.5, stop=("x",), seed=7, extra={"safe_mode": True}, max_tokens=3)
    told = json.loads(text_of(await events_of(scripted({"echo": True}), request)))
    assert told == {
        "operation": "chat_completions",
        "model": "the-model",
        "stream": False,
        "include_usage": False,
        "messages": [{"role": "user", "content": "What is the weather in Paris?"}],
        "parameters": {"temperature": 0.5, "stop": ["x"], "seed": 7, "max_tokens": 3},
        "extra": {"safe_mode": True},
    }


async def test_echo_of_a_text_completion():
    request = CompletionsRequest(prompt=("a",), top_p=0.5, best_of=2, extra={"k": 1})
    told = json.loads(text_of(await events_of(scripted({"echo": True}), request)))
    assert told["prompt"] == ["a"]
    assert told["parameters"] == {"top_p": 0.5, "best_of": 2}
    assert told["extra"] == {"k": 1}


@pytest.mark.parametrize("streamed", [True, False])
async def test_max_tokens_ends_the_answer_with_length(streamed):
    events = await events_of(scripted({"text": "one two three four"}), ask(max_tokens=2, stream=streamed))
    assert text_of(events) == "one two"
    assert reason_of(events) is FinishReason.LENGTH
    assert usage_of(events).output == 2


async def test_max_completion_tokens_is_a_limit_too():
    events = await events_of(scripted({"text": "one two three"}), ask(extra={"max_completion_tokens": 1}))
    assert (text_of(events), reason_of(events)) == ("one", FinishReason.LENGTH)


async def test_limit_of_nothing_gives_nothing():
    events = await events_of(scripted({"text": "one"}), ask(max_tokens=0))
    assert (text_of(events), reason_of(events), usage_of(events).output) == ("", FinishReason.LENGTH, 0)


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("reply", [{"text": "one two three"}, {"chunks": ["one t", "wo thr", "ee"]}])
async def test_stop_cuts_before_the_word(streamed, reply):
    events = await events_of(scripted(reply), ask(stop=("zzz", "two"), stream=streamed))
    assert text_of(events) == "one "
    assert reason_of(events) is FinishReason.STOP


async def test_every_choice_is_answered():
    events = await events_of(scripted({"text": "yes"}), ask(extra={"n": 3}))
    assert [text_of(events, choice) for choice in range(3)] == ["yes", "yes", "yes"]
    assert sorted(event.choice for event in events if isinstance(event, ChoiceFinished)) == [0, 1, 2]
    assert usage_of(events).output == 3


async def test_finish_reason_and_usage_can_be_said():
    reply = {
        "text": "x",
        "finish_reason": "content_filter",
        "usage": {"prompt_tokens": 9, "completion_tokens": 8, "prompt_tokens_details": {"cached_tokens": 4}},
    }
    events = await events_of(scripted(reply), ask())
    assert reason_of(events) is FinishReason.CONTENT_FILTER
    assert usage_of(events) == TokenUsage(input=5, cached_input=4, output=8)


async def test_source_may_report_no_usage():
    assert usage_of(await events_of(scripted({"usage": "none"}), ask())) is None


# --- JSON and tools ------------------------------------------------------------------------------------------------

WEATHER = Tool(
    FunctionDefinition(
        "get_weather",
        parameters={
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]}},
            "required": ["city", "unit"],
        },
    )
)
CLOCK = Tool(FunctionDefinition("read_clock"))


async def test_json_object_is_an_object():
    events = await events_of(scripted(), ask(response_format=ResponseFormat("json_object")))
    assert isinstance(json.loads(text_of(events)), dict)


async def test_json_schema_is_obeyed():
    schema = WEATHER.function.parameters
    for wanted in (
        ResponseFormat("json_schema", JsonSchemaFormat("w", schema)),
        ResponseFormat("json_object", schema=schema),
    ):
        answer = json.loads(text_of(await events_of(scripted(), ask(response_format=wanted))))
        assert answer == {"city": "text", "unit": "celsius"}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "number", "minimum": 1e308, "multipleOf": 1e-300},
        {"type": "integer", "exclusiveMaximum": -1e308, "multipleOf": 1e-9},
        {"type": "array", "minItems": 9999, "items": {"$ref": "#/$defs/a0"},
         "$defs": {**{f"a{i}": {"$ref": f"#/$defs/a{i + 1}"} for i in range(60)}, "a60": {}}},
    ],
)  # fmt: skip
async def test_a_schema_without_an_example_is_refused(schema):
    with pytest.raises(NoExample):
        example(schema)


async def test_endless_schema_is_refused():
    schema = {"$ref": "#/$defs/a", "$defs": {"a": {"properties": {"a": {"$ref": "#/$defs/a"}}, "required": ["a"]}}}
    wanted = ResponseFormat("json_schema", JsonSchemaFormat("w", schema))
    with pytest.raises(InvalidParameters) as caught:
        await events_of(scripted(), ask(response_format=wanted))
    assert caught.value.target == "response_format"


async def test_given_json_is_written_as_it_is():
    assert text_of(await events_of(scripted({"json": None}), ask())) == "null"
    assert json.loads(text_of(await events_of(scripted({"json": {"a": [1]}}), ask()))) == {"a": [1]}


@pytest.mark.parametrize("choice", ["required", "auto", None, NamedToolChoice("get_weather")])
@pytest.mark.parametrize("streamed", [True, False])
async def test_tool_is_called_with_arguments_that_fit(choice, streamed):
    request = ask(tools=(CLOCK, WEATHER), tool_choice=choice, stream=streamed)
    events = await events_of(scripted(), request)
    assert calls_of(events) == [("get_weather", {"city": "text", "unit": "celsius"})]
    assert reason_of(events) is FinishReason.TOOL_CALLS
    assert text_of(events) == ""


async def test_tools_are_left_alone_when_told_so():
    for reply, choice in (({}, "none"), ({"tool_calls": "never"}, "auto"), ({"text": "no"}, "auto")):
        events = await events_of(scripted(reply), ask(tools=(WEATHER,), tool_choice=choice))
        assert calls_of(events) == []
        assert reason_of(events) is FinishReason.STOP


def after_a_result(**fields):
    """A request whose last message is a tool's result."""
    told = (Message("user", "weather?"), Message("tool", "21 degrees", tool_call_id="c"))
    return ChatRequest(messages=told, tools=(CLOCK, WEATHER), **fields)


@pytest.mark.parametrize("choice", [None, "auto", "none"])
@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ({}, "The tool answered: 21 degrees"),
        ({"tool_calls": [{"name": "get_weather", "arguments": {}}], "text": "Warm."}, "Warm."),
    ],
)
async def test_a_tools_result_is_answered_with_text(choice, reply, text):
    events = await events_of(scripted(reply), after_a_result(tool_choice=choice))
    assert (text_of(events), calls_of(events), reason_of(events)) == (text, [], FinishReason.STOP)


FITTING = ("get_weather", {"city": "text", "unit": "celsius"})


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(
    ("reply", "choice", "called"),
    [
        ({}, "required", ("read_clock", {})),
        ({}, NamedToolChoice("get_weather"), FITTING),
        ({"text": "Warm."}, NamedToolChoice("get_weather"), FITTING),
        ({"tool_calls": "never", "text": "Warm."}, "required", ("read_clock", {})),
        ({"tool_calls": [{"name": "get_weather", "arguments": {"a": 1}}]}, "required", ("get_weather", {"a": 1})),
        ({"tool_calls": [{"name": "read_clock"}]}, NamedToolChoice("get_weather"), FITTING),
    ],
)
async def test_a_forced_tool_is_called_in_every_turn_whatever_the_script_says(reply, choice, called, streamed):
    for request in (
        after_a_result(tool_choice=choice, stream=streamed),
        ask("?", tools=(CLOCK, WEATHER), tool_choice=choice),
    ):
        events = await events_of(scripted(reply), request)
        assert (text_of(events), calls_of(events)) == ("", [called])
        assert reason_of(events) is FinishReason.TOOL_CALLS


@pytest.mark.parametrize("fields", [{"tools": (WEATHER,), "tool_choice": "none"}, {}, {"tool_choice": "auto"}])
async def test_nothing_is_called_that_may_not_be_called(fields):
    calls = [{"name": "get_weather", "arguments": {}}]
    events = await events_of(scripted({"tool_calls": calls, "finish_reason": "tool_calls"}), ask("Hi", **fields))
    assert (text_of(events), calls_of(events)) == ("Hello! You said: Hi", [])
    assert reason_of(events) is FinishReason.STOP
    events = await events_of(scripted({"tool_calls": calls, "text": "Warm."}), ask(**fields))
    assert (text_of(events), calls_of(events)) == ("Warm.", [])


@pytest.mark.parametrize(
    "fields", [{"tool_choice": "required"}, {"tools": (CLOCK,), "tool_choice": NamedToolChoice("get_weather")}]
)
async def test_a_choice_that_no_tool_fits_is_refused(fields):
    with pytest.raises(InvalidParameters) as caught:
        await events_of(scripted(), ask(**fields))
    assert caught.value.target == "tool_choice"


@pytest.mark.parametrize("given", [{"text": "Let me see."}, {"chunks": ["Let me", " see."]}, {"json": {"a": 1}}, {}])
async def test_written_calls_come_alone_and_one_after_another(given):
    written = [{"name": "a", "arguments": {"x": 1}, "id": "mine"}, {"name": "get_weather"}]
    request = ask(tools=(WEATHER,), stream=True)
    events = await events_of(scripted({**given, "tool_calls": written}), request)
    assert text_of(events) == ""
    assert calls_of(events) == [("a", {"x": 1}), FITTING]
    indexes = [event.index for event in events if isinstance(event, ToolCallDelta)]
    assert indexes == sorted(indexes)
    assert next(event.id for event in events if isinstance(event, ToolCallDelta)) == "mine"


async def test_one_call_at_a_time_is_one_call():
    written = [{"name": "read_clock"}, {"name": "get_weather"}]
    request = ask(tools=(CLOCK, WEATHER), extra={"parallel_tool_calls": False})
    assert calls_of(await events_of(scripted({"tool_calls": written}), request)) == [("read_clock", {})]


@pytest.mark.parametrize(("limit", "arguments"), [(6, '{"city'), (3, ""), (2, None)])
async def test_a_limit_cuts_calls_as_it_cuts_text(limit, arguments):
    request = ask(tools=(WEATHER,), max_tokens=limit)
    events = await events_of(scripted(), request)
    found = [event for event in events if isinstance(event, ToolCallDelta)]
    assert reason_of(events) is FinishReason.LENGTH
    assert ("".join(event.arguments for event in found) if found else None) == arguments
    assert usage_of(events).output <= limit


async def test_ids_of_calls_differ_from_call_to_call():
    provider = scripted()
    ids = set()
    for _ in range(3):
        events = await events_of(provider, ask(tools=(WEATHER,)))
        ids.add(next(event.id for event in events if isinstance(event, ToolCallDelta)))
    assert len(ids) == 3
    assert all(len(id) <= 40 for id in ids)


async def test_broken_arguments_can_be_played():
    reply = {"tool_calls": [{"name": "f", "arguments": '{"x":'}]}
    events = await events_of(scripted(reply), ask(tools=(WEATHER,)))
    assert "".join(event.arguments for event in events if isinstance(event, ToolCallDelta)) == '{"x":'


# --- log-probabilities ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [True, False])
async def test_logprobs_cover_every_token(streamed):
    request = ask(extra={"logprobs": True, "top_logprobs": 2}, stream=streamed)
    events = await events_of(scripted({"text": "one two"}), request)
    entries = [entry for event in events if isinstance(event, TextDelta) for entry in event.logprobs["content"]]
    assert [entry["token"] for entry in entries] == ["one", " two"]
    assert all(entry["logprob"] <= 0 and len(entry["top_logprobs"]) == 2 for entry in entries)


async def test_logprobs_are_absent_unless_asked_for_and_when_the_model_has_none():
    for reply, request in (({}, ask()), ({"logprobs": False}, ask(extra={"logprobs": True}))):
        events = await events_of(scripted(reply), request)
        assert all(event.logprobs is None for event in events if isinstance(event, TextDelta))


async def test_text_completions_answer_every_prompt_and_know_their_offsets():
    request = CompletionsRequest(prompt=("ab", (1, 2, 3)), n=2, echo=True, logprobs=1)
    events = await events_of(scripted({"text": " one two"}), request)
    assert [text_of(events, choice) for choice in range(4)] == ["ab one two"] * 2 + [" one two"] * 2
    logprobs = [event.logprobs for event in events if isinstance(event, TextDelta) and event.logprobs]
    assert logprobs[0]["tokens"] == [" one", " two"]
    assert [entry["text_offset"] for entry in logprobs] == [[2, 6], [2, 6], [0, 4], [0, 4]]
    assert usage_of(events).input == 4


# --- vectors -------------------------------------------------------------------------------------------------------


def numbers(vector):
    return struct.unpack(f"<{len(vector) // 4}f", vector)


async def test_vectors_are_of_length_one_and_the_same_for_the_same_text():
    request = EmbeddingsRequest(input=("a", "b", "a", (1, 2)))
    first = [event for event in await events_of(scripted(), request) if isinstance(event, Embedding)]
    second = [event for event in await events_of(scripted(), request) if isinstance(event, Embedding)]
    assert first == second
    assert [event.index for event in first] == [0, 1, 2, 3]
    assert first[0].vector == first[2].vector
    assert len({event.vector for event in first}) == 3
    for event in first:
        assert len(numbers(event.vector)) == 1024
        assert math.isclose(math.hypot(*numbers(event.vector)), 1, rel_tol=1e-5)


async def test_vectors_have_the_size_that_was_asked_or_written():
    async def size(provider, request):
        return len(numbers(next(e.vector for e in await events_of(provider, request) if isinstance(e, Embedding))))

    assert await size(scripted(), EmbeddingsRequest(input=("a",), dimensions=5)) == 5
    assert await size(scripted(dimensions=7), EmbeddingsRequest(input=("a",))) == 7
    assert await size(scripted({"embedding": {"dimensions": 6}}), EmbeddingsRequest(input=("a",))) == 6


async def test_too_many_dimensions_are_refused():
    with pytest.raises(InvalidParameters) as caught:
        await events_of(scripted(), EmbeddingsRequest(input=("a",), dimensions=10**9))
    assert caught.value.target == "dimensions"


async def test_vectors_depend_on_the_seed_and_on_picture_and_text():
    async def vectors(provider, *items):
        request = ImageEmbeddingsRequest(input=items)
        return [event.vector for event in await events_of(provider, request) if isinstance(event, Embedding)]

    plain, other, captioned = await vectors(scripted(), ImageInput("x"), ImageInput("y"), ImageInput("x", "cat"))
    (reseeded,) = await vectors(scripted(seed=1), ImageInput("x"))
    assert len({plain, other, captioned, reseeded}) == 4


async def test_written_vector_is_given_to_all():
    events = await events_of(scripted({"embedding": {"vector": [3, 4]}}), EmbeddingsRequest(input=("a", "b")))
    for event in events:
        if isinstance(event, Embedding):
            assert numbers(event.vector) == pytest.approx((0.6, 0.8))
    assert usage_of(events) == TokenUsage(input=2)


# --- which reply ---------------------------------------------------------------------------------------------------


async def test_first_reply_that_fits_is_given():
    provider = scripted(
        {"match": {"contains": "WEATHER"}, "text": "sunny"},
        {"match": {"regex": r"\d+ \+ \d+"}, "text": "a sum"},
        {"match": {"model": "other-*"}, "text": "wrong model"},
        {"match": {"model": "the-*", "operation": "completions"}, "text": "a completion"},
        {"text": "anything"},
    )
    assert text_of(await events_of(provider, ask("the weather?"))) == "sunny"
    assert text_of(await events_of(provider, ask("what is 1 + 2"))) == "a sum"
    assert text_of(await events_of(provider, ask("hm"))) == "anything"
    assert text_of(await events_of(provider, CompletionsRequest(prompt=("hm",)))) == "a completion"


async def test_only_the_last_user_message_is_searched():
    provider = scripted({"match": {"contains": "rain"}, "text": "wet"})
    messages = (
        Message("system", "rain"),
        Message("user", "rain"),
        Message("user", "sun"),
        Message("assistant", "rain"),
    )
    assert text_of(await events_of(provider, ChatRequest(messages=messages))) == "Hello! You said: sun"


async def test_nth_call_can_differ():
    provider = scripted(
        {"match": {"call": 2}, "fault": {"status": 429, "retry_after": 3}},
        {"text": "fine"},
    )
    assert text_of(await events_of(provider, ask())) == "fine"
    with pytest.raises(RateLimited) as caught:
        await events_of(provider, ask())
    assert caught.value.retry_after == 3
    assert text_of(await events_of(provider, ask())) == "fine"


async def test_reply_about_text_does_not_answer_for_vectors_nor_the_reverse():
    provider = scripted({"embedding": {"dimensions": 4}}, {"text": "said", "delay_seconds": 0})
    assert text_of(await events_of(provider, ask())) == "said"
    events = await events_of(provider, EmbeddingsRequest(input=("a",)))
    assert len(events[1].vector) == 16


# --- faults --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"status": 500}, UpstreamFailed),
        ({"status": 401}, UpstreamFailed),
        ({"status": 504}, UpstreamTimedOut),
        ({"status": 400, "code": "context_length_exceeded", "message": "too long"}, ContextLengthExceeded),
        ({"status": 422, "param": "seed"}, InvalidParameters),
        ({"status": 500, "engine": True}, EngineFailed),
        ({"status": 503, "engine": True, "code": "queue_full", "retry_after": 2}, Unavailable),
    ],
)
async def test_fault_comes_before_any_event(fault, expected):
    provider = scripted({"fault": fault})
    for request in (ask(), EmbeddingsRequest(input=("a",))):
        with pytest.raises(expected):
            await events_of(provider, request)
    assert (provider.stats.calls, provider.stats.failed) == (2, 2)


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(("after", "text"), [(0, None), (2, "one two"), (99, "one two three")])
async def test_fault_in_the_middle_comes_after_so_many_chunks(streamed, after, text):
    provider = scripted({"text": "one two three", "fault_after_chunks": after})
    events = []
    with pytest.raises(UpstreamFailed):
        async for event in provider.open(ask(stream=streamed), TARGET):
            events.append(event)
    assert text_of(events) == (text or "")
    assert bool(events) is (text is not None)
    assert not any(isinstance(event, ChoiceFinished | UsageReported) for event in events)


async def test_fault_among_vectors():
    events = []
    with pytest.raises(EngineFailed):
        reply = {"fault_after_chunks": 1, "fault": {"engine": True}}
        async for event in scripted(reply).open(EmbeddingsRequest(input=("a", "b")), TARGET):
            events.append(event)
    assert [type(event) for event in events] == [Answered, Embedding]


async def test_hanging_answer_ends_only_by_cancellation_which_is_counted():
    provider = scripted({"text": "one two three", "hang_after_chunks": 1})
    received = []

    async def read():
        async with aclosing(provider.open(ask(stream=True), TARGET)) as events:
            async for event in events:
                received.append(event)

    task = asyncio.create_task(read())
    while len(received) < 2:
        await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)
    assert text_of(received) == "one"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (provider.stats.calls, provider.stats.cancelled, provider.stats.completed) == (1, 1, 0)


async def test_leaving_early_is_counted_as_cancelled():
    provider = scripted({"text": "one two three"})
    async with aclosing(provider.open(ask(stream=True), TARGET)) as events:
        await anext(events)
    await events_of(provider, ask())
    assert (provider.stats.calls, provider.stats.cancelled, provider.stats.completed) == (2, 1, 1)


async def test_delays_are_waited_for(monkeypatch):
    waited = []

    async def sleep(seconds):
        waited.append(seconds)

    monkeypatch.setattr("modelport.providers.scripted.provider.asyncio.sleep", sleep)
    reply = {"chunks": ["a", "b", "c"], "delay_seconds": 3, "delay_between_chunks_seconds": 0.5}
    assert text_of(await events_of(scripted(reply), ask())) == "abc"
    assert waited == [3, 0.5, 0.5]


# --- the script itself ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ("replies: [{txt: hi}]", "replies.0.txt: is not a key"),
        ("- {text: a}\n- {match: {contain: x}}", "replies.1.match.contain: is not a key"),
        ("- {fault: {status: 200}}", "replies.0.fault.status:"),
        ("- {text: a, json: {}}", "has both text and json"),
        ("- {match: {regex: '('}}", "is not a regular expression"),
        ("replies: [", "is not YAML"),
        ("text", "the script:"),
    ],
)
def test_wrong_script_names_file_and_key(tmp_path, content, place):
    path = tmp_path / "replies.yaml"
    path.write_text(content)
    with pytest.raises(ScriptFault) as caught:
        open_scripted(Settings(script=path), "script")
    assert str(path) in str(caught.value)
    assert place in str(caught.value)


def test_missing_script_is_named(tmp_path):
    with pytest.raises(ScriptFault, match=r"none\.yaml"):
        open_scripted(Settings(script=tmp_path / "none.yaml"), "script")


async def test_script_file_is_a_list_or_a_mapping(tmp_path):
    path = tmp_path / "replies.yaml"
    for content in ("- {text: hi}", "{seed: 3, replies: [{text: hi}]}"):
        path.write_text(content)
        assert text_of(await events_of(open_scripted(Settings(script=path), "script"), ask())) == "hi"


def test_script_and_inline_replies_exclude_each_other(tmp_path):
    with pytest.raises(ValueError, match="write them into the script file"):
        Settings.model_validate({"script": str(tmp_path), "replies": []})


# --- tokens and examples -------------------------------------------------------------------------------------------


@given(st.text())
@sample("  two  spaces\n\n")
@sample("snake_case ² e\u0301 🎉‍ x")
def test_tokens_are_the_text_again(text):
    assert "".join(tokens(text)) == text
    assert all(tokens(text))


SCALARS = st.sampled_from(
    [
        {"type": "string"},
        {"type": "string", "minLength": 7},
        {"type": "string", "maxLength": 2},
        {"type": "string", "format": "date"},
        {"type": "integer"},
        {"type": "integer", "minimum": 3, "maximum": 9},
        {"type": "integer", "exclusiveMinimum": 5},
        {"type": "integer", "maximum": -2},
        {"type": "integer", "multipleOf": 5, "minimum": 11},
        {"type": "number", "minimum": 0.3},
        {"type": "number", "exclusiveMaximum": 0},
        {"type": "boolean"},
        {"type": "null"},
        {"type": ["null", "integer"]},
        {"enum": ["b", 1]},
        {"const": {"k": 1}},
        {},
        True,
    ]
)
SCHEMAS = st.recursive(
    SCALARS,
    lambda inner: (
        st.builds(
            lambda properties, least: {
                "type": "object",
                "properties": properties,
                "required": list(properties)[:least],
            },
            st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
            st.integers(0, 3),
        )
        | st.builds(lambda items, least: {"type": "array", "items": items, "minItems": least}, inner, st.integers(0, 3))
        | st.builds(lambda parts: {"anyOf": parts}, st.lists(inner.filter(bool), min_size=1, max_size=2))
        | st.builds(lambda part: {"$defs": {"it": part}, "allOf": [{"$ref": "#/$defs/it"}]}, SCALARS)
    ),
    max_leaves=12,
)


@given(SCHEMAS.filter(lambda schema: isinstance(schema, dict) and "$defs" not in json.dumps(schema)))
@sample({"$defs": {"it": {"type": "integer", "minimum": 2}}, "allOf": [{"$ref": "#/$defs/it"}]})
@sample({"properties": {"a": {"$ref": "#/definitions/x"}}, "required": ["a"], "definitions": {"x": {"enum": [2]}}})
def test_example_obeys_its_schema(schema):
    jsonschema_rs.validate(schema, example(schema))


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$ref": "#/nowhere"},
        {"$ref": "https://example.com/x"},
        {"type": "array", "minItems": 10**9},
        {"type": "string", "minLength": 10**9},
        {"items": {"items": {"minItems": 900}, "minItems": 900}, "minItems": 900},
    ],
)
def test_schema_without_an_end_has_no_example(schema):
    with pytest.raises(NoExample):
        example(schema)
