"""What the caller sent at a place of its request: a target names the place alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from modelport.core.errors import InvalidParameters, ModelportError, Offence
from modelport.core.requests import Request


def with_sent_values(error: ModelportError, request: Request) -> ModelportError:
    """The same error; an offence of a 422 that shows no value shows the one that was sent."""
    if not isinstance(error, InvalidParameters) or all(offence.input is not None for offence in error.offences):
        return error
    return InvalidParameters(
        [
            Offence(one.type, one.loc, one.msg, sent_value(request, one.loc) if one.input is None else one.input)
            for one in error.offences
        ]
    )


def sent_value(request: Request, loc: Sequence[str]) -> Any:
    """The value at `loc`, which may begin with `body`; None: nothing was sent there."""
    value: Any = request
    for name in loc[1:] if loc and loc[0] == "body" else loc:
        if isinstance(value, Struct):
            extra = getattr(value, "extra", {})
            value = getattr(value, "max_tokens" if name == "max_completion_tokens" else name, extra.get(name))
        elif isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list | tuple) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            return None
    return None if value is request else value
