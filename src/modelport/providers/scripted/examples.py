"""The smallest value that a JSON schema allows, for schemas of the usual kind: `pattern`, `not`, `if` and
`uniqueItems` are not looked at."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, floor
from typing import Any, Final

DEPTH_LIMIT: Final = 64
SIZE_LIMIT: Final = 10_000
_FORMATS: Final = {
    "date": "2025-01-01",
    "date-time": "2025-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "duration": "P1D",
    "email": "someone@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


class NoExample(Exception):
    """The schema is endless, too large, or points nowhere."""


def example(schema: Any) -> Any:
    """A value that obeys `schema`. Raises NoExample."""
    try:
        return _Maker(schema if isinstance(schema, Mapping) else {}).make(schema, 0)
    except ArithmeticError as exc:
        raise NoExample("the schema's numbers are out of any range") from exc


class _Maker:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._made = 0

    def make(self, schema: Any, depth: int) -> Any:
        self._made += 1
        if depth > DEPTH_LIMIT or self._made > SIZE_LIMIT:
            raise NoExample("the schema asks for a value that is endless or too large")
        if not isinstance(schema, Mapping):
            return {}
        schema = self._flat(schema, depth)
        if "const" in schema:
            return schema["const"]
        if isinstance(schema.get("enum"), list) and schema["enum"]:
            return schema["enum"][0]
        kind = _kind(schema)
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, depth)
        return _scalar(kind, schema)

    def _flat(self, schema: Mapping[str, Any], depth: int) -> Mapping[str, Any]:
        """References followed, `allOf` joined, the first of `anyOf` and `oneOf` taken."""
        for _ in range(DEPTH_LIMIT):
            self._made += 1
            schema, more = self._one_level(schema)
            if not more:
                return schema
        raise NoExample("the schema refers to itself without end")

    def _one_level(self, schema: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
        if isinstance(schema.get("$ref"), str):
            rest = {key: value for key, value in schema.items() if key != "$ref"}
            return _joined(self._found(schema["$ref"]), rest), True
        if isinstance(schema.get("allOf"), list):
            result: Mapping[str, Any] = {key: value for key, value in schema.items() if key != "allOf"}
            for part in schema["allOf"]:
                if isinstance(part, Mapping):
                    result = _joined(result, part)
            return result, True
        for name in ("anyOf", "oneOf"):
            if isinstance(schema.get(name), list) and schema[name] and isinstance(schema[name][0], Mapping):
                rest = {key: value for key, value in schema.items() if key != name}
                return _joined(rest, schema[name][0]), True
        return schema, False

    def _found(self, reference: str) -> Mapping[str, Any]:
        if not reference.startswith("#"):
            raise NoExample("the schema refers to another document")
        place: Any = self._root
        for part in reference[1:].split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            place = place.get(name) if isinstance(place, Mapping) else None
        if not isinstance(place, Mapping):
            raise NoExample("the schema refers to a place that it does not have")
        return place

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties")
        properties = properties if isinstance(properties, Mapping) else {}
        required = schema.get("required")
        names = [name for name in required if isinstance(name, str)] if isinstance(required, list) else []
        return {name: self.make(properties.get(name, {"type": "string"}), depth + 1) for name in names}

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        first = schema.get("prefixItems")
        first = first if isinstance(first, list) else []
        least = max(_whole(schema.get("minItems"), 0), len(first))
        if least > SIZE_LIMIT:
            raise NoExample("the schema asks for a value that is endless or too large")
        items = schema.get("items", {"type": "string"})
        return [self.make(first[place] if place < len(first) else items, depth + 1) for place in range(least)]


def _joined(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    result = {**one, **other}
    for name in ("properties", "$defs"):
        if isinstance(one.get(name), Mapping) and isinstance(other.get(name), Mapping):
            result[name] = {**one[name], **other[name]}
    if isinstance(one.get("required"), list) and isinstance(other.get("required"), list):
        result["required"] = list(dict.fromkeys([*one["required"], *other["required"]]))
    return result


def _kind(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if isinstance(kind, str):
        return kind
    if "properties" in schema or "required" in schema:
        return "object"
    if "items" in schema or "prefixItems" in schema:
        return "array"
    return "number" if "minimum" in schema or "maximum" in schema else "string"


def _scalar(kind: str, schema: Mapping[str, Any]) -> Any:
    match kind:
        case "string":
            return _text(schema)
        case "integer" | "number":
            return _number(schema, is_whole=kind == "integer")
        case "boolean":
            return True
        case _:
            return None


def _text(schema: Mapping[str, Any]) -> str:
    text = _FORMATS.get(str(schema.get("format")), "text")
    least, most = _whole(schema.get("minLength"), 0), _whole(schema.get("maxLength"), len(text))
    if least > SIZE_LIMIT:
        raise NoExample("the schema asks for a value that is endless or too large")
    return text.ljust(least, "x")[: max(most, least)]


def _number(schema: Mapping[str, Any], *, is_whole: bool) -> int | float:
    low, high, step = (_real(schema.get(name)) for name in ("minimum", "maximum", "multipleOf"))
    above, below = _real(schema.get("exclusiveMinimum")), _real(schema.get("exclusiveMaximum"))
    unit = step or (1 if is_whole else 0.5)
    value: float = 0
    if above is not None and above >= value:
        value = (floor(above / unit) + 1) * unit
    if low is not None and low > value:
        value = ceil(low / unit) * unit if is_whole or step else low
    if high is not None and high < value:
        value = floor(high / unit) * unit if is_whole or step else high
    if below is not None and below <= value:
        value = (ceil(below / unit) - 1) * unit
    return int(value) if is_whole or float(value).is_integer() else value


def _whole(value: Any, default: int) -> int:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else default


def _real(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
