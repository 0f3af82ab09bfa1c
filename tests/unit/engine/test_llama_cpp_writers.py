"""What the model writes becomes text and tool calls, however it is cut into tokens."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.engine.backend import WorkerError
from modelport.engine.backends.llama_cpp.generate import Ending
from modelport.engine.backends.llama_cpp.schemas import make_constraint
from modelport.engine.backends.llama_cpp.stops import Piece
from modelport.engine.backends.llama_cpp.tools import ToolUse, read_tool_use
from modelport.engine.backends.llama_cpp.writers import AutoCallWriter, ForcedCallWriter, TextWriter, Writer

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
TIME = {"type": "function", "function": {"name": "get_time"}}
WHOLE, CUT, LIMIT = Ending("stop", 9), Ending("stop", 9, is_cut=True), Ending("length", 9)


def use(**fields: Any) -> ToolUse:
    found = read_tool_use({"tools": [WEATHER, TIME], **fields}, "auto")
    assert found is not None
    return found


def written(writer: Writer, pieces: Iterable[str], ending: Ending = WHOLE) -> tuple[str, list[dict[str, str]], str]:
    """The text, the calls, and why it ended. Fails where fragments of calls interleave."""
    deltas = [delta for count, text in enumerate(pieces, 1) for delta in writer.feed(Piece(text, count))]
    last, reason = writer.end(ending)
    text, calls = "", list[dict[str, str]]()
    for delta in [*deltas, *last]:
        text += delta.fields.get("content", "")
        for fragment in delta.fields.get("tool_calls", ()):
            if "id" in fragment:
                calls.append({"name": fragment["function"]["name"], "arguments": ""})
            assert fragment["index"] == len(calls) - 1
            calls[-1]["arguments"] += fragment["function"]["arguments"]
    return text, calls, reason


def cuts(text: str) -> st.SearchStrategy[list[str]]:
    """The text in pieces of any size."""
    places = st.lists(st.integers(0, len(text)), max_size=8).map(lambda found: sorted({0, *found, len(text)}))
    return places.map(lambda ends: [text[start:end] for start, end in pairwise(ends)])


PARIS = '{"name": "get_weather", "arguments": {"city": "Pa}r\\"is"}}'
NOW = '{"name": "get_time", "arguments": {}}'
PARIS_CALL = {"name": "get_weather", "arguments": '{"city": "Pa}r\\"is"}'}
NOW_CALL = {"name": "get_time", "arguments": "{}"}


@given(cuts(PARIS))
def test_a_forced_call_is_a_call_however_it_is_cut(pieces: list[str]) -> None:
    assert written(ForcedCallWriter(use(tool_choice="required")), pieces) == ("", [PARIS_CALL], "tool_calls")


@given(cuts(f"{PARIS}\n{NOW}"))
def test_calls_on_lines_of_their_own_are_several_calls(pieces: list[str]) -> None:
    assert written(AutoCallWriter(use()), pieces) == ("", [PARIS_CALL, NOW_CALL], "tool_calls")


@given(cuts(f"```json\n{PARIS}\n```"))
def test_a_fenced_call_is_a_call(pieces: list[str]) -> None:
    assert written(AutoCallWriter(use()), pieces) == ("", [PARIS_CALL], "tool_calls")


@pytest.mark.parametrize("between", ["\n", "\n```\n```json\n", "\n</tool_call>\n<tool_call>\n"])
@given(data=st.data())
def test_calls_after_text_are_calls_and_their_fences_are_no_text(between: str, data: st.DataObject) -> None:
    for opening, closing in (("", ""), ("```json\n", "\n```"), ("<tool_call>\n", "\n</tool_call>")):
        pieces = data.draw(cuts(f"Let me `see` <this> {{}}:\n{opening}{PARIS}{between}{NOW}{closing}"))
        told = ("Let me `see` <this> {}:\n", [PARIS_CALL, NOW_CALL], "tool_calls")
        assert written(AutoCallWriter(use()), pieces) == told


@given(cuts('Then { "name" : "get_time", "arguments": {}}'))
def test_a_call_after_text_may_have_its_own_white_space(pieces: list[str]) -> None:
    assert written(AutoCallWriter(use()), pieces) == ("Then ", [NOW_CALL], "tool_calls")


PROSE = 'Use ``a`` and ```python\n{"names": "get_time"}\n``` or ```json\n{"other": {"name": 1}}\n``` <b>{x}</b> `'


@given(cuts(PROSE))
def test_text_with_fences_of_other_things_stays_text(pieces: list[str]) -> None:
    assert written(AutoCallWriter(use()), pieces) == (PROSE, [], "stop")


@pytest.mark.parametrize(
    ("held", "shown"), [('```json\n{"na', ""), ('{"name": ', ""), ("{", "{"), ("`", "`"), ("<t", "<t")]
)
def test_text_that_is_cut_within_the_beginning_of_a_call_does_not_show_it(held: str, shown: str) -> None:
    assert written(AutoCallWriter(use()), ["Well: ", held], LIMIT) == (f"Well: {shown}", [], "length")


@given(st.lists(st.sampled_from(["`", "``", "```", "json", "{", "}", "\n", "a", '"nam"', "<", "<tool"]), max_size=20))
def test_text_without_a_call_comes_out_as_it_is(parts: list[str]) -> None:
    pieces = ["Well", *parts]
    assert written(AutoCallWriter(use()), pieces) == ("".join(pieces), [], "stop")


def test_text_keeps_its_log_probabilities_though_it_was_held_back() -> None:
    writer = AutoCallWriter(use())
    deltas = [*writer.feed(Piece("a", 1, 1, {"n": 1})), *writer.feed(Piece("`", 2, 2, {"n": 2}))]
    deltas += [*writer.feed(Piece("b", 3, 3, {"n": 3})), *writer.end(WHOLE)[0]]
    assert [entry["n"] for delta in deltas for entry in delta.logprobs] == [1, 2, 3]


def test_a_call_that_is_cut_short_says_so() -> None:
    for ending, reason in ((LIMIT, "length"), (CUT, "stop")):
        told = written(ForcedCallWriter(use(tool_choice="required")), [PARIS[:45]], ending)
        assert told == ("", [{"name": "get_weather", "arguments": PARIS[37:45]}], reason)


@pytest.mark.parametrize("text", ["", "{", '{"name": "get_weather", "arguments": {"city"', "no call"])
def test_a_forced_call_that_is_none_is_the_engines_failure(text: str) -> None:
    with pytest.raises(WorkerError) as raised:
        written(ForcedCallWriter(use(tool_choice="required")), [text])
    assert raised.value.code == "engine_failed"


def test_a_forced_call_with_wrong_arguments_is_the_engines_failure() -> None:
    with pytest.raises(WorkerError):
        written(ForcedCallWriter(use(tool_choice="required")), ['{"name": "get_weather", "arguments": {"town": 1}}'])


def test_checked_text_that_ended_of_itself_must_fit() -> None:
    constraint = make_constraint({"type": "object", "required": ["a"]}, "response_format")
    assert written(TextWriter(constraint), ['{"a"', ": 1}"]) == ('{"a": 1}', [], "stop")
    assert written(TextWriter(constraint), ['{"a"'], LIMIT) == ('{"a"', [], "length")
    assert written(TextWriter(constraint), ['{"a"'], CUT) == ('{"a"', [], "stop")
    with pytest.raises(WorkerError):
        written(TextWriter(constraint), ['{"b": 1}'])


def test_references_in_parameters_still_point_to_the_right_place() -> None:
    parameters = {
        "type": "object",
        "properties": {"to": {"$ref": "#/$defs/place"}},
        "required": ["to"],
        "$defs": {"place": {"type": "string", "maxLength": 3}},
    }
    tool = {"type": "function", "function": {"name": "go", "parameters": parameters}}
    found = read_tool_use({"tools": [TIME, tool], "tool_choice": "required"}, "forced")
    assert found is not None
    found.tools["go"].constraint.check(json.dumps({"to": "Rom"}))
    with pytest.raises(WorkerError):
        found.tools["go"].constraint.check(json.dumps({"to": "London"}))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": "all"}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools"),
        ({"tools": [TIME, TIME]}, "tools"),
        ({"tools": [TIME] * 129}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "array"}}}]}, "tools"),
        ({"tools": [TIME], "tool_choice": "some"}, "tool_choice"),
        ({"tools": [TIME], "tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
    ],
)
def test_tools_that_make_no_sense_are_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(WorkerError) as raised:
        read_tool_use(fields, "auto")
    assert (raised.value.status, raised.value.param) == (422, param)


BROKEN = {"type": "function", "function": {"name": "broken", "parameters": {"not": {}}}}


def test_only_the_schemas_of_tools_that_may_be_called_are_looked_at() -> None:
    tools = [BROKEN, TIME]
    named = read_tool_use(
        {"tools": tools, "tool_choice": {"type": "function", "function": {"name": "get_time"}}}, "auto"
    )
    assert named is not None
    assert list(named.tools) == ["get_time"]
    assert read_tool_use({"tools": tools, "tool_choice": "none"}, "auto") is None
    for choice in (None, "auto", "required", {"type": "function", "function": {"name": "broken"}}):
        with pytest.raises(WorkerError) as raised:
            read_tool_use({"tools": tools, "tool_choice": choice}, "auto")
        assert raised.value.message.startswith(
            "The schema of the tool 'broken' in 'tools' cannot be used: the keyword 'not'"
        )


def test_many_large_schemas_are_refused_together() -> None:
    leaf = {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(500)}}
    parameters = {"properties": {f"q{i}": {"$ref": "#/$defs/leaf"} for i in range(30)}, "$defs": {"leaf": leaf}}
    tools = [{"type": "function", "function": {"name": f"f{i}", "parameters": parameters}} for i in range(2)]
    assert read_tool_use({"tools": tools[:1]}, "auto") is not None
    with pytest.raises(WorkerError) as raised:
        read_tool_use({"tools": tools}, "auto")
    assert "16384 parts together" in raised.value.message


def test_a_model_is_not_asked_for_more_than_it_can() -> None:
    for ability, fields in (("forced", {}), ("none", {"tool_choice": "required"})):
        with pytest.raises(WorkerError) as raised:
            read_tool_use({"tools": [TIME], **fields}, ability)
        assert raised.value.code == "parameter_not_supported"
    assert read_tool_use({"tools": [TIME], "tool_choice": "none"}, "none") is None
    assert read_tool_use({"tools": []}, "none") is None
