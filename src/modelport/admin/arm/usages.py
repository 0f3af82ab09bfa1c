"""How much capacity is deployed, by capacity type and model."""

from __future__ import annotations

from typing import Any

from modelport.admin.arm.models import MAX_CAPACITY, usage_name
from modelport.admin.arm.scope import ACCOUNT, LOCATION, Routes, Scope, page
from modelport.admin.endpoint import Answer
from modelport.core.roles import Permission


def add(routes: Routes) -> None:
    """Of the account and of a location: there is one of each."""
    routes.add("GET", f"{ACCOUNT}/usages", list_, Permission.READ_METRICS)
    routes.add("GET", f"{LOCATION}/usages", list_, Permission.READ_METRICS)


async def list_(scope: Scope) -> Answer:
    """Units of capacity of all deployments of one type and model. The limit is the configuration's."""
    used: dict[str, int] = {}
    for deployment in scope.arm.snapshot().deployments.values():
        name = usage_name(deployment.model.format, deployment.sku.name, deployment.model.name)
        used[name] = used.get(name, 0) + deployment.sku.capacity
    return page([usage(name, units) for name, units in sorted(used.items())])


def usage(name: str, units: int) -> dict[str, Any]:
    """As Azure shows one."""
    return {
        "name": {"value": name, "localizedValue": name},
        "currentValue": units,
        "limit": MAX_CAPACITY,
        "unit": "Count",
        "quotaPeriod": None,
        "nextResetTime": None,
        "status": "Included",
    }
