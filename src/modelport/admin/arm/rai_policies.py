"""Content filters in Azure's words: the same objects as `/admin/v1/content_filters`."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from modelport.admin.arm.scope import ACCOUNT, LOCATION, Routes, Scope, page
from modelport.admin.endpoint import Answer, json_answer
from modelport.admin.resources import conditions, etag
from modelport.control.resources.rules import is_same, mapping
from modelport.core.errors import BadRequest
from modelport.core.ports.control import Body, Resource, ResourceConflict, ResourceNotFound
from modelport.core.roles import Permission

POLICIES = f"{ACCOUNT}/raiPolicies"
POLICY = f"{POLICIES}/{{policy}}"
NILL: Final = "Microsoft.Nill"
"""The policy that filters nothing."""
HARMS: Final = {"Hate": "hate", "Sexual": "sexual", "Violence": "violence", "Selfharm": "self_harm"}
SHIELDS: Final = {"Jailbreak": "jailbreak", "Indirect Attack": "indirect_attack"}
"""Of prompts alone."""
SIDES: Final = {"Prompt": "prompt", "Completion": "completion"}
MODES: Final = {
    "default": "blocking",
    "blocking": "blocking",
    "deferred": "asynchronous",
    "asynchronous_filter": "asynchronous",
}
DEFAULT_SHIELDS: Final = {"jailbreak": "block", "indirect_attack": "off"}


def add(routes: Routes) -> None:
    """PUT, GET, DELETE and the list; and what there is to filter."""
    routes.add("GET", POLICIES, list_, Permission.READ_CATALOGUE)
    routes.add("GET", POLICY, get, Permission.READ_CATALOGUE)
    routes.add("PUT", POLICY, put, Permission.MANAGE)
    routes.add("DELETE", POLICY, delete, Permission.MANAGE)
    routes.add("GET", f"{LOCATION}/raiContentFilters", filters, Permission.READ_CATALOGUE)


async def list_(scope: Scope) -> Answer:
    """Those that exist, and the one that filters nothing."""
    found = await scope.arm.plane.list("content_filters")
    return page([nill(scope), *(shown(scope, resource) for resource in found)])


async def get(scope: Scope) -> Answer:
    """One."""
    name = scope.names["policy"]
    if is_same(name, NILL):
        return json_answer(nill(scope))
    try:
        found = await scope.arm.plane.get("content_filters", name)
    except ResourceNotFound:
        raise scope.not_found("raiPolicies", name) from None
    return json_answer(shown(scope, found), 200, *etag(found))


async def put(scope: Scope) -> Answer:
    """Makes or replaces one."""
    request, name = scope.request, scope.names["policy"]
    check_is_not_built_in(name)
    body = settings_of(mapping(request.json().get("properties")))
    made = await scope.arm.plane.put(request.actor, "content_filters", name, body, conditions(request))
    return json_answer(shown(scope, made.resource), 201 if made.created else 200, *etag(made.resource))


async def delete(scope: Scope) -> Answer:
    """Removes one."""
    request, name = scope.request, scope.names["policy"]
    check_is_not_built_in(name)
    with contextlib.suppress(ResourceNotFound):
        await scope.arm.plane.delete(request.actor, "content_filters", name, conditions(request))
    return Answer(b"", content_type=None, status=204)


async def filters(scope: Scope) -> Answer:
    """What a policy can have, by side."""
    kinds = [(name, side, True) for name in HARMS for side in SIDES]
    kinds += [(name, "Prompt", False) for name in SHIELDS]
    return page(
        [
            {
                "id": f"/{name}/{side}",
                "name": name,
                "type": "Microsoft.CognitiveServices/locations/raiContentFilters",
                "properties": {"name": name, "source": side, "isMultiLevelFilter": has_levels},
            }
            for name, side, has_levels in kinds
        ]
    )


def check_is_not_built_in(name: str) -> None:
    """Raises ResourceConflict."""
    if is_same(name, NILL):
        raise ResourceConflict(f"{NILL!r} is built in and cannot be changed.", target=name)


def settings_of(properties: Mapping[str, Any]) -> Body:
    """In the configuration's words. What the body leaves out is off after `Microsoft.Nill`, else as by default.
    Raises BadRequest."""
    is_off = is_same(properties.get("basePolicyName"), NILL)
    prompt: Body = dict.fromkeys((*HARMS.values(), *SHIELDS.values()), "off") if is_off else {}
    completion: Body = dict.fromkeys(HARMS.values(), "off") if is_off else {}
    found: Body = {"prompt": prompt, "completion": completion}
    if properties.get("customTopics"):
        raise BadRequest("Custom topics are not available.", target="properties.customTopics")
    for given in listed(properties, "contentFilters"):
        set_filter(found, given)
    for given in listed(properties, "customBlocklists"):
        if given.get("blocking") is False:
            raise BadRequest("A blocklist always blocks.", target="properties.customBlocklists")
        side = found[side_of(given)]
        side["blocklists"] = [*side.get("blocklists", ()), given.get("blocklistName")]
    mode = str(properties.get("mode") or "Default").lower()
    if mode not in MODES:
        raise BadRequest("mode is Default, Blocking, Deferred or Asynchronous_filter.", target="properties.mode")
    return {**found, "mode": MODES[mode]}


def set_filter(found: Body, given: Mapping[str, Any]) -> None:
    """One entry of `contentFilters`. Raises BadRequest."""
    name, target = str(given.get("name")), "properties.contentFilters"
    side = side_of(given)
    is_on, blocks = given.get("enabled") is not False, given.get("blocking") is not False
    if harm := word(HARMS, name):
        if is_on and not blocks:
            raise BadRequest(f"{name} cannot be annotated without being blocked.", target=target)
        found[side][harm] = str(given.get("severityThreshold") or "Medium").lower() if is_on else "off"
    elif (shield := word(SHIELDS, name)) and side == "prompt":
        found[side][shield] = ("block" if blocks else "annotate") if is_on else "off"
    elif is_on:
        raise BadRequest(f"There is no filter {name!r} for the {side}; set enabled to false.", target=target)


def shown(scope: Scope, resource: Resource) -> dict[str, Any]:
    """As Azure shows one: every filter, with its defaults."""
    content_filters: list[dict[str, Any]] = []
    blocklists: list[dict[str, Any]] = []
    for source, side in SIDES.items():
        body = mapping(resource.body.get(side))
        for name, harm in HARMS.items():
            level = str(body.get(harm, "medium"))
            content_filters.append(
                {
                    "name": name,
                    "source": source,
                    "enabled": level != "off",
                    "blocking": level != "off",
                    "severityThreshold": level.capitalize() if level != "off" else "High",
                }
            )
        for name, shield in SHIELDS.items() if side == "prompt" else ():
            does = body.get(shield, DEFAULT_SHIELDS[shield])
            content_filters.append(
                {"name": name, "source": source, "enabled": does != "off", "blocking": does == "block"}
            )
        blocklists += [
            {"blocklistName": name, "blocking": True, "source": source} for name in body.get("blocklists") or ()
        ]
    is_asynchronous = resource.body.get("mode") == "asynchronous"
    properties = {
        "type": "UserManaged",
        "mode": "Asynchronous_filter" if is_asynchronous else "Blocking",
        "basePolicyName": "Microsoft.DefaultV2",
        "contentFilters": content_filters,
        "customBlocklists": blocklists,
    }
    more = {"etag": resource.etag} if resource.etag is not None else {}
    return scope.child("raiPolicies", resource.name, properties, **more)


def nill(scope: Scope) -> dict[str, Any]:
    """The policy that filters nothing."""
    return scope.child(
        "raiPolicies", NILL, {"type": "SystemManaged", "mode": "Blocking", "contentFilters": [], "customBlocklists": []}
    )


def listed(properties: Mapping[str, Any], name: str) -> Sequence[Mapping[str, Any]]:
    """A list of objects. Raises BadRequest."""
    found = properties.get(name) or []
    if not isinstance(found, list) or not all(isinstance(item, Mapping) for item in found):
        raise BadRequest(f"{name} is a list of objects.", target=f"properties.{name}")
    return found


def side_of(given: Mapping[str, Any]) -> str:
    """`prompt` or `completion`. Raises BadRequest."""
    side = word(SIDES, str(given.get("source") or "Prompt"))
    if side is None:
        raise BadRequest("source is Prompt or Completion.", target="properties.contentFilters.source")
    return side


def word(words: Mapping[str, str], name: str) -> str | None:
    """Ours for one of Azure's, whatever its case."""
    return next((ours for theirs, ours in words.items() if is_same(theirs, name)), None)
