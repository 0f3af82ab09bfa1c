"""A caller's JSON schema in one canonical, bounded form: constraining keywords only, references as `#/$defs/<name>`.

Only what the root reaches takes part: annotations and unused definitions are left out. Whatever the grammar would not
follow is refused, and so is a schema that grows too large once its references are followed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final
from urllib.parse import unquote, urljoin

import msgspec

from modelport.engine.backends.llama_cpp.patterns import expanded_length

DEPTH_LIMIT: Final = 32
NODES_LIMIT: Final = 4096
BYTES_LIMIT: Final = 65536
ALTERNATIVES_LIMIT: Final = 512  # of all enum, anyOf, oneOf and prefixItems lists together
COUNT_LIMIT: Final = 4096  # maxItems, maxLength …
TEXT_LIMIT: Final = 4096  # characters of a constant or of a property's name
PATTERNS_LIMIT: Final = 4096  # characters of all patterns together, counted repeats written out
MULTIPLE_LIMIT: Final = 10_000  # significant digits of multipleOf: the grammar counts remainders
NUMBER_LIMIT: Final = 2**53  # the engine rounds larger whole numbers

_FOLLOWED_WORDS: Final = (
    "type enum const anyOf oneOf allOf properties required additionalProperties patternProperties items prefixItems "
    "minItems maxItems minLength maxLength pattern format minimum maximum exclusiveMinimum exclusiveMaximum multipleOf "
    "minProperties maxProperties $ref"
)
_FOLLOWED: Final = frozenset(_FOLLOWED_WORDS.split())
_NOT_FOLLOWED_WORDS: Final = (
    "not if then else contains minContains maxContains uniqueItems propertyNames dependentRequired dependentSchemas "
    "dependencies unevaluatedProperties unevaluatedItems additionalItems $dynamicRef $recursiveRef"
)
_NOT_FOLLOWED: Final = frozenset(_NOT_FOLLOWED_WORDS.split())
_DEMANDS_NOTHING: Final = {"uniqueItems": False, "minContains": 0}
_FORMATS: Final = frozenset(("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"))
_DEFINITIONS: Final = ("$defs", "definitions")
SCHEMA_MAPS: Final = frozenset(("properties", "patternProperties"))
SCHEMA_LISTS: Final = frozenset(("anyOf", "oneOf", "allOf", "prefixItems"))
SINGLE_SCHEMAS: Final = frozenset(("items", "additionalProperties"))
_COUNTS: Final = frozenset(("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"))
_NUMBERS: Final = frozenset(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"))


class SchemaFault(Exception):
    """The schema cannot be used; the text completes "cannot be used: …"."""


@dataclass(frozen=True, slots=True)
class CanonicalSchema:
    """A schema whose references are `#/$defs/<name>`, and the definitions that they name."""

    root: Any
    definitions: dict[str, Any]

    def document(self) -> dict[str, Any]:
        """The schema as one document."""
        root = {} if self.root is True else self.root
        return {**root, "$defs": self.definitions} if self.definitions else root


def read_schema(schema: Any) -> CanonicalSchema:
    """The schema in canonical form. Raises SchemaFault."""
    _check_size(schema)
    if not isinstance(schema, dict) and schema is not True:
        raise SchemaFault("the schema must be an object")
    return _Reader(schema).read()


def _check_size(schema: Any) -> None:
    """Depth first with a list of its own: nothing here may depend on the depth that it measures."""
    nodes, open_values = 0, [(schema, 1)]
    while open_values:
        value, depth = open_values.pop()
        nodes += 1
        if depth > DEPTH_LIMIT:
            raise SchemaFault(f"it is nested more than {DEPTH_LIMIT} levels deep")
        if nodes > NODES_LIMIT:
            raise SchemaFault(f"it has more than {NODES_LIMIT} parts")
        if isinstance(value, dict):
            open_values += [(inner, depth + 1) for inner in value.values()]
        elif isinstance(value, list):
            open_values += [(inner, depth + 1) for inner in value]
    if len(msgspec.json.encode(schema)) > BYTES_LIMIT:
        raise SchemaFault(f"it is larger than {BYTES_LIMIT} bytes")


def _subschemas(node: dict[str, Any]) -> Iterator[Any]:
    """The schemas directly within a schema, definitions included."""
    for key, value in node.items():
        if key in SINGLE_SCHEMAS:
            yield value
        elif (key in SCHEMA_MAPS or key in _DEFINITIONS) and isinstance(value, dict):
            yield from value.values()
        elif key in SCHEMA_LISTS and isinstance(value, list):
            yield from value


class _Index:
    """Where references lead: by `$id`, by `$anchor`, and by JSON pointer from the schema with that `$id`."""

    def __init__(self, root: Any) -> None:
        self._resources: dict[str, Any] = {"": root}
        self._anchors: dict[str, Any] = {}
        self._bases: dict[int, str] = {}
        open_parts = [(root, "")]
        while open_parts:
            node, base = open_parts.pop()
            if not isinstance(node, dict):
                continue
            if isinstance(node.get("$id"), str):
                name, _, anchor = _joined(base, node["$id"]).partition("#")
                if anchor:
                    self._anchors[f"{name}#{anchor}"] = node  # as older drafts write an anchor
                else:
                    base = name
                    self._resources[base] = node
            if isinstance(node.get("$anchor"), str):
                self._anchors[f"{base}#{node['$anchor']}"] = node
            self._bases[id(node)] = base
            open_parts += [(inner, base) for inner in _subschemas(node)]

    def base_of(self, node: Any, default: str) -> str:
        """What references within `node` are relative to."""
        return self._bases.get(id(node), default)

    def resolve(self, reference: str, base: str) -> tuple[Any, str]:
        """The schema that is named, and its base."""
        target = _joined(base, reference)
        document, _, fragment = target.partition("#")
        if fragment and not fragment.startswith("/"):
            found = self._anchors.get(target, self)
        else:
            found = self._at(self._resources.get(document, self), fragment)
        if not isinstance(found, dict | bool):
            shown = reference if len(reference) <= 80 else reference[:80] + "…"
            raise SchemaFault(f"'$ref' must point into the schema itself, and '{shown}' does not")
        return found, self.base_of(found, document)

    def _at(self, node: Any, pointer: str) -> Any:
        for part in pointer.split("/")[1:]:
            name = unquote(part).replace("~1", "/").replace("~0", "~")
            if isinstance(node, dict) and name in node:
                node = node[name]
            elif (
                isinstance(node, list) and name.isascii() and name.isdigit() and len(name) < 6 and int(name) < len(node)
            ):
                node = node[int(name)]
            else:
                return self
        return node


def _joined(base: str, reference: str) -> str:
    if reference.startswith("#"):
        return base + reference
    try:
        return urljoin(base, reference)
    except ValueError:
        return reference


class _Reader:
    def __init__(self, schema: Any) -> None:
        self._schema = schema
        self._index = _Index(schema)
        self._names: dict[int, str] = {}
        self._pending: list[tuple[str, Any, str]] = []
        self._alternatives = 0
        self._pattern_characters = 0

    def read(self) -> CanonicalSchema:
        """Converts the root, then each definition once that something refers to."""
        root = self._convert(self._schema, "")
        definitions: dict[str, Any] = {}
        while self._pending:
            name, node, base = self._pending.pop()
            definitions[name] = self._convert(node, base)
        return CanonicalSchema(root, definitions)

    def _convert(self, node: Any, base: str) -> Any:
        if isinstance(node, bool):
            return node
        if not isinstance(node, dict):
            raise SchemaFault("a part that must be a schema is not an object")
        for key in sorted(_NOT_FOLLOWED & node.keys()):
            if key not in _DEMANDS_NOTHING or node[key] != _DEMANDS_NOTHING[key]:
                raise SchemaFault(f"the keyword '{key}' is not supported; leave it out")
        base = self._index.base_of(node, base)
        return {key: self._keyword(key, node[key], base) for key in node if key in _FOLLOWED and _constrains(key, node)}

    def _keyword(self, key: str, value: Any, base: str) -> Any:
        if key == "$ref":
            return self._reference(value, base)
        if key in SCHEMA_LISTS or key == "enum":
            self._count_alternatives(key, value)
        if key in SCHEMA_LISTS:
            return [self._convert(inner, base) for inner in value]
        if key in SCHEMA_MAPS:
            return {name: self._convert(inner, base) for name, inner in self._named(key, value)}
        if key in SINGLE_SCHEMAS:
            return self._convert(value, base)
        if key == "pattern":
            self._count_pattern(value)
        _check_value(key, value)
        return int(value) if key in _COUNTS else value

    def _reference(self, value: Any, base: str) -> str:
        if not isinstance(value, str):
            raise SchemaFault("'$ref' must be a text")
        node, own_base = self._index.resolve(value, base)
        if id(node) not in self._names:
            self._names[id(node)] = f"part{len(self._names)}"
            self._pending.append((self._names[id(node)], node, own_base))
        return f"#/$defs/{self._names[id(node)]}"

    def _named(self, key: str, value: Any) -> Iterator[tuple[str, Any]]:
        if not isinstance(value, dict):
            raise SchemaFault(f"'{key}' must be an object")
        for name, inner in value.items():
            _check_text("a property's name", name)
            if key == "patternProperties":
                self._count_pattern(name)
            yield name, inner

    def _count_alternatives(self, key: str, value: Any) -> None:
        if not isinstance(value, list) or not value:
            raise SchemaFault(f"'{key}' must be a list that is not empty")
        self._alternatives += len(value)
        if self._alternatives > ALTERNATIVES_LIMIT:
            raise SchemaFault(f"it has more than {ALTERNATIVES_LIMIT} alternatives (enum, anyOf, oneOf … together)")

    def _count_pattern(self, pattern: Any) -> None:
        if not isinstance(pattern, str):
            raise SchemaFault("'pattern' must be a text")
        _check_text("a pattern", pattern)
        self._pattern_characters += expanded_length(pattern)
        if self._pattern_characters > PATTERNS_LIMIT:
            raise SchemaFault(
                f"its patterns have more than {PATTERNS_LIMIT} characters, counted repeats ('{{n}}') written out"
            )


def _constrains(key: str, node: dict[str, Any]) -> bool:
    """Formats that the grammar does not know are annotations, as in the specification."""
    return key != "format" or (isinstance(node[key], str) and node[key] in _FORMATS)


def _check_value(key: str, value: Any) -> None:
    if key in _COUNTS and not (_is_number(value) and 0 <= value <= COUNT_LIMIT and float(value).is_integer()):
        raise SchemaFault(f"'{key}' must be a whole number from 0 to {COUNT_LIMIT}")
    if key in _NUMBERS and not (_is_number(value) and abs(value) <= NUMBER_LIMIT):
        raise SchemaFault(f"'{key}' must be a number within ±2^53")
    if key == "multipleOf":
        if not (_is_number(value) and 0 < value <= NUMBER_LIMIT):
            raise SchemaFault("'multipleOf' must be a number above 0")
        digits = "".join(map(str, Decimal(str(value)).as_tuple().digits)).rstrip("0")
        if int(digits) > MULTIPLE_LIMIT:
            raise SchemaFault(f"'multipleOf' must have digits up to {MULTIPLE_LIMIT} (trailing zeros do not count)")
    if key == "required" and not (isinstance(value, list) and all(isinstance(name, str) for name in value)):
        raise SchemaFault("'required' must be a list of texts")
    if key in ("const", "enum"):
        _check_constant(key, value)


def _check_constant(key: str, value: Any) -> None:
    for inner in _values(value):
        if isinstance(inner, str):
            _check_text(f"a text in '{key}'", inner)
        elif _is_number(inner) and abs(inner) > NUMBER_LIMIT:
            raise SchemaFault(f"a number in '{key}' is not within ±2^53")


def _values(value: Any) -> Iterator[Any]:
    open_values = [value]
    while open_values:
        found = open_values.pop()
        yield found
        if isinstance(found, dict):
            open_values += [*found, *found.values()]
        elif isinstance(found, list):
            open_values += found


def _check_text(what: str, text: str) -> None:
    if len(text) > TEXT_LIMIT:
        raise SchemaFault(f"{what} is longer than {TEXT_LIMIT} characters")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
