"""Schemas are bounded and understood before the engine sees them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.engine.backend import WorkerError
from modelport.engine.backends.llama_cpp.patterns import expanded_length
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


def chain(word: str, count: int, width: int = 2) -> dict[str, Any]:
    """Definitions of which each names the next one `width` times."""
    parts: dict[str, Any] = {f"a{i}": {word: [{"$ref": f"#/$defs/a{i + 1}"}] * width} for i in range(count)}
    return {"$ref": "#/$defs/a0", "$defs": {**parts, f"a{count}": {"type": "integer"}}}


def tree(count: int) -> dict[str, Any]:
    """Objects whose two properties are both the next object."""
    parts: dict[str, Any] = {
        f"a{i}": {"properties": {side: {"$ref": f"#/$defs/a{i + 1}"} for side in ("left", "right")}}
        for i in range(count)
    }
    return {"$ref": "#/$defs/a0", "$defs": {**parts, f"a{count}": {}}}


@pytest.mark.parametrize(
    ("schema", "fault"),
    [
        ({"enum": [str(number) for number in range(600)]}, "512 alternatives"),
        ({"anyOf": [{"const": number} for number in range(600)]}, "512 alternatives"),
        ({"description": "x" * 70_000}, "65536 bytes"),
        ({"properties": {str(n): {"type": "string"} for n in range(3000)}}, "4096 parts"),
        (chain("allOf", 30), "16384 parts with its references followed"),
        (chain("anyOf", 20), "512 alternatives when allOf is merged"),
        (chain("oneOf", 12), "512 alternatives when allOf is merged"),
        (
            {"allOf": [{"anyOf": [{"required": [f"{i}{j}"]} for j in range(5)]} for i in range(5)]},
            "512 alternatives when",
        ),
        (tree(16), "16384 parts with its references followed"),
        (chain("allOf", 500, 1), "100 levels deep with its references followed"),
        (chain("prefixItems", 300, 1), "100 levels deep with its references followed"),
        ({"anyOf": [{"$ref": "#"}, {"type": "null"}]}, "leads back to itself"),
        ({"const": "x" * 5000}, "a text in 'const' is longer than 4096 characters"),
        ({"const": {"a": ["x" * 5000]}}, "a text in 'const' is longer than 4096 characters"),
        ({"const": {"x" * 5000: 1}}, "a text in 'const' is longer than 4096 characters"),
        ({"enum": ["a", "x" * 5000]}, "a text in 'enum' is longer than 4096 characters"),
        ({"properties": {"x" * 5000: {}}}, "a property's name is longer than 4096 characters"),
        ({"const": 2**53 + 1}, "a number in 'const' is not within"),
        ({"enum": [1, -(10**300)]}, "a number in 'enum' is not within"),
        ({"type": "integer", "minimum": 10**30}, "'minimum' must be a number within"),
        ({"exclusiveMinimum": True}, "'exclusiveMinimum' must be a number within"),
        ({"type": "integer", "multipleOf": 1_234_567}, "'multipleOf' must have digits up to 10000"),
        ({"type": "number", "multipleOf": 0.123457}, "'multipleOf' must have digits up to 10000"),
        ({"multipleOf": 0}, "'multipleOf' must be a number above 0"),
        ({"type": "string", "maxLength": 100_000}, "'maxLength' must be a whole number from 0 to 4096"),
        ({"type": "array", "minItems": 1.5}, "'minItems' must be a whole number from 0 to 4096"),
        ({"minProperties": -1}, "'minProperties' must be a whole number from 0 to 4096"),
        ({"pattern": "^(b{300}){300}$"}, "patterns have more than 4096 characters"),
        ({"patternProperties": {"^(b{300}){300}$": {}}}, "patterns have more than 4096 characters"),
        ({"allOf": [{"pattern": "^c{900}$"}] * 5}, "patterns have more than 4096 characters"),
        ({"pattern": "[" * 60_000}, "a pattern is longer than 4096 characters"),
        ({"pattern": "^(?=a)b"}, "look-around"),
        ({"pattern": ["a"]}, "'pattern' must be a text"),
        ({"type": "array", "items": {"uniqueItems": True}}, "the keyword 'uniqueItems' is not supported"),
        ({"not": {}}, "'not'"),
        ({"if": {}}, "'if'"),
        ({"$ref": "other.json"}, "'other.json' does not"),
        ({"$ref": "http://[/"}, "does not"),
        ({"$ref": "#/$defs/absent"}, "does not"),
        ({"$ref": 5}, "'$ref' must be a text"),
        ({"$ref": "#/title", "title": "x"}, "does not"),
        ({"anyOf": []}, "'anyOf'"),
        ({"properties": []}, "'properties'"),
        ({"required": "a"}, "'required' must be a list of texts"),
        ({"required": 5, "type": "object"}, "'required' must be a list of texts"),
        ({"items": [{"type": "string"}]}, "not an object"),
        ({"type": "nothing"}, "not a valid JSON schema"),
        ("text", "must be an object"),
        (False, "must be an object"),
    ],
)
def test_what_the_grammar_would_not_follow_is_refused(schema: Any, fault: str) -> None:
    assert fault in refusal(schema)


def canonical(schema: Any) -> Any:
    return make_constraint(schema, "response_format").schema.document()


def test_annotations_and_unknown_formats_do_not_reach_the_grammar() -> None:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://example.com/a.json",
        "$comment": "for us",
        "title": "T",
        "description": "D",
        "x-order": 1,
        "x-guidance": {"lenient": True},
        "type": "object",
        "properties": {
            "title": {"type": "string", "format": "phone", "default": "a", "examples": ["b"], "readOnly": True},
            "link": {"type": "string", "format": "uri", "deprecated": True, "$anchor": "link"},
            "when": {"format": "date", "uniqueItems": False, "format2": [], "contentMediaType": "text/plain"},
            "odd": {"format": ["date"], "$id": "#odd"},
        },
    }
    plain = {"title": {"type": "string"}, "link": {"type": "string"}, "when": {"format": "date"}, "odd": {}}
    assert canonical(schema) == {"type": "object", "properties": plain}


def test_parts_that_nothing_refers_to_take_no_part() -> None:
    unused = {"not": {}, "$ref": "nowhere"}
    used = {"type": "integer"}
    schema = {
        "properties": {"a": {"$ref": "#/definitions/b"}},
        "definitions": {"b": used, "c": unused},
        "$defs": {"d": 5},
    }
    assert canonical(schema) == {"properties": {"a": {"$ref": "#/$defs/part0"}}, "$defs": {"part0": used}}


@pytest.mark.parametrize(
    ("reference", "schema"),
    [
        ("#/properties/b/anyOf/0", {}),
        ("#/$defs/a~1b%20c", {}),
        ("#here", {}),
        ("https://example.com/root.json#/$defs/a~1b%20c", {"$id": "https://example.com/root.json"}),
        ("root.json#/$defs/a~1b%20c", {"$id": "https://example.com/root.json"}),
        ("named", {}),
        ("https://example.com/named", {"$id": "https://example.com/"}),
        ("#older", {}),
    ],
)
def test_references_are_followed_however_they_are_written(reference: str, schema: dict[str, Any]) -> None:
    found = {"type": "boolean"}
    schema |= {
        "properties": {"a": {"$ref": reference}, "b": {"anyOf": [found]}},
        "$defs": {
            "a/b c": {**found, "$anchor": "here"},
            "named": {**found, "$id": "named"},
            "older": {**found, "$id": "#older"},
        },
    }
    constraint = make_constraint(schema, "response_format")
    constraint.check('{"a": true}')
    with pytest.raises(WorkerError):
        constraint.check('{"a": 5}')


def test_references_within_a_named_part_are_relative_to_it() -> None:
    inner = {"$id": "inner", "$ref": "#/$defs/x", "$defs": {"x": {"type": "boolean"}}}
    schema = {"properties": {"a": inner}, "$defs": {"x": {"type": "integer"}}}
    assert canonical(schema)["$defs"] == {"part0": {"type": "boolean"}}


def test_a_recursive_schema_is_taken() -> None:
    node = {
        "type": "object",
        "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
        "required": ["next"],
    }
    make_constraint(node, "response_format").check('{"next": {"next": null}}')


@pytest.mark.parametrize(
    ("pattern", "length"),
    [
        ("abc", 3),
        ("a{3}", 3),
        ("(ab{3}){2}", 10),
        (r"\d{2,5}[a-z]{4}\p{L}", 10),
        ("a{2,}", 2),
        ("[]{9}]", 1),
        ("[^]a", 1),
        ("[" * 4000, 1),
        ("{3}", 0),
        ("((", 0),
    ],
)
def test_patterns_are_measured_with_their_repeats_written_out(pattern: str, length: int) -> None:
    assert expanded_length(pattern) == length


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
    shaped = read_response_format({"type": "json_object", "schema": {"required": ["a"]}})
    assert shaped is not None
    shaped.check('{"a": 1}')
    with pytest.raises(WorkerError):
        shaped.check("{}")
    for value in ("json_object", {"type": "json_schema"}, {"type": "xml"}, {"type": "json_object", "schema": 5}, 5):
        with pytest.raises(WorkerError):
            read_response_format(value)


WORDS = (
    "type enum const anyOf allOf properties required items additionalProperties $ref $id $anchor $defs pattern "
    "patternProperties format maxLength minItems multipleOf minimum x"
)
KEYWORDS = WORDS.split()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "string", "object", "#", "[a-"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYWORDS),
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
