"""The catalogue: what can be deployed, and in which capacities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from modelport.admin.arm.errors import ModelNotSupported
from modelport.admin.arm.scope import ACCOUNT, LOCATION, Arm, CatalogueModel, Routes, Scope, page
from modelport.admin.endpoint import Answer
from modelport.core.catalog import ModelProfile
from modelport.core.operations import Operation
from modelport.core.quota import (
    CAPACITY_FORMAT,
    CAPACITY_SKUS,
    REQUESTS_PER_CAPACITY_UNIT,
    TOKENS_PER_CAPACITY_UNIT,
    WINDOW_SECONDS,
)
from modelport.core.roles import Permission

SKUS: Final = ("GlobalStandard", "DataZoneStandard", "Standard", "GlobalBatch", "DataZoneBatch")
"""Capacity types that mean something here: shared capacity, and calls that let others go first."""
MAX_CAPACITY: Final = 2**53
"""The configuration's greatest number."""
CAPACITY: Final = {"minimum": 1, "maximum": MAX_CAPACITY, "step": 1, "default": 1, "allowedValues": []}


def add(routes: Routes) -> None:
    """Lists of the account and of a location."""
    routes.add("GET", f"{ACCOUNT}/models", of_account, Permission.READ_CATALOGUE)
    routes.add("GET", f"{LOCATION}/models", of_location, Permission.READ_CATALOGUE)


async def of_account(scope: Scope) -> Answer:
    """Every model."""
    return page(await listed(scope.arm))


async def of_location(scope: Scope) -> Answer:
    """The same, in the shape that locations have."""
    return page([{"kind": "AIServices", "skuName": "S0", "model": model} for model in await listed(scope.arm)])


async def listed(arm: Arm) -> Sequence[dict[str, Any]]:
    """Every model as Azure shows it. The first version of a model is its default."""
    found, seen = [], set[tuple[str, str]]()
    for model in await catalogue(arm):
        found.append(shown(model, is_default=model.identity[:2] not in seen))
        seen.add(model.identity[:2])
    return found


async def catalogue(arm: Arm) -> Sequence[CatalogueModel]:
    """The file's and the stored entries, then the models that run here whose name no entry has."""
    found: dict[tuple[str, str, str], CatalogueModel] = {}
    for resource in await arm.plane.list("models"):
        model = entry(arm, resource.body)
        found[model.identity] = model
    names = {model.name.lower() for model in found.values()}
    return (*found.values(), *(model for model in arm.built_in if model.name.lower() not in names))


async def deployable(arm: Arm, asked: Mapping[str, Any]) -> CatalogueModel:
    """The entry of a format, name and version; what is not said fits any. Raises ModelNotSupported."""
    models = await catalogue(arm)

    def fits(model: CatalogueModel) -> bool:
        parts = (("format", model.format), ("name", model.name), ("version", model.version))
        return all(asked.get(key) is None or str(asked[key]).lower() == value.lower() for key, value in parts)

    if found := next(filter(fits, models), None):
        return found
    name = str(asked.get("name")).lower()
    others = [f"'{m.format}' '{m.version}'" for m in models if m.name.lower() == name]
    known = f" The catalogue has it as format and version {', '.join(others)}." if others else ""
    words = ", ".join(f"{key.capitalize()}: {asked.get(key)}" for key in ("format", "name", "version"))
    raise ModelNotSupported(
        f"The model '{words}' of account deployment is not supported.{known}", target="properties.model"
    )


def entry(arm: Arm, body: Mapping[str, Any]) -> CatalogueModel:
    """A catalogue's entry in our noun."""
    name = str(body.get("name"))
    profile = arm.profile_of(name)
    return CatalogueModel(
        format=str(body.get("format", "Custom")),
        name=name,
        version=str(body.get("version", "1")),
        publisher=body.get("publisher"),
        operations=profile.operations,
        context=profile.context,
        max_output=profile.max_output,
    )


def shown(model: CatalogueModel, *, is_default: bool) -> dict[str, Any]:
    """As Azure shows an account's model."""
    return {
        "format": model.format,
        "name": model.name,
        "version": model.version,
        "publisher": model.publisher or model.format,
        "isDefaultVersion": is_default,
        "lifecycleStatus": "GenerallyAvailable",
        "maxCapacity": MAX_CAPACITY,
        "capabilities": capabilities(model),
        "deprecation": {},
        "skus": [
            {
                "name": sku,
                "usageName": usage_name(model.format, sku, model.name),
                "capacity": CAPACITY,
                "rateLimits": rates_of_a_unit(model.format, sku),
            }
            for sku in SKUS
        ],
    }


def capabilities(model: CatalogueModel | ModelProfile) -> dict[str, str]:
    """What it can be asked, and how much: Azure writes every value as text."""
    found = {operation.azure_word: "true" for operation in Operation if operation in model.operations}
    for of_no_model in (Operation.INFO, Operation.CONTENT_SAFETY):
        found.pop(of_no_model.azure_word, None)
    if model.context is not None:
        found["maxContextToken"] = str(model.context)
    if model.max_output is not None:
        found["maxOutputToken"] = str(model.max_output)
    return found


def rates_of_a_unit(model_format: str, sku: str) -> list[dict[str, Any]]:
    """What one unit of capacity allows; empty where capacity sets no limit."""
    if model_format.lower() != CAPACITY_FORMAT or sku.lower() not in CAPACITY_SKUS:
        return []
    return [
        {"key": "request", "renewalPeriod": WINDOW_SECONDS, "count": REQUESTS_PER_CAPACITY_UNIT},
        {"key": "token", "renewalPeriod": WINDOW_SECONDS, "count": TOKENS_PER_CAPACITY_UNIT},
    ]


def usage_name(model_format: str, sku: str, name: str) -> str:
    """The name under which the capacity of a model's deployments is added up."""
    family = "OpenAI" if model_format.lower() == CAPACITY_FORMAT else "AIServices"
    return f"{family}.{sku}.{name}"
