"""Policies and deployments of a whole configuration, as policies see them."""

from __future__ import annotations

from collections.abc import Iterator

from modelport.app.filter_policies import content_filter_of
from modelport.app.filter_policies import policies_of as filter_policies
from modelport.app.snapshot import catalogue_entry
from modelport.config.deployment_policies import DeploymentPatterns
from modelport.config.deployments import DeploymentSettings, ProviderSettings
from modelport.config.embedded import EMBEDDED, embedded
from modelport.config.settings import Settings
from modelport.control.policy import DeploymentFacts, Policy, violations
from modelport.core.ports.control import PolicyViolation


def violations_of(settings: Settings, deployment: str | None, policy: str | None = None) -> tuple[PolicyViolation, ...]:
    """Of one deployment (None: of all) and one policy (None: of all)."""
    names = [name for name in settings.deployments if deployment is None or name.lower() == deployment.lower()]
    policies = [found for found in policies_of(settings) if policy is None or found.name == policy]
    return tuple(
        violation
        for name in names
        for found in policies
        for violation in violations(found, facts(name, settings.deployments[name], settings))
    )


def policies_of(settings: Settings) -> Iterator[Policy]:
    """Every policy."""
    filters = filter_policies(settings)
    for name, given in settings.policies.items():
        yield Policy(
            name=name,
            allow=patterns(given.allow),
            deny=patterns(given.deny),
            max_capacity=given.max_capacity,
            required_tags=given.required_tags,
            content_filter_at_least=filters[least.lower()] if (least := given.content_filter_at_least) else None,
            effect=given.effect,
        )


def patterns(given: DeploymentPatterns) -> dict[str, tuple[str, ...]]:
    """Those that were written."""
    return {field: getattr(given, field) for field in given.model_fields_set if getattr(given, field) is not None}


def facts(name: str, deployment: DeploymentSettings, settings: Settings) -> DeploymentFacts:
    """What policies look at."""
    model, places = deployment.model, list(places_of(deployment, settings))
    return DeploymentFacts(
        name=name,
        values={
            "models": [(model.name,)],
            "publishers": [(model.publisher or model.format,)],
            "formats": [(model.format,)],
            "skus": [(deployment.sku.name,)],
            "providers": [names for names, _ in places],
            "regions": [(region,) if region is not None else () for _, region in places],
        },
        capacity=deployment.sku.capacity,
        tags=deployment.tags,
        content_filter=filter_policies(settings)[content_filter_of(deployment, settings).lower()],
    )


def places_of(deployment: DeploymentSettings, settings: Settings) -> Iterator[tuple[tuple[str, ...], str | None]]:
    """The names of each provider that may answer (its own and its type), and its region."""
    if isinstance(deployment.provider, ProviderSettings):
        yield place_of((), deployment.provider, settings)
        return
    named = [target.provider for target in deployment.targets or ()]
    if deployment.provider is not None:
        named = [deployment.provider]
    if not named and (entry := catalogue_entry(deployment.model, settings.models)) is not None:
        named = [entry.provider]
    if not named and (weights := embedded(deployment.model.name)) is not None:
        yield (weights.backend,), settings.server.region
    for name in named:
        yield place_of((name,), settings.providers[name], settings)


def place_of(
    names: tuple[str, ...], provider: ProviderSettings, settings: Settings
) -> tuple[tuple[str, ...], str | None]:
    """Of one provider. An engine of this server is in the server's region."""
    here = settings.server.region if provider.type in EMBEDDED else None
    return (*names, provider.type), provider.region or here
