"""Schemas that no finite text can match are found before the engine sees them."""

from __future__ import annotations

from typing import Any

import pytest

from modelport.engine.backend import WorkerError
from modelport.engine.backends.llama_cpp.finite import can_end
from modelport.engine.backends.llama_cpp.schemas import make_constraint


def node(required: list[str], c: Any) -> dict[str, Any]:
    return {"$ref": "#/$defs/n", "$defs": {"n": {"type": "object", "properties": {"c": c}, "required": required}}}


ITSELF = {"$ref": "#/$defs/n"}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (node(["c"], ITSELF), False),
        (node([], ITSELF), True),
        (node(["c"], {"anyOf": [ITSELF, {"type": "null"}]}), True),
        (node(["c"], {"anyOf": [ITSELF, ITSELF]}), False),
        (node(["c"], {"type": "array", "items": ITSELF}), True),
        (node(["c"], {"type": "array", "items": ITSELF, "minItems": 1}), False),
        (node(["c"], {"allOf": [ITSELF]}), False),
        ({"type": "object", "properties": {"x": node(["c"], ITSELF)["$defs"]["n"]}, "required": ["x"]}, True),
        ({"$ref": "#"}, False),
        ({"type": "object", "properties": {"x": {"$ref": "#"}}, "required": ["x"]}, False),
        ({"type": "string"}, True),
        ({}, True),
    ],
)
def test_a_schema_can_end_unless_it_demands_itself(schema: dict[str, Any], expected: bool) -> None:
    assert can_end(schema) is expected


def test_a_schema_that_never_ends_is_refused() -> None:
    with pytest.raises(WorkerError) as refusal:
        make_constraint(node(["c"], ITSELF), "response_format")
    assert (refusal.value.status, refusal.value.code, refusal.value.param) == (422, "invalid_schema", "response_format")


def test_many_references_to_one_part_do_not_take_for_ever() -> None:
    parts = {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 8} for i in range(12)}
    assert can_end({"$ref": "#/$defs/d0", "$defs": parts})
