"""What no single value shows: names that lead nowhere, names that are taken twice, keys that are the same.

Most of it reads raw data, so that it is found in entries that have other faults as well; what has the wrong shape there
is passed over, because it is told elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from modelport.auth.oidc.issuers import names_of
from modelport.config.budgets import BudgetSettings
from modelport.config.content_filters import known_filters
from modelport.config.faults import Path
from modelport.config.secrets import Secret
from modelport.config.section import shown
from modelport.config.settings import Settings
from modelport.config.spelling import did_you_mean
from modelport.core.safety import BUILT_IN

Finding = tuple[Path, str]
IDENTITY: Final = (("format", "Custom"), ("name", None), ("version", "1"))
"""What two entries of the catalogue cannot share, and the value of each where it is absent."""


@dataclass(frozen=True, slots=True)
class Declared:
    """The names that can be referred to."""

    providers: Collection[str]
    deployments: Collection[str]
    catalogue: Collection[str]

    @classmethod
    def of(cls, data: Mapping[str, Any], embedded_models: Collection[str]) -> Declared:
        """Reads them from raw data. The catalogue is the file's and the models that come with the engine."""
        named = [entry.get("name") for _, entry in _entries(data.get("models"))]
        catalogue = [*embedded_models, *(n for n in named if isinstance(n, str))]
        return cls(tuple(_mapping(data.get("providers"))), tuple(_mapping(data.get("deployments"))), catalogue)


def findings(data: Mapping[str, Any], declared: Declared) -> Iterator[Finding]:
    """Everything in raw data that does not fit together."""
    yield from _taken_twice("deployments", declared.deployments)
    yield from _taken_twice("keys", _mapping(data.get("keys")))
    for section in ("keys", "role_assignments"):
        yield from _projects(_mapping(data.get("projects")), section, _mapping(data.get(section)))
    for section in ("role_assignments", "content_filters", "blocklists"):
        yield from _taken_twice(section, _mapping(data.get(section)))
    yield from _content_filters(data)
    yield from _guard(data, declared)
    yield from _assignments(data)
    yield from _several_defaults(_mapping(data.get("deployments")))
    yield from _catalogue(data.get("models"), declared)
    for name, deployment in _mapping(data.get("deployments")).items():
        yield from _deployment(_mapping(deployment), ("deployments", name), declared)


def same_keys(settings: Settings) -> Iterator[Finding]:
    """One key cannot be two callers: a call would be booked on whichever is found first."""
    named: list[tuple[Path, str, Secret | None]] = [
        (("auth", "keys", index), "auth.keys", key) for index, key in enumerate(settings.auth.keys)
    ]
    for name, entry in settings.keys.items():
        named += [(("keys", name, "key1"), f"keys.{name}", entry.key1)]
        named += [(("keys", name, "key2"), f"keys.{name}", entry.key2)]
    owners: dict[Secret, str] = {}
    for path, owner, secret in named:
        if secret is not None and owners.setdefault(secret, owner) != owner:
            yield path, f"the same key as in {owners[secret]}"


def issuers(settings: Settings) -> Iterator[Finding]:
    """One issuer in two entries: its tokens would be judged by the first alone."""
    known: dict[str, int] = {}
    for index, entry in enumerate(settings.auth.oidc):
        for name in sorted(names_of(entry.issuer).accepted):
            if (other := known.setdefault(name, index)) != index:
                yield ("auth", "oidc", index, "issuer"), f"its tokens are those of auth.oidc[{other}]; keep one entry"
                break


def budgets(settings: Settings) -> Iterator[Finding]:
    """Budgets in another currency than the prices."""
    named: list[tuple[Path, BudgetSettings | None]] = [
        *((("projects", name, "budget"), project.budget) for name, project in settings.projects.items()),
        *((("keys", name, "budget"), key.budget) for name, key in settings.keys.items()),
        *((("deployments", name, "budget"), item.budget) for name, item in settings.deployments.items()),
    ]
    for path, budget in named:
        if budget is not None and budget.currency is not None and budget.currency != settings.prices.currency:
            yield (*path, "currency"), f"{budget.currency} is not prices.currency, {settings.prices.currency}"


def _deployment(deployment: Mapping[str, Any], path: Path, declared: Declared) -> Iterator[Finding]:
    provider, spillover = deployment.get("provider"), deployment.get("spillover")
    yield from _provider(provider, (*path, "provider"), declared)
    for index, target in _entries(deployment.get("targets")):
        yield from _provider(target.get("provider"), (*path, "targets", index, "provider"), declared)
    if provider is None and deployment.get("targets") is None:
        yield from _without_provider(_mapping(deployment.get("model")).get("name"), path, declared)
    if isinstance(spillover, str):
        others = {name.lower(): name for name in declared.deployments if name.lower() != str(path[1]).lower()}
        if spillover.lower() not in others:
            meant = did_you_mean(spillover, others.values())
            yield (*path, "spillover"), f"there is no other deployment {shown(spillover)}{meant}"


def _without_provider(model: Any, path: Path, declared: Declared) -> Iterator[Finding]:
    if isinstance(model, str) and model.lower() not in {known.lower() for known in declared.catalogue}:
        meant = did_you_mean(model, declared.catalogue) or "; `modelport models list` shows what can run here"
        yield path, f"names no provider, and the catalogue has no model {shown(model)}{meant}"


def _provider(name: Any, path: Path, declared: Declared) -> Iterator[Finding]:
    if isinstance(name, str) and name not in declared.providers:
        yield path, f"there is no provider {shown(name)}{did_you_mean(name, declared.providers)}"


def _projects(projects: Mapping[str, Any], section: str, entries: Mapping[str, Any]) -> Iterator[Finding]:
    for name, entry in entries.items():
        project = _mapping(entry).get("project")
        if isinstance(project, str) and project not in projects:
            yield (section, name, "project"), f"there is no project {shown(project)}{did_you_mean(project, projects)}"


def _assignments(data: Mapping[str, Any]) -> Iterator[Finding]:
    """Ids mean something within one issuer only: an assignment must not hold for another one's tokens."""
    keys = _mapping(data.get("keys"))
    issuers = [entry.get("issuer") for _, entry in _entries(_mapping(data.get("auth")).get("oidc"))]
    for name, entry in _mapping(data.get("role_assignments")).items():
        given, path = _mapping(entry), ("role_assignments", name)
        key, issuer = given.get("key"), given.get("issuer")
        if isinstance(key, str):
            if key.lower() not in {known.lower() for known in keys}:
                yield (*path, "key"), f"there is no key {shown(key)}{did_you_mean(key, keys)}"
        elif issuer is None and len(issuers) > 1:
            yield path, "names no issuer, and auth.oidc has several"
        elif issuer is not None and issuer not in issuers:
            yield (*path, "issuer"), f"auth.oidc has no issuer {shown(issuer)}"


def _taken_twice(section: str, names: Iterable[str]) -> Iterator[Finding]:
    first: dict[str, str] = {}
    for name in names:
        other = first.setdefault(name.lower(), name)
        if other != name:
            yield (section, name), f"the same name as {shown(other)}: case does not count"


def _content_filters(data: Mapping[str, Any]) -> Iterator[Finding]:
    """Policies that are named: by deployments, and what the policies name themselves."""
    policies = {name.lower(): name for name in (*_mapping(data.get("content_filters")), *BUILT_IN)}
    built_in = {name.lower() for name in BUILT_IN}
    named: list[tuple[Path, Any]] = [
        (("server", "default_content_filter"), _mapping(data.get("server")).get("default_content_filter")),
        *(
            (("deployments", name, "content_filter"), _mapping(deployment).get("content_filter"))
            for name, deployment in _mapping(data.get("deployments")).items()
        ),
        *(
            (("policies", name, "content_filter_at_least"), _mapping(policy).get("content_filter_at_least"))
            for name, policy in _mapping(data.get("policies")).items()
        ),
    ]
    for path, policy in named:
        if isinstance(policy, str) and policy.lower() not in policies:
            yield path, f"there is no content filter {shown(policy)}{did_you_mean(policy, policies.values())}"
    blocklists = {name.lower(): name for name in _mapping(data.get("blocklists"))}
    for name, policy in _mapping(data.get("content_filters")).items():
        path = ("content_filters", name)
        if name.lower() in built_in:
            yield path, "is the name of a built-in content filter; choose another"
        for index, used in _indexed(_mapping(policy).get("filters")):
            if used not in (known := known_filters()):
                yield (*path, "filters", index), f"there is no filter {shown(used)}{did_you_mean(used, known)}"
        for side in ("prompt", "completion"):
            for index, used in _indexed(_mapping(_mapping(policy).get(side)).get("blocklists")):
                if used.lower() not in blocklists:
                    meant = did_you_mean(used, blocklists.values())
                    yield (*path, side, "blocklists", index), f"there is no blocklist {shown(used)}{meant}"


def _guard(data: Mapping[str, Any], declared: Declared) -> Iterator[Finding]:
    """The model that filters ask. What the deployment's own content filter is does not matter: it is not applied to
    their calls."""
    guard = _mapping(_mapping(data.get("content_safety")).get("guard")).get("deployment")
    if isinstance(guard, str) and guard.lower() not in {known.lower() for known in declared.deployments}:
        meant = did_you_mean(guard, declared.deployments)
        yield ("content_safety", "guard", "deployment"), f"there is no deployment {shown(guard)}{meant}"


def _indexed(value: Any) -> Iterator[tuple[int, str]]:
    for index, item in enumerate(value if isinstance(value, list) else ()):
        if isinstance(item, str):
            yield index, item


def _several_defaults(deployments: Mapping[str, Any]) -> Iterator[Finding]:
    defaults = [name for name, deployment in deployments.items() if _mapping(deployment).get("default") is True]
    for name in defaults[1:]:
        yield ("deployments", name, "default"), f"{shown(defaults[0])} is the default already; there is only one"


def _catalogue(models: Any, declared: Declared) -> Iterator[Finding]:
    seen: set[tuple[str, ...]] = set()
    for index, entry in _entries(models):
        yield from _provider(entry.get("provider"), ("models", index, "provider"), declared)
        identity = tuple(str(entry.get(part, usual)).lower() for part, usual in IDENTITY)
        if identity in seen:
            yield ("models", index), f"{shown(entry.get('name'))} is in the catalogue twice"
        seen.add(identity)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _entries(value: Any) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for index, entry in enumerate(value if isinstance(value, list) else ()):
        if isinstance(entry, Mapping):
            yield index, entry
