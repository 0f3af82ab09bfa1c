"""Puts the parts together, once, and takes them apart again at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

from modelport.app.runtime import LiveRuntime, open_providers, worker_specs
from modelport.app.snapshot import build as build_snapshot
from modelport.auth import anonymous, api_key
from modelport.config.secrets import Secret
from modelport.config.settings import Settings
from modelport.core.catalog import Snapshot
from modelport.core.clock import SystemClock
from modelport.core.ports import DeploymentState, OpeningProvider, Provider
from modelport.engine.service import EngineProvider
from modelport.engine.supervisor import Supervisor
from modelport.gateway.gateway import Gateway
from modelport.gateway.pipeline import Pipeline
from modelport.stores.journal import FileJournal
from modelport.stores.memory.quota import MemoryQuota
from modelport.surfaces.app import build as build_surfaces
from modelport.surfaces.options import Limits, Options
from modelport.telemetry.logging import access_log
from modelport.telemetry.metrics import Metrics
from modelport.telemetry.observer import CallObserver
from modelport.telemetry.sources import EngineReading, engine_source, journal_source
from modelport.upstream.transports.aiohttp import AiohttpTransport


@dataclass(frozen=True)
class Application:
    """Everything that serves, while it serves."""

    asgi: Callable[..., Any]
    gateway: Gateway
    states: Callable[[], list[DeploymentState]]
    snapshot: Snapshot


@asynccontextmanager
async def serving(settings: Settings, generated: Secret | None) -> AsyncIterator[Application]:
    """Opens stores, workers and pools; closes them in reverse. Raises WeightsError, ProfileError, OSError."""
    clock = SystemClock()
    snapshot = build_snapshot(settings, api_key.fresh_salt(), generated)
    specs, worker_of = worker_specs(settings)
    supervisor = Supervisor(specs)
    engines = {name: EngineProvider(supervisor.workers[worker]) for name, worker in worker_of.items()}
    transport = AiohttpTransport()
    providers: dict[str, Provider | OpeningProvider] = {**open_providers(settings), **engines}
    runtime = LiveRuntime(transport, providers)
    quota = MemoryQuota(clock)
    async with FileJournal.opened(settings.server.data_dir / "journal") as journal:
        metrics = Metrics((journal_source(journal), engine_source(supervisor_readings(supervisor))))
        pipeline = Pipeline(
            snapshot=lambda: snapshot,
            runtime=runtime,
            authenticators=(api_key.authenticate, anonymous.authenticate),
            quota=quota,
            journal=journal,
            observer=CallObserver(metrics, access_log(settings.telemetry.log)),
            clock=clock,
            random=Random(),  # noqa: S311  spreads calls over targets
        )
        gateway = Gateway(pipeline, states=lambda: runtime.states(snapshot), metrics=metrics.render)
        try:
            await supervisor.start()
            yield Application(
                asgi=build_surfaces(gateway, surface_options(settings)),
                gateway=gateway,
                states=lambda: runtime.states(snapshot),
                snapshot=snapshot,
            )
        finally:
            await supervisor.close()
            await transport.close()


def surface_options(settings: Settings) -> Options:
    """What the doors need of the settings."""
    server = settings.server
    return Options(
        limits=Limits(
            body_bytes=server.limits.body_bytes,
            json_depth=server.limits.json_depth,
            request_seconds=server.limits.request_seconds,
        ),
        cors_origins=tuple(server.cors_origins),
        region=server.region,
        metrics_public=settings.telemetry.public,
        strict=server.strict,
    )


def supervisor_readings(supervisor: Supervisor) -> Callable[[], Iterable[EngineReading]]:
    """What each worker's last health report said."""

    def read() -> Iterable[EngineReading]:
        for worker in supervisor.workers.values():
            load = worker.load
            yield EngineReading(
                worker=worker.spec.name,
                state=worker.state.value,
                restarts=worker.restarts,
                queued=load.get("queue_length"),
                slots=worker.facts.get("slots"),
                busy_slots=load.get("busy_slots"),
            )

    return read
