"""What a kind of objects has to say about itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from msgspec import Struct

from modelport.core.roles import Permission

Everything = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Kind → name → body: the file's objects and the stored ones."""
User = tuple[str, str]
"""Kind and name of an object that uses another."""


def unused(name: str, body: Mapping[str, Any], everything: Everything) -> Iterator[User]:
    """Nothing refers to objects of such a kind."""
    yield from ()


class Rules(Struct, frozen=True, kw_only=True):
    """One kind. `users`: which objects would be left without this one, so that it cannot be deleted."""

    kind: str
    singular: str
    description: str
    users: Callable[[str, Mapping[str, Any], Everything], Iterator[User]] = unused
    reads: Permission = Permission.MANAGE
    """What a caller needs to read such objects."""
    writes: Permission = Permission.MANAGE
    """And to change them."""
    has_secrets: bool = False
    """Whether a body may hold secrets, or makes them."""


def is_same(name: Any, other: str) -> bool:
    """Names do not differ by case alone."""
    return isinstance(name, str) and name.lower() == other.lower()


def mapping(value: Any) -> Mapping[str, Any]:
    """The value if it is one; else an empty one: what has the wrong shape is refused elsewhere."""
    return value if isinstance(value, Mapping) else {}
