"""Role definitions: Azure's that are roles here, so that a client finds the id for a name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from modelport.admin.arm.errors import ArmNotFound
from modelport.admin.arm.scope import ACCOUNT, SUBSCRIPTION, Routes, Scope, page
from modelport.admin.endpoint import Answer, json_answer
from modelport.core.errors import BadRequest
from modelport.core.roles import AZURE_ROLES, AzureRole, Permission, Role, azure_role_named

DEPLOYMENT_SCOPE: Final = f"{ACCOUNT}/deployments/{{deployment}}"
SCOPES: Final = (SUBSCRIPTION, f"{SUBSCRIPTION}/resourceGroups/{{group}}", ACCOUNT, DEPLOYMENT_SCOPE)
"""Where roles are assigned. There is one account, so that the first three mean the same."""
AUTHORIZATION: Final = "providers/Microsoft.Authorization"
COGNITIVE: Final = "Microsoft.CognitiveServices"
BY_NAME: Final = re.compile(r"\s*roleName\s+eq\s+'([^']*)'\s*", re.IGNORECASE)
BUILT_IN: Final = re.compile(
    r"\s*type\s+eq\s+'BuiltInRole'\s*|\s*atScopeAndBelow\(\)\s*|\s*atScope\(\)\s*", re.IGNORECASE
)
ALLOWED: Final[Mapping[Role, tuple[list[str], list[str]]]] = {
    Role.INFERENCE_USER: ([f"{COGNITIVE}/accounts/read"], [f"{COGNITIVE}/*"]),
    Role.DEPLOYMENT_CONTRIBUTOR: (
        [f"{COGNITIVE}/accounts/{what}" for what in ("read", "deployments/*", "models/read", "raiPolicies/read")],
        [],
    ),
    Role.USAGE_READER: ([f"{COGNITIVE}/accounts/read", f"{COGNITIVE}/*/usages/read"], []),
    Role.ADMINISTRATOR: (["*"], ["*"]),
}
"""Actions and data actions."""


def add(routes: Routes) -> None:
    """The list, and one by its id."""
    for scope in SCOPES:
        path = f"{scope}/{AUTHORIZATION}/roleDefinitions"
        routes.add("GET", path, list_, Permission.READ_ACCOUNT)
        routes.add("GET", f"{path}/{{definition}}", get, Permission.READ_ACCOUNT)


async def list_(scope: Scope) -> Answer:
    """All, or those that the filter wants."""
    return page([shown(scope, found) for found in wanted(scope.request.query.get("$filter"))])


async def get(scope: Scope) -> Answer:
    """One."""
    given = scope.names["definition"].lower()
    for found in AZURE_ROLES:
        if found.id == given:
            return json_answer(shown(scope, found))
    raise ArmNotFound(f"The role definition '{given}' could not be found.", code="RoleDefinitionDoesNotExist")


def wanted(text: str | None) -> Iterable[AzureRole]:
    """What a filter leaves: `roleName eq 'NAME'`, by Azure's names and ours. Raises BadRequest."""
    if text is None or BUILT_IN.fullmatch(text):
        return AZURE_ROLES
    if (named := BY_NAME.fullmatch(text)) is None:
        raise BadRequest("The filter is roleName eq 'NAME'.", target="$filter")
    found = azure_role_named(named[1])
    return (found,) if found is not None else ()


def definition_id(scope: Scope, found: AzureRole) -> str:
    """Its resource id in the subscription that was asked."""
    return f"/subscriptions/{scope.names['subscription']}/{AUTHORIZATION}/roleDefinitions/{found.id}"


def shown(scope: Scope, found: AzureRole) -> dict[str, Any]:
    """As Azure shows one."""
    actions, data_actions = ALLOWED[found.role]
    return {
        "id": definition_id(scope, found),
        "name": found.id,
        "type": "Microsoft.Authorization/roleDefinitions",
        "properties": {
            "roleName": found.name,
            "type": "BuiltInRole",
            "description": f"modelport's role {found.role.value}.",
            "assignableScopes": ["/"],
            "permissions": [{"actions": actions, "notActions": [], "dataActions": data_actions, "notDataActions": []}],
        },
    }
