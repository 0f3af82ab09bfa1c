"""The live things behind a snapshot: providers, the transport, and the engine's workers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from modelport.app.snapshot import embedded_deployments, embedded_name, inline_name
from modelport.config.adapters import adapter
from modelport.config.deployments import DeploymentSettings, InlineProviderSettings, ProviderSettings
from modelport.config.embedded import EMBEDDED, embedded
from modelport.config.settings import EngineSettings, Settings
from modelport.core.catalog import Snapshot
from modelport.core.ports.providers import OpeningProvider, Provider, Transport
from modelport.core.ports.states import DeploymentState
from modelport.engine.service import EngineProvider
from modelport.engine.supervisor import WorkerSpec
from modelport.engine.weights.faults import WeightsError, WeightsFault
from modelport.engine.weights.places import worker_options


class ProviderFault(Exception):
    """A provider's section that only its adapter could judge; the message names the place."""


EMBEDDED_TYPES = tuple(EMBEDDED)


class LiveRuntime:
    """core.ports.providers.Runtime"""

    def __init__(self, transport: Transport, providers: Mapping[str, Provider | OpeningProvider]) -> None:
        self.transport = transport
        self.providers = providers

    def provider(self, name: str) -> Provider | OpeningProvider:
        return self.providers[name]

    def states(self, snapshot: Snapshot) -> list[DeploymentState]:
        """How every deployment is."""
        return states(snapshot, self.providers)


def states(snapshot: Snapshot, providers: Mapping[str, Provider | OpeningProvider]) -> list[DeploymentState]:
    """How every deployment is: an embedded one as its worker is, any other ready."""
    found = []
    for deployment in snapshot.deployments.values():
        engines = [p for t in deployment.targets if isinstance(p := providers.get(t.provider), EngineProvider)]
        worst = next((e for e in engines if e.state not in ("ready", "unloaded")), engines[0] if engines else None)
        if worst is None:
            found.append(DeploymentState(deployment, "ready"))
        else:
            found.append(DeploymentState(deployment, worst.state, worst.reason))
    return found


def worker_specs(settings: Settings) -> tuple[list[WorkerSpec], dict[str, str]]:
    """One worker per distinct embedded model, and which provider name is answered by which worker.

    Raises WeightsError for weights that are not here, which config.preflight finds first."""
    specs: dict[str, WorkerSpec] = {}
    worker_of: dict[str, str] = {}
    for name, kind, options in wanted_engines(settings):
        identity = json.dumps([kind, options], sort_keys=True, default=str)
        spec = specs.setdefault(identity, spec_of(name, kind, options, settings.engine))
        worker_of[name] = spec.name
    return list(specs.values()), worker_of


def wanted_engines(settings: Settings) -> list[tuple[str, str, dict[str, Any]]]:
    """(provider name, backend, options) of everything that runs here."""
    data_dir = settings.server.data_dir
    found = [
        (name, provider.type, options_of(f"providers.{name}", provider, name, data_dir))
        for name, provider in settings.providers.items()
        if provider.type in EMBEDDED_TYPES
    ]
    catalogue = {entry.name.lower() for entry in settings.models}
    seen: set[str] = set()
    for name, deployment in (settings.deployments or embedded_deployments()).items():
        given = deployment.provider
        if isinstance(given, InlineProviderSettings) and given.type in EMBEDDED_TYPES:
            options = options_of(f"deployments.{name}.provider", given, deployment.model.name, data_dir)
            found.append((inline_name(name), given.type, options))
        elif is_embedded(deployment, catalogue):
            weights = embedded(deployment.model.name)
            assert weights is not None
            key = embedded_name(weights)
            if key not in seen:
                seen.add(key)
                found.append((key, weights.backend, catalogue_options(weights.name, data_dir)))
    return found


def is_embedded(deployment: DeploymentSettings, catalogue: set[str]) -> bool:
    """Whether nobody is named, and the engine's own catalogue answers."""
    nobody = deployment.provider is None and deployment.targets is None
    return nobody and deployment.model.name.lower() not in catalogue


def catalogue_options(name: str, data_dir: Path) -> dict[str, Any]:
    """Where an embedded model's files are. Raises WeightsError if they are not."""
    options = worker_options(name, data_dir)
    if options is None:
        raise WeightsError(
            WeightsFault.ABSENT,
            f"The weights of {name!r} are not here; get them with `modelport models pull {name}` "
            "(`modelport models pull default` gets all that run by default).",
        )
    return options


def options_of(place: str, provider: ProviderSettings, model: str, data_dir: Path) -> dict[str, Any]:
    """The options of an engine written in the configuration: its own weights, or the embedded model of that name.

    Raises WeightsError if the file is not there."""
    options = {key: value for key, value in provider.options().items() if value is not None}
    if "weights" not in options:
        weights = embedded(model)
        if weights is None or weights.backend != provider.type:
            raise WeightsError(WeightsFault.ABSENT, f"{place}: names no `weights`, and no embedded model is {model!r}")
        return {**catalogue_options(weights.name, data_dir), **options}
    return options


def spec_of(name: str, kind: str, options: Mapping[str, Any], engine: EngineSettings) -> WorkerSpec:
    """The worker with the engine's settings; what the provider says itself wins."""
    shared: dict[str, Any] = {"queue": engine.queue}
    if engine.threads != "auto":
        shared["threads"] = engine.threads
    if kind == "llama_cpp":
        shared |= {"slots": engine.slots, "context": engine.context}
    own = dict(options)
    if own.get("threads") == "auto":
        del own["threads"]
    load = own.pop("load", engine.load)
    idle_unload_seconds = own.pop("idle_unload_seconds", engine.idle_unload_seconds)
    return WorkerSpec(
        name=name.removeprefix("embedded.").removeprefix("deployments.").removesuffix(".provider"),
        backend=kind,
        options={**shared, **own},
        load=load,
        idle_unload_seconds=idle_unload_seconds,
    )


def open_providers(
    settings: Settings, kept: tuple[Settings, Mapping[str, Provider | OpeningProvider]] | None = None
) -> dict[str, Provider | OpeningProvider]:
    """Every provider that is not one of our engines, by the runtime's name. `kept`: earlier settings and the providers
    opened for them, which stay where their section is the same."""
    before = provider_sections(kept[0]) if kept is not None else {}
    return {
        name: kept[1][name] if kept is not None and before.get(name) == section else open_provider(name, section)
        for name, section in provider_sections(settings).items()
    }


def provider_sections(settings: Settings) -> dict[str, ProviderSettings]:
    """The sections of providers that are not our engines, by the runtime's name."""
    sections = dict(settings.providers)
    for name, deployment in settings.deployments.items():
        if isinstance(deployment.provider, InlineProviderSettings):
            sections[inline_name(name)] = deployment.provider
    return {name: section for name, section in sections.items() if section.type not in EMBEDDED_TYPES}


def open_provider(name: str, provider: ProviderSettings) -> Provider | OpeningProvider:
    """The adapter's own door: `Settings` and `open`. Raises ProviderFault."""
    module = adapter(provider.type)
    try:
        settings = module.Settings.model_validate(provider.options())
        opened: Provider | OpeningProvider = module.open(settings, name)
    except ValidationError as error:
        first = error.errors()[0]
        raise ProviderFault(f"{name}.{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except (ValueError, OSError) as error:
        raise ProviderFault(f"{name}: {error}") from error
    return opened
