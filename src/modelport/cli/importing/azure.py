"""Azure's model deployments as a configuration: each is answered by Azure until its provider is another one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from modelport.cli.importing.arm import ACCOUNT, DEPLOYMENT, ArmResource, resources
from modelport.cli.importing.arm_expressions import UNIQUE
from modelport.cli.importing.result import Imported, NotImportable, variable_for
from modelport.core.names import is_name

SKUS: Final = (
    *("GlobalStandard", "DataZoneStandard", "Standard"),
    *("GlobalProvisionedManaged", "DataZoneProvisionedManaged", "ProvisionedManaged"),
    *("GlobalBatch", "DataZoneBatch", "GlobalManagedCompute"),
)
MINUTE: Final = 60
LIMITS: Final = {"token": "tokens_per_minute", "request": "requests_per_minute"}
WITHOUT: Final = {
    "raiPolicyName": "content filters are not taken over; name one in content_filter",
    "versionUpgradeOption": "a version stays until you change it",
    "dynamicThrottlingEnabled": "limits are fixed",
    "scaleSettings": "capacity is that of the sku",
    "capacitySettings": "capacity is that of the sku",
    "parentDeploymentName": "a deployment has no parent",
}
"""Properties of a deployment, and what is said of each that is set."""
NEUTRAL: Final = (None, False, "NoAutoUpgrade", "Microsoft.Nil", "Microsoft.Nill")
OF_AN_ACCOUNT: Final = {
    "networkAcls": "say in your network who reaches the server",
    "disableLocalAuth": "it takes no keys: write `credential: {type: managed_identity}` for `api_key`, or another type",
    "publicNetworkAccess": "`server.host` says where the server listens",
    "encryption": "secrets are sealed with `secrets_key`",
}


def import_azure(document: Any, parameters: Mapping[str, Any], account: str | None) -> Imported:
    """`account`: whose deployments these are, instead of what the file says. Raises NotImportable."""
    into = Imported()
    found = list(resources(document, parameters, into))
    endpoints = {one.name[-1].lower(): endpoint_of(one) for one in found if one.type == ACCOUNT}
    for one in found:
        if one.type == DEPLOYMENT:
            add_deployment(one, account, endpoints, into)
        elif one.type == ACCOUNT:
            for key, what in OF_AN_ACCOUNT.items():
                if one.body.get("properties", {}).get(key) not in (*NEUTRAL, "Enabled"):
                    into.note(f"{one.name[-1]}.{key}", what)
        else:
            into.note("/".join(one.name), f"is a {one.type.rpartition('/')[2]}, which has no counterpart")
    deployments = into.configuration["deployments"]
    known = {name.lower() for name in deployments}
    for name, body in deployments.items():
        if body.get("spillover", name).lower() not in known:
            into.note(f"{name}.spilloverDeploymentName", f"{body.pop('spillover')} is not in the file")
    if not deployments:
        raise NotImportable("; ".join(["it holds no model deployment", *(f"{p}: {w}" for p, w in into.notes)]))
    return into


def add_deployment(one: ArmResource, account: str | None, endpoints: Mapping[str, str | None], into: Imported) -> None:
    """One deployment, with the provider that answers for it."""
    owner, name = account or (one.name[0] if len(one.name) > 1 else ""), one.name[-1]
    properties = one.body.get("properties") or {}
    model = {key: str(value) for key, value in (properties.get("model") or {}).items() if value is not None}
    if not is_name(name) or "name" not in model:
        into.note(name, "has a name or a model that cannot be used here")
        return
    deployments = into.configuration["deployments"]
    own = name
    if own.lower() in {known.lower() for known in deployments}:
        own = f"{owner}-{name}"
        into.note(name, f"is there twice; the one of {owner} is called {own}")
    format_ = model.get("format", "OpenAI")
    provider = provider_for(owner, format_ == "OpenAI", endpoints, into)
    body: dict[str, Any] = {"model": {key: model[key] for key in ("format", "name", "version") if key in model}}
    add_sku(body, one, name, into)
    if name == model["name"]:
        body["provider"] = provider
    else:
        body["targets"] = [{"provider": provider, "model": name}]
    add_limits(body, properties, name, into)
    if properties.get("spilloverDeploymentName"):
        body["spillover"] = str(properties["spilloverDeploymentName"]).rpartition("/")[2]
    if tags := one.body.get("tags"):
        body["tags"] = {str(key): str(value) for key, value in tags.items()}
    deployments[own] = body
    for key, what in WITHOUT.items():
        if properties.get(key) not in NEUTRAL:
            into.note(f"{name}.{key}", f"{properties[key]}: {what}" if isinstance(properties[key], str) else what)
    if properties.get("provisioningState") not in (None, "Succeeded"):
        into.note(name, f"is {properties['provisioningState']} in Azure")
    for key in ("source", "sourceAccount"):
        if key in model:
            into.note(f"{name}.model.{key}", "a model of your own is named by its provider")


def provider_for(owner: str, is_openai: bool, endpoints: Mapping[str, str | None], into: Imported) -> str:
    """The provider of an account: OpenAI's models at the v1 endpoint, the others at the inference endpoint."""
    account = owner or "ACCOUNT"
    base = account if is_name(account) else "azure"
    name = base if is_openai else f"{base}-models"
    providers = into.configuration["providers"]
    if name not in providers:
        host, path = ("azure_openai", "/openai/v1") if is_openai else ("azure_inference", "/models")
        domain = "openai.azure.com" if is_openai else "services.ai.azure.com"
        address = (is_openai and endpoints.get(owner.lower())) or f"https://{account}.{domain}"
        providers[name] = {
            "type": "openai_compatible",
            "host": host,
            "base_url": f"{address.rstrip('/')}{path}",
            "api_key": f"env:{variable_for(base)}",
        }
        into.note(f"providers.{name}", f"put a key of the account into the variable {variable_for(base)}")
        if not owner or UNIQUE in owner:
            into.note(f"providers.{name}", "the file does not say what the account is called; give --account")
    return name


def endpoint_of(one: ArmResource) -> str | None:
    """The address of an account as az prints it."""
    found = (one.body.get("properties") or {}).get("endpoint")
    return found if isinstance(found, str) and found.startswith("https://") and ".openai." in found else None


def add_sku(body: dict[str, Any], one: ArmResource, name: str, into: Imported) -> None:
    """Capacity type and units."""
    sku = one.body.get("sku") or {}
    body["sku"] = {}
    if (kind := sku.get("name")) in SKUS:
        body["sku"]["name"] = kind
    elif kind is not None:
        into.note(f"{name}.sku.name", f"{kind} is no capacity type of a deployment; it became GlobalStandard")
    if str(capacity := sku.get("capacity", "")).isdigit() and int(capacity) > 0:
        body["sku"]["capacity"] = int(capacity)
    if not body["sku"]:
        del body["sku"]


def add_limits(body: dict[str, Any], properties: Mapping[str, Any], name: str, into: Imported) -> None:
    """Rates per minute. Where Azure's are not known the usual ones of the capacity hold."""
    for rule in properties.get("rateLimits") or ():
        key, count, seconds = LIMITS.get(rule.get("key")), rule.get("count"), rule.get("renewalPeriod") or MINUTE
        if key is None or not isinstance(count, int | float) or count <= 0:
            into.note(f"{name}.rateLimits", f"{rule.get('key')} has no counterpart")
            continue
        per_minute = max(1, int(count * MINUTE / seconds))
        limits = body.setdefault("limits", {})
        limits[key] = min(per_minute, limits.get(key, per_minute))
