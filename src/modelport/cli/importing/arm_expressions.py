"""Expressions of ARM templates: `[format('{0}/{1}', parameters('account'), 'gpt-4o')]`. The few functions that names,
capacities and loops are written with; everything else is unknown, and says so."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Final

TOKEN: Final = re.compile(r"\s*('(?:[^']|'')*'|-?\d+|[A-Za-z_]\w*|[()\[\].,])")
UNIQUE: Final = "0unique0"
"""Stands for what only Azure knows, in names."""
OF_AZURE: Final = dict.fromkeys(("id", "name", "location", "subscriptionId", "tenantId"), UNIQUE)
FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = {
    "concat": lambda *parts: "".join(map(str, parts)),
    "format": lambda text, *values: re.sub(r"\{(\d+)\}", lambda found: str(values[int(found[1])]), text),
    "string": str,
    "int": int,
    "bool": lambda value: str(value).lower() in ("true", "1"),
    "tolower": lambda text: text.lower(),
    "toupper": lambda text: text.upper(),
    "length": len,
    "createarray": lambda *items: list(items),
    "equals": lambda one, other: one == other,
    "not": lambda value: not value,
    "and": lambda *values: all(values),
    "or": lambda *values: any(values),
    "empty": lambda value: not value,
    "contains": lambda holder, item: item in holder,
    "coalesce": lambda *values: next((value for value in values if value is not None), None),
    "true": lambda: True,
    "false": lambda: False,
    "null": lambda: None,
    "replace": lambda text, old, new: text.replace(old, new),
    "last": lambda items: items[-1],
    "first": lambda items: items[0],
    "split": lambda text, at: text.split(at),
    "take": lambda text, count: text[:count],
    "trim": lambda text: text.strip(),
    "tryget": lambda holder, *path: reduce(lambda at, key: at.get(key) if isinstance(at, dict) else None, path, holder),
    "createobject": lambda *items: dict(zip(items[::2], items[1::2], strict=True)),
    "union": lambda *maps: {key: value for one in maps for key, value in one.items()},
    "uniquestring": lambda *parts: UNIQUE,
    "guid": lambda *parts: UNIQUE,
    "resourcegroup": lambda *name: OF_AZURE,
    "subscription": lambda *name: OF_AZURE,
    "tenant": lambda: OF_AZURE,
    "add": lambda one, other: one + other,
    "mul": lambda one, other: one * other,
}


class Unknown(Exception):
    """An expression whose value is known to Azure alone; the text is the part that is not known."""


@dataclass(frozen=True)
class Scope:
    """What expressions of a template can refer to."""

    parameters: Mapping[str, Any]
    """Values; a parameter without one is absent."""
    variables: Mapping[str, Any]
    """As written."""
    index: int | None = None
    """Of the copy that is being made."""

    def value(self, written: Any) -> Any:
        """A copy of plain data with every expression replaced by its value. Raises Unknown."""
        if isinstance(written, Mapping):
            return {key: self.value(item) for key, item in written.items()}
        if isinstance(written, list):
            return [self.value(item) for item in written]
        if not isinstance(written, str) or not written.startswith("[") or not written.endswith("]"):
            return written
        if written.startswith("[["):
            return written[1:]
        return _Reader(written[1:-1], self).whole()

    def call(self, name: str, arguments: Sequence[Any]) -> Any:
        """The value of a function; Unknown where it has none, so that `if` can leave a branch aside."""
        key = name.lower()
        if key == "if" and len(arguments) == 3 and not isinstance(arguments[0], Unknown):
            return arguments[1] if arguments[0] else arguments[2]
        if (unknown := next((value for value in arguments if isinstance(value, Unknown)), None)) is not None:
            return unknown
        if key in ("parameters", "variables") and len(arguments) == 1:
            values = self.parameters if key == "parameters" else self.variables
            try:
                return self.value(values[arguments[0]])
            except KeyError:
                return Unknown(f"{name}('{arguments[0]}')")
            except Unknown as unknown:
                return unknown
        if key == "copyindex" and self.index is not None:
            return self.index + next((value for value in arguments if isinstance(value, int)), 0)
        if key not in FUNCTIONS:
            return Unknown(f"{name}()")
        try:
            return FUNCTIONS[key](*arguments)
        except (TypeError, ValueError, AttributeError, LookupError):
            return Unknown(f"{name}()")


class _Reader:
    """A recursive descent over one expression."""

    def __init__(self, text: str, scope: Scope) -> None:
        self._text = text
        self._scope = scope
        self._tokens = TOKEN.findall(text)
        if TOKEN.sub("", text).strip():
            raise Unknown(text)
        self._at = 0

    def whole(self) -> Any:
        """The value of all of it."""
        found = self._expression()
        if self._at != len(self._tokens):
            raise Unknown(self._text)
        if isinstance(found, Unknown):
            raise found
        return found

    def _next(self) -> str:
        if self._at >= len(self._tokens):
            raise Unknown(self._text)
        self._at += 1
        token: str = self._tokens[self._at - 1]
        return token

    def _takes(self, token: str) -> bool:
        if self._at < len(self._tokens) and self._tokens[self._at] == token:
            self._at += 1
            return True
        return False

    def _expression(self) -> Any:
        token = self._next()
        if token.startswith("'"):
            value: Any = token[1:-1].replace("''", "'")
        elif token.lstrip("-").isdigit():
            value = int(token)
        elif self._takes("("):
            value = self._scope.call(token, self._arguments())
        else:
            raise Unknown(self._text)
        while True:
            if self._takes("."):
                value = self._inside(value, self._next())
            elif self._takes("["):
                value = self._inside(value, self._expression())
                self._takes("]")
            else:
                return value

    def _arguments(self) -> list[Any]:
        found: list[Any] = []
        while not self._takes(")"):
            found.append(self._expression())
            self._takes(",")
        return found

    def _inside(self, value: Any, key: Any) -> Any:
        if isinstance(value, Unknown):
            return value
        try:
            return self._scope.value(value[key])
        except (LookupError, TypeError):
            return Unknown(self._text)
        except Unknown as unknown:
            return unknown
