"""The slow way through a body that its schema refused: takes what can be understood as it was meant, and names every
field that cannot, in pydantic's words, which Azure's own servers use."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from msgspec import Struct

from modelport.core.errors import InvalidParameters, Offence

Place = tuple[str, ...]
"""From `body` down; list indexes as strings."""

_INTEGER = re.compile(r"\s*[+-]?[0-9]{1,20}\s*")
_NUMBER = re.compile(r"\s*[+-]?([0-9]{1,32}(\.[0-9]{0,32})?|\.[0-9]{1,32})([eE][+-]?[0-9]{1,3})?\s*")
_TRUTHS = {"true": True, "false": False}
_OFFENCES_LIMIT = 100


def whole_number_of(value: Any) -> Any:
    """A text or a float that is a whole number, as that number; anything else as it is."""
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def truth_of(value: Any) -> Any:
    """A text that is `true` or `false`, as that truth; anything else as it is."""
    return _TRUTHS.get(value, value) if isinstance(value, str) else value


def number_of(value: Any) -> Any:
    """A text that is a number, as that number; anything else as it is."""
    return float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value


class FieldWalk:
    """Collects offences while values are taken. Each reader gives the value, or None after noting what is wrong."""

    def __init__(self) -> None:
        self.offences: list[Offence] = []
        self.offered: frozenset[str] = frozenset()
        """Names of the functions among the tools, once these are read."""

    def finish(self) -> None:
        """Raises InvalidParameters if anything was wrong."""
        if self.offences:
            raise InvalidParameters(self.offences)

    def refuse(self, type: str, place: Place, message: str, value: Any) -> None:
        """Notes one offence. Raises InvalidParameters at the last one that is shown: a body can hold millions."""
        self.offences.append(Offence(type, place, message, value))
        if len(self.offences) >= _OFFENCES_LIMIT:
            self.finish()

    def missing(self, place: Place, parent: Any) -> None:
        self.refuse("missing", place, "Field required", parent)

    def number(self, value: Any, place: Place, minimum: float, maximum: float) -> float | None:
        if isinstance(value, str):
            if not _NUMBER.fullmatch(value):
                message = "Input should be a valid number, unable to parse string as a number"
                self.refuse("float_parsing", place, message, value)
                return None
            parsed: int | float = float(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            parsed = value
        else:
            self.refuse("float_type", place, "Input should be a valid number", value)
            return None
        return float(parsed) if self._is_within(parsed, place, minimum, maximum, value) else None

    def integer(self, value: Any, place: Place, minimum: int, maximum: int) -> int | None:
        if isinstance(value, str):
            if not _INTEGER.fullmatch(value):
                message = "Input should be a valid integer, unable to parse string as an integer"
                self.refuse("int_parsing", place, message, value)
                return None
            parsed = int(value)
        elif isinstance(value, float):
            if not value.is_integer():
                message = "Input should be a valid integer, got a number with a fractional part"
                self.refuse("int_from_float", place, message, value)
                return None
            parsed = int(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            parsed = value
        else:
            self.refuse("int_type", place, "Input should be a valid integer", value)
            return None
        return parsed if self._is_within(parsed, place, minimum, maximum, value) else None

    def boolean(self, value: Any, place: Place) -> bool | None:
        value = truth_of(value)
        if isinstance(value, bool):
            return value
        self.refuse("bool_type", place, "Input should be a valid boolean", value)
        return None

    def string(self, value: Any, place: Place) -> str | None:
        if isinstance(value, str):
            return value
        self.refuse("string_type", place, "Input should be a valid string", value)
        return None

    def matching(self, value: Any, place: Place, pattern: re.Pattern[str], longest: int) -> str | None:
        """A string of at most `longest` characters that `pattern` matches as a whole."""
        text = self.string(value, place)
        if text is None:
            return None
        if len(text) > longest:
            self.refuse("string_too_long", place, f"String should have at most {longest} characters", value)
            return None
        if not pattern.fullmatch(text):
            self.refuse("string_pattern_mismatch", place, f"String should match pattern '{pattern.pattern}'", value)
            return None
        return text

    def literal(self, value: Any, place: Place, allowed: Collection[str]) -> str | None:
        if isinstance(value, str) and value in allowed:
            return value
        *most, last = (repr(choice) for choice in allowed)
        choices = f"{', '.join(most)} or {last}" if most else last
        self.refuse("literal_error", place, f"Input should be {choices}", value)
        return None

    def items(self, value: Any, place: Place, shortest: int, longest: int) -> list[Any] | None:
        """A list of bounded length."""
        if not isinstance(value, list):
            self.refuse("list_type", place, "Input should be a valid list", value)
            return None
        if len(value) < shortest:
            items = "item" if shortest == 1 else "items"
            message = f"List should have at least {shortest} {items} after validation, not {len(value)}"
            self.refuse("too_short", place, message, value)
            return None
        if len(value) > longest:
            message = f"List should have at most {longest} items after validation, not {len(value)}"
            self.refuse("too_long", place, message, value)
            return None
        return value

    def mapping(self, value: Any, place: Place) -> dict[str, Any] | None:
        if isinstance(value, dict):
            return value
        self.refuse("dict_type", place, "Input should be a valid dictionary", value)
        return None

    def further(
        self, fields: dict[str, Any], known: Collection[str], place: Place, read: Collection[str] = ()
    ) -> dict[str, Any]:
        """The fields that are not known and not null. Refuses one that is a known name, or one of `read`, but for its
        case: a reader that ignores case, as some upstreams do, would take it for that one."""
        found = {name: value for name, value in fields.items() if name not in known and value is not None}
        for name in found:
            if (plain := name.casefold()) != name and (plain in known or plain in read):
                self.refuse("extra_forbidden", (*place, name), f"Field names are in lower case: '{plain}'", found[name])
        return found

    def _is_within(self, parsed: float, place: Place, minimum: float, maximum: float, value: Any) -> bool:
        if parsed < minimum:
            self.refuse("greater_than_equal", place, f"Input should be greater than or equal to {minimum:g}", value)
            return False
        if parsed > maximum:
            self.refuse("less_than_equal", place, f"Input should be less than or equal to {maximum:g}", value)
            return False
        return True


Read = Callable[[FieldWalk, Any, Place], Any]
"""Walk, value, its place → the value as it was meant; its offences are noted."""


class Shape:
    """How an object becomes a struct of type `kind`. `fields`: how each known field is read, or the shape of an inner
    object; `open_kind`: the struct for one that has further fields, its own or of an inner object (under its name)."""

    def __init__(
        self,
        kind: type[Struct],
        fields: Mapping[str, Read | Shape],
        required: Collection[str] = (),
        open_kind: type[Struct] | None = None,
    ) -> None:
        self._kind: Any = kind
        self._fields = fields
        self._required = required
        self._open_kind: Any = open_kind

    def read(self, walk: FieldWalk, value: Any, place: Place) -> Any:
        """The struct; None where anything is wrong. Without an open struct further fields are left out."""
        found = self.parts(walk, value, place, takes_further=self._open_kind is not None)
        if found is None:
            return None
        known, extra = found
        return self._open_kind(**known, extra=extra) if extra else self._kind(**known)

    def parts(
        self, walk: FieldWalk, value: Any, place: Place, *, takes_further: bool = True
    ) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """The struct's attributes, and the further fields."""
        given = walk.mapping(value, place)
        if given is None:
            return None
        count_before = len(walk.offences)
        known: dict[str, Any] = {}
        of_inner: dict[str, Any] = {}
        for name, reader in self._fields.items():
            place_of_field = (*place, name)
            if (field := given.get(name)) is None:
                if name in self._required:
                    walk.missing(place_of_field, given)
            elif not isinstance(reader, Shape):
                known[name] = reader(walk, field, place_of_field)
            elif (inner := reader.parts(walk, field, place_of_field)) is not None:
                known[name] = reader._kind(**inner[0])
                if inner[1]:
                    of_inner[name] = inner[1]
        extra = walk.further(given, self._fields, place) | of_inner if takes_further else {}
        attributes = {name: value for name, value in known.items() if name in self._kind.__struct_fields__}
        return (attributes, extra) if len(walk.offences) == count_before else None


def number(minimum: float, maximum: float) -> Read:
    """A number within bounds."""
    return lambda walk, value, place: walk.number(value, place, minimum, maximum)


def integer(minimum: int, maximum: int) -> Read:
    """A whole number within bounds."""
    return lambda walk, value, place: walk.integer(value, place, minimum, maximum)


def literal(*words: str) -> Read:
    """One of these words."""
    return lambda walk, value, place: walk.literal(value, place, words)


def many(read: Read, shortest: int, longest: int) -> Callable[[FieldWalk, Any, Place], tuple[Any, ...]]:
    """A list of bounded length; items that are refused are left out."""

    def read_all(walk: FieldWalk, value: Any, place: Place) -> tuple[Any, ...]:
        items = walk.items(value, place, shortest, longest) or []
        found = [read(walk, item, (*place, str(i))) for i, item in enumerate(items)]
        return tuple(item for item in found if item is not None)

    return read_all
