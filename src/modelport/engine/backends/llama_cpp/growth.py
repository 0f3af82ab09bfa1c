"""How far a canonical schema grows once its references are followed: every path counts, not every part."""

from __future__ import annotations

from math import prod
from typing import Any, Final, NamedTuple

from modelport.engine.backends.llama_cpp.canonical import (
    ALTERNATIVES_LIMIT,
    SCHEMA_LISTS,
    SCHEMA_MAPS,
    CanonicalSchema,
    SchemaFault,
)

PARTS_LIMIT: Final = 16384
LEVELS_LIMIT: Final = 100


class _Growth(NamedTuple):
    """`forms`: alternatives left when allOf is merged into anyOf and oneOf. `levels`: of schemas within schemas."""

    parts: int = 1
    forms: int = 1
    levels: int = 1


def check_growth(schema: CanonicalSchema) -> int:
    """The number of parts with references followed. Raises SchemaFault."""
    return _Measure(schema.definitions).of(schema.root, 1, 0).parts


class _Measure:
    def __init__(self, definitions: dict[str, Any]) -> None:
        self._definitions = definitions
        self._known: dict[str, _Growth] = {}
        self._open: dict[str, int] = {}

    def of(self, node: Any, level: int, steps: int) -> _Growth:
        """`level`: schemas around this one; `steps`: how many of those stand for another place in the answer."""
        if level > LEVELS_LIMIT:
            raise SchemaFault(f"it is nested more than {LEVELS_LIMIT} levels deep with its references followed")
        if not isinstance(node, dict):
            return _Growth()
        parts, forms, levels = 1, 1, 0
        for key, value in node.items():
            if key == "$ref":
                inner = [self._of_reference(value.removeprefix("#/$defs/"), level + 1, steps)]
            elif key in SCHEMA_LISTS:
                inner = [self.of(one, level + 1, steps + (key == "prefixItems")) for one in value]
            elif key in SCHEMA_MAPS:
                inner = [self.of(one, level + 1, steps + 1) for one in value.values()]
            elif key in ("items", "additionalProperties"):
                inner = [self.of(value, level + 1, steps + 1)]
            else:
                continue
            parts += sum(one.parts for one in inner)
            levels = max([levels, *(one.levels for one in inner)])
            if key in ("$ref", "allOf"):
                forms *= prod(one.forms for one in inner)
            elif key in ("anyOf", "oneOf"):
                forms *= sum(one.forms for one in inner)
            if parts > PARTS_LIMIT:
                raise SchemaFault(f"it has more than {PARTS_LIMIT} parts with its references followed")
            if forms > ALTERNATIVES_LIMIT:
                raise SchemaFault(f"it has more than {ALTERNATIVES_LIMIT} alternatives when allOf is merged")
        return _Growth(parts, forms, levels + 1)

    def _of_reference(self, name: str, level: int, steps: int) -> _Growth:
        if name in self._open:
            if self._open[name] == steps:
                raise SchemaFault("a '$ref' leads back to itself with no property or item between")
            return _Growth()  # a recursion is followed only as far as an answer goes
        growth = self._known.get(name)
        if growth is None:
            self._open[name] = steps
            growth = self.of(self._definitions[name], level, steps)
            del self._open[name]
            self._known[name] = growth
        if level + growth.levels > LEVELS_LIMIT:
            raise SchemaFault(f"it is nested more than {LEVELS_LIMIT} levels deep with its references followed")
        return growth
