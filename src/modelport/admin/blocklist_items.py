"""Items of a blocklist one by one; the control plane knows the list as a whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from modelport.control.resources.blocklists import item_name
from modelport.core.ports.control import (
    Actor,
    Body,
    Conditions,
    ControlPlane,
    PreconditionFailed,
    Resource,
    ResourceConflict,
)

ATTEMPTS: Final = 8
"""Of a change of one item, while others change the same list."""

Items = list[Mapping[str, Any]]


async def change_items(plane: ControlPlane, actor: Actor, name: str, changed: Callable[[Items], Items]) -> Resource:
    """The list with other items; decided again where it has changed meanwhile. Raises ResourceNotFound."""
    for _ in range(ATTEMPTS):
        found = await plane.get("blocklists", name)
        body: Body = {"items": changed(list(items_of(found)))}
        try:
            put = await plane.patch(actor, "blocklists", found.name, body, Conditions(found.etag))
        except PreconditionFailed:
            continue
        return put.resource
    raise ResourceConflict("The list is changed by others at the same time. Try again.")


def items_of(found: Resource) -> Sequence[Mapping[str, Any]]:
    """A list's items in the configuration's words."""
    return [item for item in found.body.get("items") or () if isinstance(item, Mapping)]


def name_of(item: Mapping[str, Any]) -> str:
    """An item's name; one without gets one that follows from its text."""
    return item_name(item.get("name"), item.get("exact"), item.get("regex"))
