"""Subscriptions, and the description of the cloud that `az cloud register` reads."""

from __future__ import annotations

from typing import Any

from modelport.admin.arm.scope import NIL_ID, SUBSCRIPTION, Routes, Scope, page
from modelport.admin.endpoint import Answer, json_answer
from modelport.core.roles import Permission


def add(routes: Routes) -> None:
    """`/subscriptions` and `/metadata/endpoints`; only the latter is public."""
    routes.add("GET", "/subscriptions", list_, Permission.READ_ACCOUNT)
    routes.add("GET", SUBSCRIPTION, get, Permission.READ_ACCOUNT)
    routes.add("GET", "/metadata/endpoints", metadata, "public")


async def list_(scope: Scope) -> Answer:
    """The one subscription."""
    return page([subscription(scope.arm.names().subscription or NIL_ID, scope.arm.tenant_id)])


async def get(scope: Scope) -> Answer:
    """One subscription; its configured name, or any."""
    return json_answer(subscription(scope.names["subscription"], scope.arm.tenant_id))


async def metadata(scope: Scope) -> Answer:
    """Where a client signs in and manages. One object, as clients of a cloud of one's own expect, and no list."""
    base, tenant = scope.base, scope.arm.tenant
    login = tenant.authorization_uri.rpartition("/")[0] if tenant is not None else base
    return json_answer(
        {
            "name": "modelport",
            "portal": base,
            "authentication": {
                "loginEndpoint": login,
                "audiences": ["https://management.azure.com/", "https://management.core.windows.net/"],
                "tenant": "common",
                "identityProvider": "AAD",
            },
            "resourceManager": f"{base}/",
            **dict.fromkeys(
                ("graphAudience", "graph", "media", "batch", "gallery", "sqlManagement", "vmImageAliasDoc"), base
            ),
            **dict.fromkeys(("microsoftGraphResourceId", "activeDirectoryDataLake"), base),
            "suffixes": {},
        }
    )


def subscription(name: str, tenant_id: str) -> dict[str, Any]:
    """As Azure shows one."""
    return {
        "id": f"/subscriptions/{name}",
        "subscriptionId": name,
        "tenantId": tenant_id,
        "displayName": "modelport",
        "state": "Enabled",
        "authorizationSource": "RoleBased",
        "subscriptionPolicies": {"spendingLimit": "Off"},
        "managedByTenants": [],
        "tags": {},
    }
