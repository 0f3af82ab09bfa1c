"""Etags and the conditions on them; what a change is called; what is said while the store is away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from modelport.core.errors import Unavailable
from modelport.core.ports.control import Action, Body, Conditions, PreconditionFailed, StoredObject

RETRY_SECONDS: Final = 2


def by_key(objects: Sequence[StoredObject]) -> dict[tuple[str, str], StoredObject]:
    """By kind and name in lower case."""
    return {(o.kind, o.name.lower()): o for o in objects}


def etag_of(found: StoredObject) -> str:
    """In quotes."""
    return f'"{found.version}"'


def verb(known: StoredObject | None, body: Body | None) -> Action:
    """What a change does."""
    return "delete" if body is None else "create" if known is None else "change"


def check_conditions(conditions: Conditions, known: StoredObject | None) -> None:
    """Raises PreconditionFailed."""
    if conditions.if_match is not None and (known is None or not matches(conditions.if_match, known)):
        now = "it does not exist" if known is None else f"its ETag is {etag_of(known)}"
        raise PreconditionFailed(f"If-Match does not hold: {now}.")
    if conditions.if_none_match is not None and known is not None and matches(conditions.if_none_match, known):
        raise PreconditionFailed(f"If-None-Match does not hold: it exists, and its ETag is {etag_of(known)}.")


def matches(header: str, known: StoredObject) -> bool:
    """Whether one of the listed etags is the object's, or the header is `*`."""
    return header.strip() == "*" or etag_of(known) in (tag.strip() for tag in header.split(","))


def away() -> Unavailable:
    """The store is away. A commit whose answer was lost may have been made."""
    return Unavailable(
        "The control plane's store does not answer. Read the object again before you repeat a change.",
        retry_after=RETRY_SECONDS,
    )
