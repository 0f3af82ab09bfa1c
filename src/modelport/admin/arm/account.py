"""The account, its keys, and the account in lists."""

from __future__ import annotations

from typing import Any, Literal

from modelport.admin.arm.scope import ACCOUNT, GROUP, NIL_ID, PROVIDER, SUBSCRIPTION, UNNAMED, Routes, Scope, page
from modelport.admin.endpoint import Answer, json_answer
from modelport.admin.resources import check_is_private
from modelport.core.errors import BadRequest
from modelport.core.roles import Permission

SURFACES = {
    "Azure AI Model Inference API": "/",
    "OpenAI Language Model Instance API": "/",
}
"""Names that Azure gives endpoints, and their path here."""


def add(routes: Routes) -> None:
    """Account and keys."""
    routes.add("GET", ACCOUNT, get, Permission.READ_ACCOUNT)
    routes.add("GET", f"{GROUP}/accounts", list_, Permission.READ_ACCOUNT)
    routes.add("GET", f"{SUBSCRIPTION}{PROVIDER}/accounts", list_, Permission.READ_ACCOUNT)
    routes.add("POST", f"{ACCOUNT}/listKeys", list_keys, Permission.MANAGE_KEYS)
    routes.add("POST", f"{ACCOUNT}/regenerateKey", regenerate_key, Permission.MANAGE_KEYS)


async def get(scope: Scope) -> Answer:
    """The account."""
    return json_answer(account(scope))


async def list_(scope: Scope) -> Answer:
    """The one account, under its configured names."""
    configured = scope.arm.names()
    names = {"group": configured.group or UNNAMED, **scope.names, "account": configured.account or UNNAMED}
    return page([account(Scope(scope.arm, scope.request, names))])


async def list_keys(scope: Scope) -> Answer:
    """The pair, over TLS alone."""
    check_is_private(scope.request)
    return json_answer(await scope.arm.plane.account_keys(scope.request.actor))


async def regenerate_key(scope: Scope) -> Answer:
    """A new value for `keyName`; the pair as it is then."""
    check_is_private(scope.request)
    return json_answer(await scope.arm.plane.regenerate_account_key(scope.request.actor, slot_of(scope)))


def slot_of(scope: Scope) -> Literal["key1", "key2"]:
    """The body's `keyName`. Raises BadRequest."""
    match scope.request.json().get("keyName"):
        case "Key1" | "key1":
            return "key1"
        case "Key2" | "key2":
            return "key2"
        case _:
            raise BadRequest("keyName is Key1 or Key2.", code="InvalidKeyName", target="keyName")


def account(scope: Scope) -> dict[str, Any]:
    """As Azure shows one. Raises BadRequest."""
    base = scope.base
    return {
        "id": scope.account_id,
        "name": scope.names["account"],
        "type": "Microsoft.CognitiveServices/accounts",
        "location": scope.arm.server().region,
        "kind": "AIServices",
        "sku": {"name": "S0"},
        "etag": f'"{scope.arm.snapshot().id}"',
        "tags": {},
        "identity": {"type": "None", "tenantId": NIL_ID},
        "properties": {
            "provisioningState": "Succeeded",
            "endpoint": f"{base}/",
            "endpoints": {name: f"{base}{path}" for name, path in SURFACES.items()},
            "publicNetworkAccess": "Enabled",
            "disableLocalAuth": False,
        },
    }
