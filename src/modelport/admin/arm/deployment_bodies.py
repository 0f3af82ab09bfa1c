"""A deployment as Azure writes it, and in the configuration's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from modelport.admin.arm.models import capabilities
from modelport.admin.arm.scope import CatalogueModel, Scope
from modelport.admin.resources import moment
from modelport.control.resources.rules import mapping
from modelport.core.catalog import Deployment
from modelport.core.errors import BadRequest
from modelport.core.ports.control import Body, Resource
from modelport.core.quota import WINDOW_SECONDS

UPGRADES: Final = ("OnceNewDefaultVersionAvailable", "OnceCurrentVersionExpired", "NoAutoUpgrade")
NOT_HERE: Final = ("parentDeploymentName", "capacitySettings", "scaleSettings")
"""Properties that would change what a deployment does, and have no counterpart."""


def settings_of(body: Mapping[str, Any], model: CatalogueModel) -> Body:
    """What a PUT sets; null for what it leaves out. Raises BadRequest."""
    properties = mapping(body.get("properties"))
    check_supported(properties)
    named: Body = {"format": model.format, "name": model.name, "version": model.version}
    if model.publisher is not None:
        named["publisher"] = model.publisher
    return {
        "model": named,
        "sku": sku_of(body) or None,
        "spillover": properties.get("spilloverDeploymentName"),
        "content_filter": properties.get("raiPolicyName"),
        "tags": tags_of(body) or None,
    }


def check_supported(properties: Mapping[str, Any]) -> None:
    """Raises BadRequest."""
    for name in NOT_HERE:
        if properties.get(name) is not None:
            raise BadRequest(f"{name} has no meaning here; leave it out.", target=f"properties.{name}")
    if properties.get("dynamicThrottlingEnabled") not in (None, False):
        raise BadRequest("Limits are not dynamic here.", target="properties.dynamicThrottlingEnabled")
    name = "versionUpgradeOption"
    if properties.get(name) not in (None, *UPGRADES):
        raise BadRequest(f"{name} is one of {', '.join(UPGRADES)}.", target=f"properties.{name}")


def sku_of(body: Mapping[str, Any]) -> Body:
    """Name and capacity, where they are given. `az` sends capacities as text. Raises BadRequest."""
    given = mapping(body.get("sku"))
    found = {key: given[key] for key in ("name", "capacity") if given.get(key) is not None}
    capacity = found.get("capacity")
    if isinstance(capacity, str):
        if not (capacity.isascii() and capacity.isdigit() and len(capacity) <= 16):
            raise BadRequest("A capacity is a whole number from 1.", code="InvalidCapacity", target="sku.capacity")
        found["capacity"] = int(capacity)
    return found


def tags_of(body: Mapping[str, Any]) -> dict[str, str]:
    """The labels. Raises BadRequest."""
    tags = body.get("tags") or {}
    if not isinstance(tags, Mapping) or not all(isinstance(value, str) for value in tags.values()):
        raise BadRequest("Tags are an object of texts.", target="tags")
    return dict(tags)


def shown(scope: Scope, deployment: Deployment, resource: Resource | None) -> dict[str, Any]:
    """As Azure shows one. `resource` is None for one that a flag of the command line has made."""
    rules = rate_limits(deployment)
    more: dict[str, Any] = {}
    if resource is not None and resource.etag is not None:
        more["etag"] = resource.etag
        more["systemData"] = {
            "createdAt": moment(resource.created_us),
            "lastModifiedAt": moment(resource.changed_us),
        }
    tags = mapping(resource.body.get("tags")) if resource is not None else {}
    return scope.child(
        "deployments",
        deployment.name,
        {
            "model": {
                "format": deployment.model.format,
                "name": deployment.model.name,
                "version": deployment.model.version,
                "publisher": deployment.model.publisher,
                "source": None,
            },
            "provisioningState": "Succeeded",
            "versionUpgradeOption": "NoAutoUpgrade",
            "raiPolicyName": deployment.content_filter,
            "spilloverDeploymentName": deployment.spillover,
            "capabilities": capabilities(deployment.profile),
            "currentCapacity": deployment.sku.capacity,
            "dynamicThrottlingEnabled": False,
            "callRateLimit": {
                "count": deployment.limits.requests_per_minute,
                "renewalPeriod": WINDOW_SECONDS if deployment.limits.requests_per_minute is not None else None,
                "rules": rules,
            },
            "rateLimits": rules,
        },
        sku={"name": deployment.sku.name, "capacity": deployment.sku.capacity},
        tags=dict(tags),
        **more,
    )


def under_way(scope: Scope, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """One that is being made or changed."""
    properties = {"model": settings["model"]} if settings.get("model") is not None else {}
    more = {key: settings[key] for key in ("sku", "tags") if settings.get(key) is not None}
    return scope.child("deployments", name, {**properties, "provisioningState": "Creating"}, **more)


def rate_limits(deployment: Deployment) -> list[dict[str, Any]]:
    """The limits that hold; a missing one is unlimited."""
    limits = (
        ("request", deployment.limits.requests_per_minute),
        ("token", deployment.limits.tokens_per_minute),
    )
    return [{"key": key, "renewalPeriod": WINDOW_SECONDS, "count": count} for key, count in limits if count is not None]
