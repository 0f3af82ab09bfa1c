"""JSON schemas as grammars: bounded before anything reads them, refused where the grammar would not follow them.

The engine drops a schema that it cannot compile without a word, and a deep one kills it; so none reaches it unchecked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import jsonschema_rs
import msgspec

from modelport.engine.backend import WorkerError
from modelport.engine.backends.llama_cpp.finite import can_end

_DEPTH_LIMIT: Final = 32
_NODES_LIMIT: Final = 4096
_BYTES_LIMIT: Final = 65536
_ALTERNATIVES_LIMIT: Final = 512  # of all enum, anyOf, oneOf and prefixItems lists together
_COUNT_LIMIT: Final = 4096  # maxItems, maxLength …: the grammar unrolls them

_FOLLOWED_WORDS: Final = (
    "type enum const anyOf oneOf allOf properties required additionalProperties patternProperties items prefixItems "
    "minItems maxItems minLength maxLength pattern format minimum maximum exclusiveMinimum exclusiveMaximum multipleOf "
    "minProperties maxProperties $ref $defs definitions"
)
_FOLLOWED: Final = frozenset(_FOLLOWED_WORDS.split())
_NOT_FOLLOWED_WORDS: Final = (
    "not if then else contains minContains maxContains uniqueItems propertyNames dependentRequired dependentSchemas "
    "dependencies unevaluatedProperties unevaluatedItems additionalItems "
    "$dynamicRef $recursiveRef $dynamicAnchor $anchor $id"
)
_NOT_FOLLOWED: Final = frozenset(_NOT_FOLLOWED_WORDS.split())
_FORMATS: Final = frozenset(
    ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri")
)
_SCHEMA_MAPS: Final = frozenset(("properties", "patternProperties", "$defs", "definitions"))
_SCHEMA_LISTS: Final = frozenset(("anyOf", "oneOf", "allOf", "prefixItems"))
_COUNTS: Final = frozenset(("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"))

# One space after separators and no other white space: small models otherwise fill their answer with line breaks.
_LAYOUT: Final = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


@dataclass(frozen=True, slots=True)
class Constraint:
    """A schema that a result must match: what the grammar is made of, and the check of the finished text."""

    grammar_schema: Mapping[str, Any]
    validator: jsonschema_rs.Validator
    param: str

    def engine_fields(self) -> dict[str, Any]:
        """What the engine is told."""
        return {"json_schema": self.grammar_schema}

    def check(self, text: str) -> None:
        """Raises `engine_failed` for a finished text that is not what was promised."""
        try:
            is_valid = self.validator.is_valid(msgspec.json.decode(text))
        except (msgspec.DecodeError, RecursionError):
            is_valid = False
        if not is_valid:
            raise WorkerError.failed("The engine's answer does not match the requested format.")


def read_response_format(value: Any) -> Constraint | None:
    """`response_format`: text, json_object or json_schema."""
    match value:
        case None | {"type": "text"}:
            return None
        case {"type": "json_object"}:
            return make_constraint({"type": "object"}, "response_format")
        case {"type": "json_schema", "json_schema": {"schema": schema}}:
            return make_constraint(schema, "response_format")
        case _:
            raise WorkerError.invalid("response_format", "'response_format' must be text, json_object or json_schema.")


def make_constraint(schema: Any, param: str, *, are_parts_checked: bool = False) -> Constraint:
    """The schema as a constraint, or `invalid_schema` (422) with what is wrong with it.

    `are_parts_checked`: it was put together here of schemas that are each within the bounds.
    """
    if not are_parts_checked:
        _check_bounds(schema, param)
    if schema is True:
        schema = {}
    if not isinstance(schema, dict):
        raise _invalid(param, "the schema must be an object")
    grammar_schema = _for_grammar(schema, param)
    if not can_end(schema):
        raise _invalid(param, "no finite text can match it")
    try:
        validator = jsonschema_rs.validator_for(schema, retriever=_never_fetched)
    except (ValueError, jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
        raise _invalid(param, "it is not a valid JSON schema") from error
    return Constraint({**grammar_schema, "x-guidance": _LAYOUT}, validator, param)


def _never_fetched(uri: str) -> Any:
    """A caller's schema names no address that we would open."""
    raise ValueError("references to other documents are not followed")


def _check_bounds(schema: Any, param: str) -> None:
    """Depth first with a list of our own: nothing here may depend on the depth that it measures."""
    nodes, open_values = 0, [(schema, 1)]
    while open_values:
        value, depth = open_values.pop()
        nodes += 1
        if depth > _DEPTH_LIMIT:
            raise _invalid(param, f"it is nested more than {_DEPTH_LIMIT} levels deep")
        if nodes > _NODES_LIMIT:
            raise _invalid(param, f"it has more than {_NODES_LIMIT} parts")
        if isinstance(value, dict):
            open_values += [(inner, depth + 1) for inner in value.values()]
        elif isinstance(value, list):
            open_values += [(inner, depth + 1) for inner in value]
    if len(msgspec.json.encode(schema)) > _BYTES_LIMIT:
        raise _invalid(param, f"it is larger than {_BYTES_LIMIT} bytes")


def _for_grammar(schema: Any, param: str) -> dict[str, Any]:
    budget = [_ALTERNATIVES_LIMIT]

    def convert(node: Any) -> Any:
        if isinstance(node, bool):
            return node
        if not isinstance(node, dict):
            raise _invalid(param, "a part that must be a schema is not an object")
        refused = sorted(_NOT_FOLLOWED & node.keys())
        if refused:
            raise _invalid(param, f"the keyword '{refused[0]}' is not supported")
        return {key: keyword(key, value) for key, value in node.items() if key in _FOLLOWED and is_followed(key, value)}

    def is_followed(key: str, value: Any) -> bool:
        return key != "format" or value in _FORMATS  # any other format is an annotation

    def keyword(key: str, value: Any) -> Any:
        if key == "$ref" and not (isinstance(value, str) and value.startswith("#")):
            raise _invalid(param, "'$ref' must point into the schema itself")
        if key in _COUNTS and not (isinstance(value, int) and 0 <= value <= _COUNT_LIMIT):
            raise _invalid(param, f"'{key}' must be from 0 to {_COUNT_LIMIT}")
        if key in _SCHEMA_LISTS or key == "enum":
            if not isinstance(value, list) or not value:
                raise _invalid(param, f"'{key}' must be a list that is not empty")
            budget[0] -= len(value)
            if budget[0] < 0:
                raise _invalid(param, f"it has more than {_ALTERNATIVES_LIMIT} alternatives")
        if key in _SCHEMA_LISTS:
            return [convert(inner) for inner in value]
        if key in _SCHEMA_MAPS:
            if not isinstance(value, dict):
                raise _invalid(param, f"'{key}' must be an object")
            return {name: convert(inner) for name, inner in value.items()}
        return convert(value) if key in ("items", "additionalProperties") else value

    converted: dict[str, Any] = convert(schema)
    return converted


def _invalid(param: str, fault: str) -> WorkerError:
    return WorkerError(422, "invalid_schema", f"The schema in '{param}' cannot be used: {fault}.", param=param)
