"""Blocklists and their items: the same objects as `/admin/v1/blocklists`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from modelport.admin.arm.errors import ArmNotFound
from modelport.admin.arm.scope import ACCOUNT, Routes, Scope, page
from modelport.admin.blocklist_items import Items, change_items, items_of, name_of
from modelport.admin.endpoint import Answer, json_answer
from modelport.admin.resources import conditions, etag
from modelport.control.resources.rules import is_same, mapping
from modelport.core.errors import BadRequest
from modelport.core.ports.control import Resource, ResourceNotFound
from modelport.core.roles import Permission

LISTS = f"{ACCOUNT}/raiBlocklists"
LIST = f"{LISTS}/{{blocklist}}"
ITEMS = f"{LIST}/raiBlocklistItems"
ITEM = f"{ITEMS}/{{item}}"


def add(routes: Routes) -> None:
    """Lists, and items one by one."""
    routes.add("GET", LISTS, list_, Permission.MANAGE)
    routes.add("GET", LIST, get, Permission.MANAGE)
    routes.add("PUT", LIST, put, Permission.MANAGE)
    routes.add("DELETE", LIST, delete, Permission.MANAGE)
    routes.add("GET", ITEMS, list_items, Permission.MANAGE)
    routes.add("GET", ITEM, get_item, Permission.MANAGE)
    routes.add("PUT", ITEM, put_item, Permission.MANAGE)
    routes.add("DELETE", ITEM, delete_item, Permission.MANAGE)


async def list_(scope: Scope) -> Answer:
    """All lists."""
    return page([shown(scope, found) for found in await scope.arm.plane.list("blocklists")])


async def get(scope: Scope) -> Answer:
    """One list, without its items."""
    found = await existing(scope)
    return json_answer(shown(scope, found), 200, *etag(found))


async def put(scope: Scope) -> Answer:
    """Makes a list, or changes its description; its items stay."""
    request, name = scope.request, scope.names["blocklist"]
    description = mapping(request.json().get("properties")).get("description")
    plane, change = scope.arm.plane, {"description": description}
    try:
        await plane.get("blocklists", name)
        made = await plane.patch(request.actor, "blocklists", name, change, conditions(request))
    except ResourceNotFound:
        body = {key: value for key, value in change.items() if value is not None}
        made = await plane.put(request.actor, "blocklists", name, {**body, "items": []}, conditions(request))
    return json_answer(shown(scope, made.resource), 201 if made.created else 200, *etag(made.resource))


async def delete(scope: Scope) -> Answer:
    """Removes a list that no policy names."""
    request = scope.request
    with contextlib.suppress(ResourceNotFound):
        await scope.arm.plane.delete(request.actor, "blocklists", scope.names["blocklist"], conditions(request))
    return Answer(b"", content_type=None, status=204)


async def list_items(scope: Scope) -> Answer:
    """All items of a list."""
    found = await existing(scope)
    return page([shown_item(scope, found, item) for item in items_of(found)])


async def get_item(scope: Scope) -> Answer:
    """One item."""
    found = await existing(scope)
    for item in items_of(found):
        if is_same(name_of(item), scope.names["item"]):
            return json_answer(shown_item(scope, found, item))
    raise item_not_found(scope)


async def put_item(scope: Scope) -> Answer:
    """Adds an item, or changes it in its place."""
    name, properties = scope.names["item"], mapping(scope.request.json().get("properties"))
    pattern = properties.get("pattern")
    if not isinstance(pattern, str):
        raise BadRequest("properties.pattern is missing.", target="properties.pattern")
    new = {"name": name, ("regex" if properties.get("isRegex") is True else "exact"): pattern}
    is_new = False

    def changed(items: Items) -> Items:
        nonlocal is_new
        is_new = not any(is_same(name_of(item), name) for item in items)
        return [*items, new] if is_new else [new if is_same(name_of(item), name) else item for item in items]

    found = await change(scope, changed)
    return json_answer(shown_item(scope, found, new), 201 if is_new else 200)


async def delete_item(scope: Scope) -> Answer:
    """Takes an item out of its list."""

    def changed(items: Items) -> Items:
        return [item for item in items if not is_same(name_of(item), scope.names["item"])]

    await change(scope, changed)
    return Answer(b"", content_type=None, status=204)


async def change(scope: Scope, changed: Callable[[Items], Items]) -> Resource:
    """The list with other items. Raises ArmNotFound."""
    found = await existing(scope)
    try:
        return await change_items(scope.arm.plane, scope.request.actor, found.name, changed)
    except ResourceNotFound:
        raise scope.not_found("raiBlocklists", found.name) from None


async def existing(scope: Scope) -> Resource:
    """The list. Raises ArmNotFound."""
    name = scope.names["blocklist"]
    try:
        return await scope.arm.plane.get("blocklists", name)
    except ResourceNotFound:
        raise scope.not_found("raiBlocklists", name) from None


def item_not_found(scope: Scope) -> ArmNotFound:
    """For an item that the list does not have."""
    return scope.not_found(f"raiBlocklists/{scope.names['blocklist']}/raiBlocklistItems", scope.names["item"])


def shown(scope: Scope, found: Resource) -> dict[str, Any]:
    """As Azure shows a list."""
    more = {"etag": found.etag} if found.etag is not None else {}
    return scope.child("raiBlocklists", found.name, {"description": found.body.get("description")}, **more)


def shown_item(scope: Scope, found: Resource, item: Mapping[str, Any]) -> dict[str, Any]:
    """As Azure shows an item."""
    pattern = item.get("regex", item.get("exact"))
    properties = {"pattern": pattern, "isRegex": item.get("regex") is not None}
    return scope.child(f"raiBlocklists/{found.name}/raiBlocklistItems", name_of(item), properties)
