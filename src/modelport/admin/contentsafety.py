"""Blocklists as Azure AI Content Safety's clients manage them: the same objects as `/admin/v1/blocklists`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import uuid4

from modelport.admin.blocklist_items import Items, change_items, items_of, name_of
from modelport.admin.endpoint import AdminRequest, Answer, Endpoint, Method, json_answer
from modelport.admin.resources import conditions, etag
from modelport.control.resources.rules import is_same
from modelport.core.errors import BadRequest, ModelportError, NotFound
from modelport.core.excerpts import excerpt
from modelport.core.ports.control import Body, ControlPlane, Resource, ResourceNotFound
from modelport.core.roles import Permission
from modelport.dialects.azure_content_safety import errors
from modelport.dialects.error_body import ErrorBody

BASE: Final = "contentsafety"
LISTS: Final = f"/{BASE}/text/blocklists"
LIST: Final = f"{LISTS}/{{blocklist}}"
ITEMS: Final = f"{LIST}/blocklistItems"
ITEM: Final = f"{ITEMS}/{{item}}"
MAX_ITEMS: Final = 100
"""In one request."""

Names = Mapping[str, str]


def refuse(error: ModelportError, request: AdminRequest) -> ErrorBody:
    """The error in Azure AI Content Safety's shape."""
    return errors.encode(error)


def endpoints(plane: ControlPlane) -> list[Endpoint]:
    """All of them."""
    lists = Blocklists(plane)
    table: Sequence[tuple[Method, str, Any]] = (
        ("GET", LISTS, lists.list),
        ("GET", LIST, lists.get),
        ("PATCH", LIST, lists.patch),
        ("DELETE", LIST, lists.delete),
        ("POST", LIST, lists.act),
        ("GET", ITEMS, lists.list_items),
        ("GET", ITEM, lists.get_item),
    )
    return [
        Endpoint(method=method, path=path, answer=answer, permission=Permission.MANAGE)
        for method, path, answer in table
    ]


class Blocklists:
    """The answers."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    async def list(self, request: AdminRequest, names: Names) -> Answer:
        """All lists."""
        return page(request, [shown(found) for found in await self._plane.list("blocklists")])

    async def get(self, request: AdminRequest, names: Names) -> Answer:
        """One list, without its items."""
        found = await self._plane.get("blocklists", names["blocklist"])
        return json_answer(shown(found), 200, *etag(found))

    async def patch(self, request: AdminRequest, names: Names) -> Answer:
        """Makes a list, or changes its description; its items stay."""
        name, given = names["blocklist"], request.json()
        if "blocklistName" in given and not is_same(given["blocklistName"], name):
            raise BadRequest(f"blocklistName is not {excerpt(name)!r}, as in the path.", target="blocklistName")
        change: Body = {"description": given["description"]} if "description" in given else {}
        try:
            await self._plane.get("blocklists", name)
            made = await self._plane.patch(request.actor, "blocklists", name, change, conditions(request))
        except ResourceNotFound:
            body: Body = {key: value for key, value in change.items() if value is not None}
            made = await self._plane.put(request.actor, "blocklists", name, {**body, "items": []}, conditions(request))
        return json_answer(shown(made.resource), 201 if made.created else 200, *etag(made.resource))

    async def delete(self, request: AdminRequest, names: Names) -> Answer:
        """Removes a list that no policy names."""
        await self._plane.delete(request.actor, "blocklists", names["blocklist"], conditions(request))
        return Answer(b"", content_type=None, status=204)

    async def act(self, request: AdminRequest, names: Names) -> Answer:
        """`NAME:addOrUpdateBlocklistItems` and `NAME:removeBlocklistItems`."""
        name, _, action = names["blocklist"].rpartition(":")
        if action == "addOrUpdateBlocklistItems":
            return await self._add(request, name)
        if action == "removeBlocklistItems":
            return await self._remove(request, name)
        raise NotFound("A blocklist can be asked for :addOrUpdateBlocklistItems and :removeBlocklistItems.", code="404")

    async def _add(self, request: AdminRequest, name: str) -> Answer:
        """An item whose text is there already keeps its id."""
        given = [new_item(item, place) for place, item in enumerate(listed(request, "blocklistItems"))]
        made: Items = []

        def changed(items: Items) -> Items:
            made.clear()
            for item in given:
                known = next((at for at, other in enumerate(items) if is_same_text(item, other)), None)
                if known is None:
                    items = [*items, item]
                    made.append(item)
                else:
                    kept = {**items[known], **{key: value for key, value in item.items() if key == "description"}}
                    items = [*items[:known], kept, *items[known + 1 :]]
                    made.append(kept)
            return items

        await change_items(self._plane, request.actor, name, changed)
        return json_answer({"blocklistItems": [shown_item(item) for item in made]})

    async def _remove(self, request: AdminRequest, name: str) -> Answer:
        ids = listed(request, "blocklistItemIds")

        def changed(items: Items) -> Items:
            for id in ids:
                if not any(is_same(id, name_of(item)) for item in items):
                    raise item_not_found(id)
            return [item for item in items if not any(is_same(id, name_of(item)) for id in ids)]

        await change_items(self._plane, request.actor, name, changed)
        return Answer(b"", content_type=None, status=204)

    async def list_items(self, request: AdminRequest, names: Names) -> Answer:
        """All items of a list."""
        found = await self._plane.get("blocklists", names["blocklist"])
        return page(request, [shown_item(item) for item in items_of(found)])

    async def get_item(self, request: AdminRequest, names: Names) -> Answer:
        """One item."""
        found = await self._plane.get("blocklists", names["blocklist"])
        for item in items_of(found):
            if is_same(names["item"], name_of(item)):
                return json_answer(shown_item(item))
        raise item_not_found(names["item"])


def listed(request: AdminRequest, field: str) -> Sequence[Any]:
    """A list in the body. Raises BadRequest."""
    found = request.json().get(field)
    if not isinstance(found, list) or not found or len(found) > MAX_ITEMS:
        raise BadRequest(f"{field} is a list of 1 to {MAX_ITEMS}.", target=field)
    return found


def new_item(given: Any, place: int) -> dict[str, Any]:
    """An item in the configuration's words. Raises BadRequest."""
    text = given.get("text") if isinstance(given, Mapping) else None
    if not isinstance(text, str) or not text:
        raise BadRequest(f"blocklistItems[{place}].text is missing.", target=f"blocklistItems[{place}].text")
    item = {"name": str(uuid4()), ("regex" if given.get("isRegex") is True else "exact"): text}
    if isinstance(description := given.get("description"), str):
        item["description"] = description
    return item


def is_same_text(item: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two items look for the same."""
    return item.get("exact") == other.get("exact") and item.get("regex") == other.get("regex")


def item_not_found(id: Any) -> NotFound:
    """For an item that the list does not have."""
    return NotFound(f"The blocklist has no item {excerpt(str(id))!r}.", code="ResourceNotFound")


def page(request: AdminRequest, items: Sequence[Any]) -> Answer:
    """A list, from `skip` on, `top` at most; all of it is one page. Raises BadRequest."""
    bounds: dict[str, int | None] = {}
    for name in ("skip", "top"):
        text = request.query.get(name)
        if text is not None and not (text.isascii() and text.isdigit() and len(text) < 10):
            raise BadRequest(f"{name} is a whole number, not {excerpt(text)!r}.", target=name)
        bounds[name] = None if text is None else int(text)
    first, top = bounds["skip"] or 0, bounds["top"]
    return json_answer({"value": items[first : None if top is None else first + top]})


def shown(found: Resource) -> dict[str, Any]:
    """As Azure shows a list."""
    description = found.body.get("description")
    return {"blocklistName": found.name, **({} if description is None else {"description": description})}


def shown_item(item: Mapping[str, Any]) -> dict[str, Any]:
    """As Azure shows an item."""
    is_regex = item.get("regex") is not None
    known = {"blocklistItemId": name_of(item), "text": item.get("regex", item.get("exact")), "isRegex": is_regex}
    return {**known, **({"description": item["description"]} if item.get("description") is not None else {})}
