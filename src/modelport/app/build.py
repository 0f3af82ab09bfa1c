"""Puts the parts together, once, and takes them apart again at the end."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

from modelport.app.admin import admin_routes
from modelport.app.budgets import kept
from modelport.app.journal import journal_state
from modelport.app.ledger import LocalLedger
from modelport.app.owner import LocalOwner, Owner
from modelport.app.quota import open_quota, store_states
from modelport.app.redactor import build_redactor
from modelport.app.runtime import LiveRuntime, open_providers, worker_specs
from modelport.app.snapshot import build as build_snapshot
from modelport.app.worker_hours import metered
from modelport.auth import anonymous, api_key
from modelport.config.secrets import Secret
from modelport.config.settings import Settings
from modelport.core.catalog import Snapshot
from modelport.core.clock import SystemClock
from modelport.core.ports.providers import OpeningProvider, Provider
from modelport.core.ports.states import DeploymentState, StoreState
from modelport.engine.service import EngineProvider
from modelport.gateway.gateway import Gateway
from modelport.gateway.pipeline import Pipeline
from modelport.lane.lane import Lane
from modelport.stores.journal import FileJournal
from modelport.surfaces.app import build as build_surfaces
from modelport.surfaces.options import Limits, Options
from modelport.telemetry.logging import access_log
from modelport.telemetry.metrics import Metrics
from modelport.telemetry.observer import CallObserver
from modelport.telemetry.redaction import know_secrets
from modelport.telemetry.sources import journal_source, waiting_source
from modelport.upstream.transports.aiohttp import AiohttpTransport
from modelport.upstream.wire import Wire


@dataclass(frozen=True)
class Application:
    """Everything that serves, while it serves."""

    asgi: Callable[..., Any]
    lane: Lane | None
    gateway: Gateway
    states: Callable[[], list[DeploymentState]]
    snapshot: Snapshot
    metrics: Metrics
    journal_state: Callable[[], StoreState]


@asynccontextmanager
async def serving(
    settings: Settings, generated: Secret | None, owner: Owner | None = None, snapshot: Snapshot | None = None
) -> AsyncIterator[Application]:
    """Opens stores, workers and pools; closes them in reverse. Without an owner, this process is one.

    Raises WeightsError, ProfileError, OSError."""
    clock = SystemClock()
    if snapshot is None:
        snapshot = build_snapshot(settings, api_key.fresh_salt(), generated)
    specs, worker_of = worker_specs(settings)
    if owner is None:
        owner = LocalOwner(specs, clock, LocalLedger(settings), open_quota(settings, clock))
    engines = {name: EngineProvider(owner.engines[worker]) for name, worker in worker_of.items()}
    transport, wire = AiohttpTransport(), Wire()
    lane: Lane | None = None
    providers: dict[str, Provider | OpeningProvider] = {**open_providers(settings), **engines}
    runtime = LiveRuntime(transport, providers)
    redactor = build_redactor(settings, generated, providers)
    know_secrets(redactor)
    journals = settings.server.data_dir / "journal"
    journals.mkdir(mode=0o700, parents=True, exist_ok=True)  # before the ledger looks there
    async with (
        owner.ledger.running(),
        FileJournal.opened(journals) as journal,
        metered(owner, journal, snapshot, worker_of, clock),
        kept(settings, snapshot, owner, transport, clock) as budgets,
    ):
        metrics = Metrics((journal_source(journal), *owner.sources))
        pipeline = Pipeline(
            snapshot=lambda: snapshot,
            runtime=runtime,
            authenticators=(api_key.authenticate, anonymous.authenticate),
            quota=owner.quota,
            journal=journal,
            observer=CallObserver(metrics, access_log()),
            clock=clock,
            random=Random(),  # noqa: S311  spreads calls over targets
            budgets=budgets.budgets,
            redactor=redactor,
        )
        metrics.sources.append(waiting_source(pipeline.quota.queue.__len__))
        metrics.sources.append(budgets.source)
        journal_now = partial(journal_state, journal)
        gateway = Gateway(
            pipeline,
            states=lambda: runtime.states(snapshot),
            metrics=lambda: owner.rendered(metrics),
            stores=lambda: [
                *store_states(owner.quota, settings),
                *budgets.states(),
                *owner.ledger.states(),
                journal_now(),
            ],
        )
        try:
            await owner.start()
            await budgets.start()
            doors = build_surfaces(gateway, surface_options(settings), admin_routes(owner.ledger, settings, clock))
            lane = Lane(gateway, doors, wire) if lane_is_wanted() else None
            yield Application(
                asgi=doors,
                lane=lane,
                gateway=gateway,
                states=lambda: runtime.states(snapshot),
                snapshot=snapshot,
                metrics=metrics,
                journal_state=journal_now,
            )
        finally:
            if lane is not None:
                lane.stop()
            wire.close()
            await budgets.close()
            await owner.close()
            await transport.close()


def lane_is_wanted() -> bool:
    """The lane changes nothing but speed; without it, whoever compares the two has the other one."""
    return os.environ.get("MODELPORT_LANE") != "0"


def surface_options(settings: Settings) -> Options:
    """What the doors need of the settings."""
    server = settings.server
    return Options(
        limits=Limits(
            body_bytes=server.limits.body_bytes,
            json_depth=server.limits.json_depth,
            json_containers=server.limits.json_containers,
            request_seconds=server.limits.request_seconds,
            idle_seconds=server.limits.idle_seconds,
        ),
        cors_origins=tuple(server.cors_origins),
        allowed_hosts=frozenset(name.lower().removesuffix(".") for name in server.allowed_hosts),
        region=server.region,
        metrics_public=settings.telemetry.public,
        strict=server.strict,
    )
