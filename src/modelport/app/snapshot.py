"""Settings → Snapshot: the immutable view that every call holds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast, overload

import msgspec

from modelport.app.filter_policies import policies_of
from modelport.app.prices import price_book
from modelport.auth.api_key import digest
from modelport.auth.oidc.issuers import names_of
from modelport.auth.roles import assignee, project_of
from modelport.config.budgets import BudgetSettings
from modelport.config.default_filter import default_content_filter
from modelport.config.deployments import (
    CatalogueEntry,
    DeploymentSettings,
    InlineProviderSettings,
    LimitSettings,
    ModelSettings,
)
from modelport.config.embedded import embedded
from modelport.config.policies import KeyLimitSettings, KeySettings
from modelport.config.profiles import load_profiles
from modelport.config.secrets import Secret
from modelport.config.settings import Settings
from modelport.control.profiles import ProfileError, Profiles
from modelport.core.budgets import Budget, deployment_subject, key_subject, project_subject
from modelport.core.catalog import Deployment, Model, ModelProfile, RateLimits, Sku, Snapshot, Target, Timeouts
from modelport.core.identity import (
    Assignee,
    AssigneeKind,
    ClaimRule,
    KeyEntry,
    Principal,
    TokenIssuer,
    grants_of,
)
from modelport.core.operations import Operation
from modelport.core.quota import effective_limits
from modelport.core.roles import Grant, Role
from modelport.engine.weights.catalogue import CATALOGUE, Weights

OPERATOR = "operator"
# What a backend can be asked at all, where no profile says what the model does.
BACKEND_OPERATIONS: Mapping[str, frozenset[Operation]] = {
    "llama_cpp": frozenset({Operation.CHAT_COMPLETIONS, Operation.COMPLETIONS}),
    "onnx_embeddings": frozenset({Operation.EMBEDDINGS}),
    "onnx_image_embeddings": frozenset({Operation.IMAGE_EMBEDDINGS}),
}


def run_here(settings: Settings) -> Iterator[str]:
    """The runtime's names of providers that are our own workers."""
    yield from (embedded_name(weights) for weights in CATALOGUE.values())
    yield from (name for name, provider in settings.providers.items() if provider.type in BACKEND_OPERATIONS)
    for name, deployment in settings.deployments.items():
        given = deployment.provider
        if isinstance(given, InlineProviderSettings) and given.type in BACKEND_OPERATIONS:
            yield inline_name(name)


def embedded_deployments() -> dict[str, DeploymentSettings]:
    """What is deployed when the configuration names no deployment: each default model under its own name."""
    return {
        weights.name: DeploymentSettings(model=nouns(weights), default=weights.operation == "chat_completions")
        for weights in CATALOGUE.values()
        if weights.default
    }


def nouns(weights: Weights) -> ModelSettings:
    """An embedded model in the configuration's words."""
    model = weights.model
    return ModelSettings(format=model.format, name=model.name, version=model.version, publisher=model.publisher)


def targets(name: str, deployment: DeploymentSettings, catalogue: Sequence[CatalogueEntry]) -> tuple[Target, ...]:
    """Who answers, by the names under which the runtime keeps them."""
    model = deployment.model.name
    if deployment.targets is not None:
        return tuple(
            Target(provider=t.provider, model=t.model or model, priority=t.priority, weight=t.weight)
            for t in deployment.targets
        )
    if isinstance(deployment.provider, InlineProviderSettings):
        return (Target(provider=inline_name(name), model=deployment.provider.model or model),)
    entry = catalogue_entry(deployment.model, catalogue)
    if isinstance(deployment.provider, str):
        upstream = entry.upstream_model if entry is not None and entry.provider == deployment.provider else None
        return (Target(provider=deployment.provider, model=upstream or model),)
    if entry is not None:
        return (Target(provider=entry.provider, model=entry.upstream_model or entry.name),)
    weights = embedded(model)
    if weights is None:
        raise LookupError(f"no provider for deployment {name!r}")  # the configuration's cross-check comes first
    return (Target(provider=embedded_name(weights), model=weights.model.name),)


def catalogue_entry(model: ModelSettings, catalogue: Sequence[CatalogueEntry]) -> CatalogueEntry | None:
    """The entry of this format, name and version; else the first one of this name."""
    named = [entry for entry in catalogue if entry.name.lower() == model.name.lower()]
    wanted = (model.format.lower(), model.version.lower())
    exact = (entry for entry in named if (entry.format.lower(), entry.version.lower()) == wanted)
    return next(exact, named[0] if named else None)


def inline_name(deployment: str) -> str:
    """The runtime's name of a provider written in its deployment."""
    return f"deployments.{deployment}.provider"


def embedded_name(weights: Weights) -> str:
    """The runtime's name of an embedded model."""
    return f"embedded.{weights.name}"


def provider_type(name: str, deployment: DeploymentSettings, settings: Settings) -> str | None:
    """The adapter's type where it is one of our backends; it says what can be asked of an unknown model."""
    provider = deployment.provider
    if isinstance(provider, InlineProviderSettings):
        return provider.type
    if isinstance(provider, str):
        return settings.providers[provider].type
    weights = embedded(deployment.model.name)
    return weights.backend if weights is not None and deployment.targets is None else None


def limits(given: LimitSettings, sku: Sku | None, model: Model) -> RateLimits:
    """Explicit figures over those that follow from the SKU that was written, if one was."""
    explicit: dict[str, int | None] = {}
    for field in ("tokens_per_minute", "requests_per_minute"):
        value = getattr(given, field)
        if value != "default":
            explicit[field] = value
    found = effective_limits(explicit, sku, model)
    return msgspec.structs.replace(
        found,
        concurrent_requests=given.concurrent_requests,
        wait_seconds=given.wait_seconds,
        on_store_outage=given.on_store_outage,
    )


def slot_context(deployment: DeploymentSettings, settings: Settings, backend: str | None) -> int | None:
    """The most tokens that prompt and completion can share where a model runs here; None: it runs elsewhere."""
    if backend != "llama_cpp":
        return None
    provider = deployment.provider
    given = settings.providers[provider] if isinstance(provider, str) else provider
    own = given.options() if given is not None else {}
    return int((own.get("context") or settings.engine.context) // (own.get("slots") or settings.engine.slots))


def least(*numbers: int | None) -> int | None:
    """Of those that are known."""
    return min((number for number in numbers if number is not None), default=None)


def profile(
    name: str, deployment: DeploymentSettings, profiles: Profiles, backend: str | None, context: int | None = None
) -> ModelProfile:
    """The family's profile with the deployment's overrides, and no more `context` than where it runs. Raises
    ProfileError naming the deployment."""
    try:
        found = profiles.of(deployment.model.name, deployment.profile)
    except (ProfileError, TypeError, ValueError) as error:
        raise ProfileError(f"deployments.{name}.profile: {error}") from error
    found = msgspec.structs.replace(found, context=least(found.context, context))
    if backend is not None and backend in BACKEND_OPERATIONS and "operations" not in deployment.profile:
        base = profiles.of(deployment.model.name)
        if not base.known:
            return msgspec.structs.replace(found, operations=BACKEND_OPERATIONS[backend])
    return found


def deployments(settings: Settings, profiles: Profiles) -> Iterator[Deployment]:
    """Every deployment of the configuration, or the embedded ones."""
    policies, usual_filter = policies_of(settings), default_content_filter(settings)
    for name, given in (settings.deployments or embedded_deployments()).items():
        model = Model(given.model.format, given.model.name, given.model.version, given.model.publisher)
        sku = Sku(given.sku.name, given.sku.capacity)
        times = given.timeouts
        backend = provider_type(name, given, settings)
        found = profile(name, given, profiles, backend, slot_context(given, settings, backend))
        spelling = found.max_tokens_name if found.max_tokens_name != "max_tokens" else None
        yield Deployment(
            name=name,
            model=model,
            targets=tuple(
                msgspec.structs.replace(target, max_tokens_name=spelling)
                for target in targets(name, given, settings.models)
            ),
            profile=found,
            sku=sku,
            limits=limits(given.limits, sku if "sku" in given.model_fields_set else None, model),
            timeouts=Timeouts(times.connect, times.first_event, times.between_events, times.whole, times.queue),
            extra_parameters=given.extra_parameters or settings.extra_parameters,
            model_type=given.model_type,
            answers_as=given.answers_as,
            content_filter=policies[(given.content_filter or usual_filter).lower()].name,
            spillover=given.spillover,
            budget=budget(deployment_subject(name), given.budget),
            key_only=given.key_only,
            default=given.default,
        )


def key_limits(given: KeyLimitSettings) -> RateLimits | None:
    """A key's own limits; None where it has none, which saves an account."""
    tokens, requests = (None if v == "default" else v for v in (given.tokens_per_minute, given.requests_per_minute))
    if tokens is None and requests is None and given.concurrent_requests is None:
        return None
    return RateLimits(tokens, requests, given.concurrent_requests, on_store_outage=given.on_store_outage)


def keys(settings: Settings, salt: bytes, generated: Secret | None) -> dict[bytes, KeyEntry]:
    """Every key by its keyed hash: the operator's are Administrators, `keys:` entries what their role says, and what is
    assigned to them."""
    found: dict[bytes, KeyEntry] = {}
    operators = [*settings.auth.keys, *([generated] if generated is not None else [])]
    for number, secret in enumerate(operators, start=1):
        principal = Principal(name=OPERATOR, key_id=f"{OPERATOR}/{number}", grants=(Grant(Role.ADMINISTRATOR),))
        hashed = digest(salt, secret.reveal())
        found[hashed] = KeyEntry(hashed, principal)
    assigned = role_assignments(settings)
    for name, entry in settings.keys.items():
        own = (entry.grant,) if entry.grant is not None else ()
        grants = (*own, *grants_of(assigned, "key", name.lower()))
        expires_at = entry.expires.timestamp() if entry.expires is not None else None
        for slot, given in (("key1", entry.key1), ("key2", entry.key2)):
            if given is None:
                continue
            principal = Principal(
                name=name,
                key_id=f"{name}/{slot}",
                grants=grants,
                limits=key_limits(entry.limits),
                weight=entry.weight,
                project=project_of(grants) or entry.project,
                budgets=tuple(key_budgets(name, entry, project_of(grants) or entry.project, settings)),
                may_explain=entry.explain,
            )
            hashed = bytes.fromhex(given.reveal()) if given.is_hash else digest(salt, given.reveal())
            found[hashed] = KeyEntry(hashed, principal, expires_at)
    return found


def token_issuers(settings: Settings) -> Iterator[TokenIssuer]:
    """The entries of `auth.oidc`."""
    for entry in settings.auth.oidc:
        names = names_of(entry.issuer)
        yield TokenIssuer(
            issuer=entry.issuer,
            accepted=names.accepted,
            audiences=frozenset(audience.removesuffix("/") for audience in entry.audiences),
            algorithms=frozenset(entry.algorithms),
            leeway=entry.leeway,
            tenant=names.tenant,
            authorization_uri=names.authorization_uri,
            ca_file=str(entry.ca) if entry.ca is not None else None,
            proxy=entry.proxy.reveal() if entry.proxy is not None else None,
            rules=tuple(ClaimRule(rule.claim, rule.value, rule.grant) for rule in entry.roles),
        )


def role_assignments(settings: Settings) -> dict[Assignee, tuple[Grant, ...]]:
    """By whom they are for. One that names no issuer is about the only one that is configured."""
    issuers = [entry.issuer for entry in settings.auth.oidc]
    found: dict[Assignee, tuple[Grant, ...]] = {}
    for given in settings.role_assignments.values():
        ((kind, value),) = given.assignees
        issuer = given.issuer or (issuers[0] if issuers and kind != "key" else None)
        if kind == "key" or issuer is not None:
            who = assignee(cast(AssigneeKind, kind), value, issuer)
            found[who] = (*found.get(who, ()), given.grant)
    return found


def key_budgets(name: str, entry: KeySettings, project: str | None, settings: Settings) -> Iterator[Budget]:
    """What both keys of an entry draw on: their own budget and their project's."""
    if entry.budget is not None:
        yield budget(key_subject(name), entry.budget)
    if project is not None and (found := project_budgets(settings).get(project)) is not None:
        yield found


def project_budgets(settings: Settings) -> dict[str, Budget]:
    """Of the projects that have one."""
    given = {name: budget(project_subject(name), project.budget) for name, project in settings.projects.items()}
    return {name: found for name, found in given.items() if found is not None}


@overload
def budget(subject: str, given: BudgetSettings) -> Budget: ...
@overload
def budget(subject: str, given: BudgetSettings | None) -> Budget | None: ...
def budget(subject: str, given: BudgetSettings | None) -> Budget | None:
    """The settings' budget in our noun."""
    return None if given is None else Budget(subject, given.per, given.amount, given.tokens, given.on_store_outage)


def build(
    settings: Settings,
    salt: bytes,
    generated: Secret | None,
    version: int = 0,
    prices: Sequence[Mapping[str, Any]] = (),
    *,
    is_stale: bool = False,
) -> Snapshot:
    """The snapshot of this configuration. `version`, `prices` and `is_stale` are the control plane's. Its id is the
    same for the same deployments and the same version, whatever the process."""
    built = {d.name.lower(): d for d in deployments(settings, load_profiles())}
    default = next((key for key, deployment in built.items() if deployment.default), None)
    if default is None and len(built) == 1:
        default = next(iter(built))
    return Snapshot(
        id=f"{version}.{identity(built)}" if version else identity(built),
        version=version,
        is_stale=is_stale,
        deployments=built,
        keys=keys(settings, salt, generated),
        key_salt=salt,
        issuers=tuple(token_issuers(settings)),
        role_assignments=role_assignments(settings),
        project_budgets=project_budgets(settings),
        default=default,
        anonymous=settings.auth.anonymous,
        strict=settings.server.strict,
        default_content_filter=policies_of(settings)[default_content_filter(settings).lower()].name,
        region=settings.server.region,
        prices=price_book(settings, inline_name, set(run_here(settings)), prices),
    )


def identity(built: Mapping[str, Any]) -> str:
    """A short name of what is deployed and how."""
    plain = msgspec.to_builtins(dict(sorted(built.items())), order="deterministic")
    return hashlib.sha256(msgspec.json.encode(plain)).hexdigest()[:12]
