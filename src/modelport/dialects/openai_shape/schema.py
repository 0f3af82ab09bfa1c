"""A body as its operation's rows (parameters.py) say: one typed decode when it fits, the lenient walk when not."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, Generic, TypeVar

import msgspec
from msgspec import NODEFAULT
from msgspec.structs import astuple

from modelport.core.requests import Request
from modelport.dialects.body import check_depth, read_object
from modelport.dialects.fields import FieldWalk
from modelport.dialects.openai_shape.extras import COERCED, OFTEN, often_first, split_fields
from modelport.dialects.openai_shape.parameters import Parameter

R = TypeVar("R", bound=Request)
Settle = Callable[[Any], bool | None]

_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_decode_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_value: Final = msgspec.json.Decoder().decode


class BodySchema(Generic[R]):
    """How the bodies of one operation become requests.

    `settle` gets what the types have taken, with an attribute for each row, and gives each the form that the request
    has. It returns whether there is JSON of any form in it; None: it is for the walk. `left`: further names that only
    the caller of `read_fields` understands."""

    def __init__(self, request: type[R], rows: Sequence[Parameter], settle: Settle, left: Collection[str] = ()) -> None:
        self._request: Any = request
        self.rows = rows
        self.settle = settle
        self._left = frozenset(left)
        self._names = frozenset(row.name for row in rows)
        self._width = len(rows)
        self._count = sum(not row.attribute for row in rows)
        defaults = {field.name: field.default for field in msgspec.structs.fields(request)}
        self._required = frozenset(name for name in self._names if defaults.get(name) is NODEFAULT)
        assert request.__struct_fields__[: self._count] == tuple(row.name for row in rows if not row.attribute)
        columns = [
            (row.name, row.type) if row.name in self._required else (row.name, row.type | None, defaults.get(row.name))
            for row in rows
        ]
        name = f"{request.__name__}Options"
        self._options: Any = msgspec.defstruct(name, columns, forbid_unknown_fields=True, gc=False)
        self._often = tuple(name for name in OFTEN if name not in self._names)
        self._no_often = (None,) * len(self._often)
        often = [(name, Any, None) for name in self._often]
        wide = msgspec.defstruct(name, [*columns, *often], forbid_unknown_fields=True, gc=False)
        self._decode = msgspec.json.Decoder(wide).decode
        """Takes extras that are often sent as well: a body with some is read once."""
        self._decode_known = msgspec.json.Decoder(msgspec.defstruct(name, columns, gc=False)).decode

    def read(self, body: bytes, json_depth: int) -> R:
        """The request. Raises MalformedBody, InvalidParameters."""
        return self.read_fast(body, json_depth) or self.read_fields(read_object(body, json_depth), len(body))

    def read_fast(self, body: bytes, json_depth: int) -> R | None:
        """The request, if the body is just as the schema says but for further fields; None leaves the verdict to
        `read_fields`. Raises MalformedBody for JSON of any form that is nested too deeply."""
        extra: dict[str, Any] = {}
        try:
            options = self._decode(body)
        except msgspec.ValidationError:
            options = self._beside(extra, body)
        except _UNREADABLE:
            return None
        is_free = None if options is None else self.settle(options)
        if is_free is None:
            return None
        values = astuple(options)
        if len(values) > self._width and (often := values[self._width :]) != self._no_often:
            for name, value in zip(self._often, often):  # noqa: B905 - as many
                if value is not None:
                    extra[name] = value
        if extra:
            for name, value in extra.items():
                if name in COERCED:
                    extra[name] = COERCED[name](value)
                is_free = is_free or type(value) is dict or type(value) is list
        if is_free:
            check_depth(body, json_depth)
        request: R = self._request(*values[: self._count], extra, len(body))
        return request

    def read_fields(self, fields: dict[str, Any], body_bytes: int) -> R:
        """The request, from a body that is a JSON object. Raises InvalidParameters."""
        given, extra = split_fields(fields, self._names)
        try:
            options = msgspec.convert(given, self._options)
        except msgspec.ValidationError:
            return self.walk(given, extra, body_bytes)
        if self.settle(options) is None:
            return self.walk(given, extra, body_bytes)
        request: R = self._request(*astuple(options)[: self._count], extra, body_bytes)
        return request

    def walk(self, given: dict[str, Any], extra: dict[str, Any], body_bytes: int) -> R:
        """The same, field by field and leniently; `given` holds no nulls."""
        walk = FieldWalk()
        taken: dict[str, Any] = {}
        for row in self.rows:
            place = ("body", row.name)
            if row.name in given:
                taken[row.attribute or row.name] = row.read(walk, given[row.name], place)
            elif row.name in self._required:
                walk.missing(place, given)
        walk.finish()
        request: R = self._request(**taken, extra=extra, body_bytes=body_bytes)
        return request

    def _beside(self, extra: dict[str, Any], body: bytes) -> Any:
        """What the types take of a body with fields outside the schema, which are put into `extra`. None: these are not
        why it was refused, or are for the lenient reading."""
        names, left = self._names, self._left
        try:
            found: dict[str, Any] = {}
            for name, raw in _decode_fields(body).items():
                if name in names:
                    continue
                if name in left or not name.islower() or not name.isascii():
                    return None
                if (value := _decode_value(raw)) is not None:
                    found[name] = value
            extra |= often_first(found)
            return self._decode_known(body)
        except _UNREADABLE:
            return None
