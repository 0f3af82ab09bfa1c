"""Expressions of ARM templates: `[format('{0}/{1}', parameters('account'), 'gpt-4o')]`. The few functions that names,
capacities and loops are written with; everything else is unknown, and says so."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

TOKEN: Final = re.compile(r"\s*('(?:[^']|'')*'|-?\d+|[A-Za-z_]\w*|[()\[\].,])")
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
    "if": lambda condition, then, otherwise: then if condition else otherwise,
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
        """The value of a function. Raises Unknown."""
        key = name.lower()
        if key == "parameters" and len(arguments) == 1:
            if arguments[0] not in self.parameters:
                raise Unknown(f"parameters('{arguments[0]}')")
            return self.value(self.parameters[arguments[0]])
        if key == "variables" and len(arguments) == 1 and arguments[0] in self.variables:
            return self.value(self.variables[arguments[0]])
        if key == "copyindex" and self.index is not None:
            return self.index + next((value for value in arguments if isinstance(value, int)), 0)
        if key not in FUNCTIONS:
            raise Unknown(f"{name}()")
        try:
            return FUNCTIONS[key](*arguments)
        except (TypeError, ValueError, AttributeError, LookupError):
            raise Unknown(f"{name}()") from None


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
        try:
            return self._scope.value(value[key])
        except (LookupError, TypeError):
            raise Unknown(self._text) from None
