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
from modelport.core.safety import BUILT_IN, Category, ContentFilterPolicy, SidePolicy

POLICIES = f"{ACCOUNT}/raiPolicies"
POLICY = f"{POLICIES}/{{policy}}"
USUAL_BASE: Final = "Microsoft.DefaultV2"
HARMS: Final = {"Hate": "hate", "Sexual": "sexual", "Violence": "violence", "Selfharm": "self_harm"}
SIDES: Final = {"Prompt": "prompt", "Completion": "completion"}
DETECTIONS: Final = {
    "prompt": {"Jailbreak": "jailbreak", "Indirect Attack": "indirect_attack", "Profanity": "profanity"},
    "completion": {
        "Protected Material Text": "protected_material",
        "Protected Material Code": "protected_material",
        "Profanity": "profanity",
    },
}
"""By side: what is found or not."""
MODES: Final = {
    "default": "blocking",
    "blocking": "blocking",
    "deferred": "asynchronous",
    "asynchronous_filter": "asynchronous",
}
USUAL_DETECTIONS: Final = {"jailbreak": "block"}
"""The others are off."""


def add(routes: Routes) -> None:
    """PUT, GET, DELETE and the list; and what there is to filter."""
    routes.add("GET", POLICIES, list_, Permission.READ_CATALOGUE)
    routes.add("GET", POLICY, get, Permission.READ_CATALOGUE)
    routes.add("PUT", POLICY, put, Permission.MANAGE)
    routes.add("DELETE", POLICY, delete, Permission.MANAGE)
    routes.add("GET", f"{LOCATION}/raiContentFilters", filters, Permission.READ_CATALOGUE)


async def list_(scope: Scope) -> Answer:
    """Those that exist; the built-in ones first."""
    found = await scope.arm.plane.list("content_filters")
    built_in = [shown_built_in(scope, policy) for policy in BUILT_IN.values()]
    return page([*built_in, *(shown(scope, resource) for resource in found)])


async def get(scope: Scope) -> Answer:
    """One."""
    name = scope.names["policy"]
    if (policy := built_in_policy(name)) is not None:
        return json_answer(shown_built_in(scope, policy))
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
    kinds += [(name, side, False) for side, ours in SIDES.items() for name in DETECTIONS[ours]]
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
    if built_in_policy(name) is not None:
        raise ResourceConflict(f"{name!r} is built in and cannot be changed.", target=name)


def settings_of(properties: Mapping[str, Any]) -> Body:
    """In the configuration's words. What the body leaves out is as in its base policy. Raises BadRequest."""
    base = built_in_policy(str(properties.get("basePolicyName") or USUAL_BASE))
    if base is None:
        raise BadRequest(f"basePolicyName is one of {', '.join(BUILT_IN)}.", target="properties.basePolicyName")
    found: Body = {"prompt": words_of(base.prompt, "prompt"), "completion": words_of(base.completion, "completion")}
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
        level = str(given.get("severityThreshold") or "Medium").lower() if is_on else "off"
        found[side][harm] = level if blocks or not is_on else {"at": level, "effect": "annotate"}
    elif detection := word(DETECTIONS[side], name):
        found[side][detection] = ("block" if blocks else "annotate") if is_on else "off"
    elif is_on:
        raise BadRequest(f"There is no filter {name!r} for the {side}; set enabled to false.", target=target)


def shown(scope: Scope, resource: Resource) -> dict[str, Any]:
    """As Azure shows one: every filter, with its defaults."""
    content_filters: list[dict[str, Any]] = []
    blocklists: list[dict[str, Any]] = []
    for source, side in SIDES.items():
        body = mapping(resource.body.get(side))
        content_filters += [harm_entry(name, source, body.get(harm, "medium")) for name, harm in HARMS.items()]
        for name, detection in DETECTIONS[side].items():
            does = body.get(detection, USUAL_DETECTIONS.get(detection, "off"))
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
        "basePolicyName": USUAL_BASE,
        "contentFilters": content_filters,
        "customBlocklists": blocklists,
    }
    more = {"etag": resource.etag} if resource.etag is not None else {}
    return scope.child("raiPolicies", resource.name, properties, **more)


def harm_entry(name: str, source: str, given: Any) -> dict[str, Any]:
    """One entry of `contentFilters`; `given`: a severity, or `{at, effect}`."""
    known = given if isinstance(given, Mapping) else {"at": given}
    level = str(known.get("at", "medium"))
    is_on = level != "off"
    return {
        "name": name,
        "source": source,
        "enabled": is_on,
        "blocking": is_on and known.get("effect") != "annotate",
        "severityThreshold": level.capitalize() if is_on else "High",
    }


def shown_built_in(scope: Scope, policy: ContentFilterPolicy) -> dict[str, Any]:
    """A policy that comes with modelport, in ARM's form."""
    sides = {side: words_of(getattr(policy, side), side) for side in SIDES.values()}
    resource = Resource(kind="content_filters", name=policy.name, body=sides, origin="built_in", place=None)
    found = shown(scope, resource)
    found["properties"]["type"] = "SystemManaged"
    del found["properties"]["basePolicyName"]
    return found


def built_in_policy(name: str) -> ContentFilterPolicy | None:
    """The built-in policy of this name."""
    return next((policy for known, policy in BUILT_IN.items() if is_same(known, name)), None)


def words_of(side: SidePolicy, name: str) -> Body:
    """One side of a built-in policy in the configuration's words."""
    found: Body = {}
    for harm in HARMS.values():
        rule = side.rules.get(Category(harm))
        found[harm] = rule.threshold.word if rule is not None else "off"
    looked_for = {str(category) for category in side.rules}
    for detection in DETECTIONS[name].values():
        is_on = any(category.startswith(detection) for category in looked_for)
        found[detection] = "block" if is_on else "off"
    return found


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
