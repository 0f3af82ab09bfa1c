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
    return page([subscription(scope.arm.names().subscription or NIL_ID)])


async def get(scope: Scope) -> Answer:
    """One subscription; its configured name, or any."""
    return json_answer(subscription(scope.names["subscription"]))


async def metadata(scope: Scope) -> Answer:
    """Where a client signs in and manages. One object, as clients of a cloud of one's own expect, and no list."""
    base = scope.base
    return json_answer(
        {
            "name": "modelport",
            "portal": base,
            "authentication": {
                "loginEndpoint": base,
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


def subscription(name: str) -> dict[str, Any]:
    """As Azure shows one."""
    return {
        "id": f"/subscriptions/{name}",
        "subscriptionId": name,
        "tenantId": NIL_ID,
        "displayName": "modelport",
        "state": "Enabled",
        "authorizationSource": "RoleBased",
        "subscriptionPolicies": {"spendingLimit": "Off"},
        "managedByTenants": [],
        "tags": {},
    }
