"""Settings, and everything that follows from them alone: built before anything that runs is touched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec import Struct

from modelport.app.classifying import with_classifying
from modelport.app.filters import SafetyFilters, no_filters, open_content_filters
from modelport.app.runtime import ProviderFault, open_providers, worker_specs
from modelport.app.snapshot import build as build_snapshot
from modelport.auth import api_key
from modelport.config.faults import ConfigError
from modelport.config.secrets import Secret
from modelport.config.settings import Settings
from modelport.control.profiles import ProfileError
from modelport.core.catalog import Snapshot
from modelport.core.ports.providers import OpeningProvider, Provider
from modelport.engine.supervisor import WorkerSpec
from modelport.engine.weights.faults import WeightsError

UNLOADABLE: Final = (ConfigError, ProfileError, ProviderFault, WeightsError, OSError)
"""What a configuration that cannot be served raises."""


class ControlState(Struct, frozen=True):
    """What the control plane adds to the settings."""

    version: int = 0
    """Of the stored objects; 0: there never were any."""
    salt: bytes | None = None
    """The key of callers' hashes; None: each process makes its own."""
    prices: tuple[dict[str, Any], ...] = ()
    """Stored prices, in the price list's words."""
    is_stale: bool = False
    """The store has been away for longer than `control.stale_seconds`."""

    def __repr__(self) -> str:
        return f"ControlState({self.version})"


NO_CONTROL: Final = ControlState()


@dataclass(frozen=True)
class Configuration:
    """What one process serves. `worker_of`: provider name → the engine worker behind it."""

    settings: Settings
    generated: Secret | None
    """The operator's key that was made at the first start, where the settings have none."""
    snapshot: Snapshot
    specs: tuple[WorkerSpec, ...]
    worker_of: Mapping[str, str]
    providers: Mapping[str, Provider | OpeningProvider]
    """All but the engines, by the runtime's name."""
    control: ControlState = NO_CONTROL
    filters: SafetyFilters = field(default_factory=no_filters)


def configure(
    settings: Settings,
    generated: Secret | None,
    before: Configuration | None = None,
    control: ControlState | None = None,
) -> Configuration:
    """Providers and filters whose section is the same as `before` are kept, and `control` where it is None.
    Raises UNLOADABLE."""
    if control is None:
        control = before.control if before is not None else NO_CONTROL
    salt = control.salt or (before.snapshot.key_salt if before is not None else api_key.fresh_salt())
    specs, worker_of = worker_specs(settings)
    filters = open_content_filters(settings, before.filters if before is not None else no_filters())
    if filters.classifies:
        specs = [*with_classifying(specs, settings.server.data_dir, settings.engine)]
    kept = (before.settings, before.providers) if before is not None else None
    return Configuration(
        settings=settings,
        generated=generated,
        snapshot=build_snapshot(settings, salt, generated, control.version, control.prices, is_stale=control.is_stale),
        specs=tuple(specs),
        worker_of=worker_of,
        providers=open_providers(settings, kept),
        control=control,
        filters=filters,
    )
