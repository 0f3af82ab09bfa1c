"""One field of a request that is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Offence:
    """One field that is wrong: `loc` is its place from `body` down (strings only), `input` the value received."""

    __slots__ = ("input", "loc", "msg", "type")

    def __init__(self, type: str, loc: Sequence[str], msg: str, input: Any) -> None:
        self.type = type
        self.loc = tuple(loc)
        self.msg = msg
        self.input = input

    def __repr__(self) -> str:
        return f"Offence({self.type!r}, {self.loc!r}, {self.msg!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Offence) and (self.type, self.loc, self.msg, self.input) == (
            other.type,
            other.loc,
            other.msg,
            other.input,
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def parameter(self) -> str:
        """The place without `body`, dotted: `messages.0.role`."""
        return ".".join(self.loc[1:]) or self.loc[0]
