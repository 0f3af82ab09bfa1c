"""JSON schemas as grammars, and the check of what was written by them.

The engine drops a grammar that it cannot compile without a word, and a large one holds or kills it; so a schema is
bounded here (`canonical`, `growth`, `finite`) and compiled in a process of its own (`trial`) before the engine sees it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import jsonschema_rs
import msgspec

from modelport.engine.backend import WorkerError
from modelport.engine.backends.llama_cpp.canonical import CanonicalSchema, SchemaFault, read_schema
from modelport.engine.backends.llama_cpp.finite import can_end
from modelport.engine.backends.llama_cpp.growth import check_growth

# Without forcing, a long constant costs as much per token as any text; with it the engine would write it out each time.
GRAMMAR_HEAD: Final = '%llguidance {"no_forcing": true}\n'

# One space after separators and no other white space: small models otherwise fill their answer with line breaks.
_LAYOUT: Final = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_REGEX_BYTES: Final = 1 << 20
_COSTLY: Final = ("pattern", "multipleOf")
_COSTLY_LIMIT: Final = 48


@dataclass(frozen=True, slots=True)
class Constraint:
    """A schema that a result must match: its canonical form for grammars, and the check of the finished text."""

    schema: CanonicalSchema
    parts: int
    param: str
    validator: jsonschema_rs.Draft202012Validator = field(repr=False)

    def grammar(self) -> str:
        """The grammar of the texts that match."""
        return f"{GRAMMAR_HEAD}start: {grammar_rule(self.schema.document())}\n"

    def trials(self) -> list[str]:
        """The grammar, and those of its parts that a walk through it may not meet."""
        return [self.grammar(), *costly_grammars([self.schema])]

    def check(self, text: str) -> None:
        """Raises `engine_failed` for a finished text that is not what was promised."""
        try:
            is_valid = self.validator.is_valid(msgspec.json.decode(text))
        except (msgspec.DecodeError, RecursionError):
            is_valid = False
        if not is_valid:
            raise WorkerError.failed("The engine's answer does not match the requested format.")


def read_response_format(value: Any) -> Constraint | None:
    """`response_format`: text, json_object (with a schema beside it, too) or json_schema."""
    match value:
        case None | {"type": "text"}:
            return None
        case {"type": "json_object", "schema": schema} if schema is not None:
            return make_constraint(schema, "response_format")
        case {"type": "json_object"}:
            return make_constraint({"type": "object"}, "response_format")
        case {"type": "json_schema", "json_schema": {"schema": schema}}:
            return make_constraint(schema, "response_format")
        case _:
            raise WorkerError.invalid("response_format", "'response_format' must be text, json_object or json_schema.")


def make_constraint(schema: Any, param: str, *, of: str = "") -> Constraint:
    """The schema as a constraint, or `invalid_schema` (422) with what is wrong with it.

    `of`: what in `param` has the schema.
    """
    try:
        canonical = read_schema(schema)
        parts = check_growth(canonical)
        document = canonical.document()
        validator = _validator(document)
        if not can_end(document):
            raise SchemaFault("no finite text can match it")
    except SchemaFault as fault:
        raise invalid_schema(param, str(fault), of=of) from fault
    return Constraint(canonical, parts, param, validator)


def invalid_schema(param: str, fault: str, *, of: str = "") -> WorkerError:
    """The refusal of a schema, with what is wrong with it."""
    where = f"The schema of {of} in '{param}'" if of else f"The schema in '{param}'"
    message = f"{where} cannot be used: {fault}. Simplify it, or ask without it and check the answer yourself."
    return WorkerError(422, "invalid_schema", message, param=param)


def grammar_rule(schema: Mapping[str, Any]) -> str:
    """The part of a grammar that writes JSON by a canonical schema."""
    return f"%json {msgspec.json.encode({**schema, 'x-guidance': _LAYOUT}).decode()}"


def costly_grammars(schemas: Sequence[CanonicalSchema]) -> list[str]:
    """Grammars of single patterns and multiples, which can cost more than all around them."""
    found: dict[str, None] = {}
    open_values: list[Any] = [[schema.root, schema.definitions] for schema in schemas]
    while open_values and len(found) < _COSTLY_LIMIT:
        value = open_values.pop()
        if isinstance(value, dict):
            open_values += value.values()
            costly = {key: value[key] for key in _COSTLY if isinstance(value.get(key), str | int | float)}
            if costly:
                found[f"{GRAMMAR_HEAD}start: {grammar_rule(costly)}\n"] = None
        elif isinstance(value, list):
            open_values += value
    return list(found)


def _validator(document: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    """Its patterns take linear time, and it fetches nothing: every reference is within the document."""
    patterns = jsonschema_rs.RegexOptions(size_limit=_REGEX_BYTES, dfa_size_limit=_REGEX_BYTES)
    try:
        return jsonschema_rs.Draft202012Validator(document, pattern_options=patterns, retriever=_never_fetched)
    except (ValueError, jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
        raise SchemaFault("it is not a valid JSON schema of draft 2020-12, or has a pattern with look-around, a back "
                          "reference or too many repeats") from error  # fmt: skip


def _never_fetched(uri: str) -> Any:
    """A caller's schema names no address that we would open."""
    raise ValueError("references to other documents are not followed")
