"""Schemas are bounded and understood before the engine sees them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.engine.backend import WorkerError
from modelport.engine.backends.llama_cpp.schemas import make_constraint, read_response_format


def refusal(schema: Any) -> str:
    with pytest.raises(WorkerError) as raised:
        make_constraint(schema, "response_format")
    assert (raised.value.status, raised.value.code) == (422, "invalid_schema")
    return raised.value.message


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"anyOf": [schema]}
    return schema


def test_depth_is_measured_without_going_deep_oneself() -> None:
    make_constraint(nested(15), "response_format")
    assert "32 levels" in refusal(nested(16))
    assert "32 levels" in refusal(nested(100_000))


@pytest.mark.parametrize(
    ("schema", "fault"),
    [
        ({"enum": [str(number) for number in range(600)]}, "512 alternatives"),
        ({"anyOf": [{"const": number} for number in range(600)]}, "512 alternatives"),
        ({"description": "x" * 70_000}, "65536 bytes"),
        ({"properties": {str(n): {"type": "string"} for n in range(3000)}}, "4096 parts"),
        ({"type": "string", "maxLength": 100_000}, "'maxLength'"),
        ({"type": "array", "items": {"uniqueItems": True}}, "'uniqueItems'"),
        ({"not": {}}, "'not'"),
        ({"if": {}}, "'if'"),
        ({"$ref": "other.json"}, "'$ref'"),
        ({"anyOf": []}, "'anyOf'"),
        ({"properties": []}, "'properties'"),
        ({"items": [{"type": "string"}]}, "not an object"),
        ({"type": "nothing"}, "not a valid JSON schema"),
        ("text", "must be an object"),
        (False, "must be an object"),
    ],
)
def test_what_the_grammar_would_not_follow_is_refused(schema: Any, fault: str) -> None:
    assert fault in refusal(schema)


def test_annotations_and_unknown_formats_do_not_reach_the_grammar() -> None:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "T",
        "x-order": 1,
        "type": "object",
        "properties": {"title": {"type": "string", "format": "phone", "default": "a"}},
    }
    constraint = make_constraint(schema, "response_format")
    followed = {key: value for key, value in constraint.grammar_schema.items() if key != "x-guidance"}
    assert followed == {"type": "object", "properties": {"title": {"type": "string"}}}


def test_a_finished_text_is_checked_against_the_whole_schema() -> None:
    constraint = make_constraint({"type": "object", "required": ["a"]}, "response_format")
    constraint.check('{"a": 1}')
    for text in ('{"b": 1}', '{"a": 1', "[]", ""):
        with pytest.raises(WorkerError) as raised:
            constraint.check(text)
        assert (raised.value.status, raised.value.code) == (500, "engine_failed")


def test_formats_of_an_answer() -> None:
    assert read_response_format(None) is None
    assert read_response_format({"type": "text"}) is None
    objects = read_response_format({"type": "json_object"})
    assert objects is not None
    objects.check("{}")
    for value in ("json_object", {"type": "json_schema"}, {"type": "xml"}, 5):
        with pytest.raises(WorkerError):
            read_response_format(value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "string", "object", "#", "[a-"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "enum", "anyOf", "properties", "items", "$ref", "pattern", "maxLength", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_whatever_comes_as_a_schema_is_taken_or_refused(schema: Any) -> None:
    try:
        make_constraint(schema, "response_format")
    except WorkerError as error:
        assert error.status == 422
