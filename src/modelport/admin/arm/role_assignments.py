"""Role assignments: the same objects as `/admin/v1/role_assignments`. What Azure has no word for (patterns of several
deployments, operations, a project) is shown and cannot be set here."""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final

from modelport.admin.arm.errors import ArmNotFound
from modelport.admin.arm.role_definitions import AUTHORIZATION, SCOPES, definition_id
from modelport.admin.arm.scope import UNNAMED, Routes, Scope, page
from modelport.admin.endpoint import Answer, json_answer
from modelport.admin.resources import conditions, moment
from modelport.control.resources.rules import is_same, mapping
from modelport.core.errors import BadRequest
from modelport.core.ports.control import Body, Resource, ResourceConflict, ResourceNotFound
from modelport.core.roles import ROLE_IDS, Permission, azure_role_named

KINDS: Final[Mapping[str, str]] = {
    "user": "User",
    "group": "Group",
    "application": "ServicePrincipal",
    "key": "Unknown",
}
"""What a role can be assigned to, and Azure's type of it. `user` has the object id of a service principal, too."""
TYPES: Final[Mapping[str, tuple[str, str]]] = {
    "user": ("user", "User"),
    "serviceprincipal": ("user", "ServicePrincipal"),
    "group": ("group", "Group"),
}
"""What a role can be assigned to by Azure's type of it, and how Azure spells that."""
NOT_HERE: Final = ("condition", "conditionVersion", "delegatedManagedIdentityResourceId")
NAMESPACE: Final = uuid.UUID("0f1d8d0a-6a3f-4c59-9f0e-5a1c1d6e2b77")
"""For the GUIDs of assignments that have other names."""
FILTER: Final = re.compile(
    r"\s*(?:(?P<at>atScope\(\))|principalId\s+eq\s+'(?P<of>[^']*)'|assignedTo\('(?P<to>[^']*)'\))\s*", re.IGNORECASE
)


class RoleAssignmentExists(ResourceConflict):
    """The same role is assigned to the same principal there already, under another name."""

    code = "RoleAssignmentExists"


def add(routes: Routes) -> None:
    """PUT, GET, DELETE and the list, at every scope."""
    for scope in SCOPES:
        path = f"{scope}/{AUTHORIZATION}/roleAssignments"
        routes.add("GET", path, list_, Permission.MANAGE_KEYS)
        routes.add("GET", f"{path}/{{assignment}}", get, Permission.MANAGE_KEYS)
        routes.add("PUT", f"{path}/{{assignment}}", put, Permission.MANAGE_KEYS)
        routes.add("DELETE", f"{path}/{{assignment}}", delete, Permission.MANAGE_KEYS)


async def list_(scope: Scope) -> Answer:
    """At the scope, above it, and, unless the filter says `atScope()`, below it."""
    is_at, principal = filter_of(scope.request.query.get("$filter"))
    asked = scope.names.get("deployment")
    return page(
        [
            shown(scope, found)
            for found in await scope.arm.plane.list("role_assignments")
            if holds_at(patterns_of(found.body), asked, is_at=is_at)
            and (principal is None or is_same(assignee_of(found.body)[1], principal))
        ]
    )


async def get(scope: Scope) -> Answer:
    """One."""
    found = await existing(scope)
    if found is None:
        raise not_found(scope)
    return json_answer(shown(scope, found))


async def put(scope: Scope) -> Answer:
    """Makes or replaces one."""
    plane, request = scope.arm.plane, scope.request
    settings, known = settings_of(scope), await existing(scope)
    for other in await plane.list("role_assignments"):
        if known is not None and other.name == known.name:
            continue
        if is_named(other, scope.names["assignment"]):
            raise BadRequest("The role assignment has another scope.", code="RoleAssignmentUpdateNotPermitted")
        if is_equal(other.body, settings):
            raise RoleAssignmentExists("The role assignment already exists.", target=name_of(other))
    name = known.name if known is not None else scope.names["assignment"]
    made = await plane.put(request.actor, "role_assignments", name, settings, conditions(request))
    return json_answer(shown(scope, made.resource), 201 if made.created else 200)


async def delete(scope: Scope) -> Answer:
    """Takes it away."""
    found = await existing(scope)
    if found is None:
        return Answer(b"", content_type=None, status=204)
    with contextlib.suppress(ResourceNotFound):
        await scope.arm.plane.delete(scope.request.actor, "role_assignments", found.name, conditions(scope.request))
    return json_answer(shown(scope, found))


def settings_of(scope: Scope) -> Body:
    """A request's body in the configuration's words. Raises BadRequest."""
    given = mapping(scope.request.json().get("properties"))
    for name in NOT_HERE:
        if given.get(name) is not None:
            raise BadRequest(f"{name} has no meaning here; leave it out.", target=f"properties.{name}")
    role = azure_role_named(str(given.get("roleDefinitionId", "")).rsplit("/", 1)[-1])
    if role is None:
        raise BadRequest(
            "roleDefinitionId names none of the role definitions of this account.",
            code="RoleDefinitionDoesNotExist",
            target="properties.roleDefinitionId",
        )
    principal, type_ = given.get("principalId"), given.get("principalType")
    known = TYPES.get(str(type_ or "user").lower())
    if not isinstance(principal, str) or not principal:
        raise BadRequest("principalId is missing.", target="properties.principalId")
    if known is None:
        raise BadRequest("principalType is User, Group or ServicePrincipal.", target="properties.principalType")
    kind, spelled = known
    found: Body = {"role": role.role if ROLE_IDS[role.role] == role.id else role.name, kind: principal}
    if type_ and kind == "user":
        found["principal_type"] = spelled
    if "deployment" in scope.names:
        found["deployments"] = [scope.names["deployment"]]
    if (issuer := issuer_of(scope)) is not None:
        found["issuer"] = issuer
    if given.get("description"):
        found["description"] = given["description"]
    return found


def issuer_of(scope: Scope) -> str | None:
    """Whose ids a caller with a token speaks of: those of its own issuer."""
    key_id = scope.request.principal.key_id if scope.request.principal is not None else None
    return key_id if key_id is not None and "://" in key_id else None


def shown(scope: Scope, found: Resource) -> dict[str, Any]:
    """As Azure shows one."""
    kind, value = assignee_of(found.body)
    role, place = azure_role_named(str(found.body.get("role"))), place_of(scope, patterns_of(found.body))
    return {
        "id": f"{place}/{AUTHORIZATION}/roleAssignments/{name_of(found)}",
        "name": name_of(found),
        "type": "Microsoft.Authorization/roleAssignments",
        "properties": {
            "scope": place,
            "roleDefinitionId": definition_id(scope, role) if role is not None else None,
            "principalId": value,
            "principalType": found.body.get("principal_type") or KINDS[kind],
            "description": found.body.get("description"),
            "condition": condition_of(found.body),
            "conditionVersion": None,
            "createdOn": moment(found.created_us),
            "updatedOn": moment(found.changed_us),
            "createdBy": None,
            "updatedBy": None,
            "delegatedManagedIdentityResourceId": None,
        },
    }


def condition_of(body: Body) -> str | None:
    """What else limits it, for people."""
    operations, project = body.get("operations"), body.get("project")
    parts = [f"operations: {', '.join(operations)}"] if operations is not None else []
    return "; ".join([*parts, *([f"project: {project}"] if project is not None else [])]) or None


def place_of(scope: Scope, patterns: Sequence[str]) -> str:
    """Where it holds: for every deployment, at the scope that was asked, for all of these are the same."""
    configured = scope.arm.names()
    names = {"group": configured.group or UNNAMED, "account": configured.account or UNNAMED, **scope.names}
    account = Scope(scope.arm, scope.request, names).account_id
    if patterns != ("*",):
        return f"{account}/deployments/{','.join(patterns)}"
    if "account" in scope.names:
        return account
    subscription = f"/subscriptions/{scope.names['subscription']}"
    return f"{subscription}/resourceGroups/{scope.names['group']}" if "group" in scope.names else subscription


def holds_at(patterns: Sequence[str], deployment: str | None, *, is_at: bool) -> bool:
    """Whether a list has it. `deployment`: of the scope that was asked; None: all. `is_at`: nothing below the scope."""
    if patterns == ("*",):
        return True
    if deployment is None:
        return not is_at
    return any(is_same(pattern, deployment) for pattern in patterns)


def filter_of(text: str | None) -> tuple[bool, str | None]:
    """Whether `atScope()` is wanted, and the principal. Raises BadRequest."""
    is_at, principal = False, None
    for part in re.split(r"\sand\s", text, flags=re.IGNORECASE) if text is not None else ():
        if (found := FILTER.fullmatch(part)) is None:
            raise BadRequest(
                "The filter is atScope(), principalId eq 'ID' or assignedTo('ID'), joined by and.", target="$filter"
            )
        is_at = is_at or found["at"] is not None
        principal = found["of"] or found["to"] or principal
    return is_at, principal


async def existing(scope: Scope) -> Resource | None:
    """The object of this name or GUID at this scope, if there is one."""
    place = scope.names.get("deployment", "*")
    for found in await scope.arm.plane.list("role_assignments"):
        if is_named(found, scope.names["assignment"]) and is_same(",".join(patterns_of(found.body)), place):
            return found
    return None


def is_named(found: Resource, name: str) -> bool:
    """Whether it is addressed by this name or GUID."""
    return is_same(name, found.name) or is_same(name, name_of(found))


def not_found(scope: Scope) -> ArmNotFound:
    """As Azure says it."""
    return ArmNotFound(
        f"The role assignment '{scope.names['assignment']}' is not found.", code="RoleAssignmentNotFound"
    )


def name_of(found: Resource) -> str:
    """Its GUID."""
    try:
        return str(uuid.UUID(found.name))
    except ValueError:
        return str(uuid.uuid5(NAMESPACE, found.name.lower()))


def assignee_of(body: Body) -> tuple[str, str]:
    """Kind and value of whom the role is assigned to."""
    return next((kind, str(body[kind])) for kind in KINDS if body.get(kind) is not None)


def patterns_of(body: Body) -> tuple[str, ...]:
    """The deployments that it covers."""
    return tuple(body.get("deployments") or ("*",))


def is_equal(body: Body, other: Body) -> bool:
    """Whether both give the same to the same."""
    mine, yours = azure_role_named(str(body.get("role"))), azure_role_named(str(other.get("role")))
    same = mine is not None and mine == yours and assignee_of(body) == assignee_of(other)
    limits = ("operations", "project", "issuer")
    return (
        same
        and [pattern.lower() for pattern in patterns_of(body)] == [pattern.lower() for pattern in patterns_of(other)]
        and all(body.get(name) == other.get(name) for name in limits)
    )
