"""Puts the parts together, once, and takes them apart again at the end. `reconciler` changes them meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_network
from random import Random
from typing import Any, Final

from modelport.app.admin import Handler, admin_app, admin_routes
from modelport.app.asking import InternalAsk
from modelport.app.budgets import KeptBudgets, budgets_of, kept
from modelport.app.configuration import Configuration, configure
from modelport.app.control.opening import ControlPlaneOfServer, OpenedControl
from modelport.app.control.serving import OneProcess
from modelport.app.journal import journal_state
from modelport.app.ledger import LocalLedger
from modelport.app.owner import LocalOwner, Owner
from modelport.app.quota import open_quota, store_states
from modelport.app.reconciler import Reconciler
from modelport.app.redactor import build_redactor
from modelport.app.runtime import LiveRuntime
from modelport.app.safety_explain import explain_route
from modelport.app.worker_hours import WorkerHours, metered, served_by
from modelport.auth.authenticate import Authentication
from modelport.config.secrets import Secret
from modelport.config.settings import Settings
from modelport.control.prices import Book
from modelport.core.catalog import Snapshot
from modelport.core.clock import SystemClock
from modelport.core.ports.states import DeploymentState, StoreState
from modelport.gateway.analysis import OpenFilters
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
from modelport.telemetry.sources import (
    authentication_source,
    control_source,
    journal_source,
    token_source,
    waiting_source,
)
from modelport.upstream.documents import fetch_document
from modelport.upstream.transports.aiohttp import AiohttpTransport
from modelport.upstream.wire import Wire

DRAIN_SECONDS: Final = 0.1
"""How often calls that are waited for are looked at."""


@dataclass(frozen=True)
class Application:
    """Everything that serves, while it serves."""

    asgi: Callable[..., Any]
    lane: Lane
    gateway: Gateway
    states: Callable[[], Sequence[DeploymentState]]
    snapshot: Snapshot
    """The first one; `gateway.snapshot` is the current one."""
    reconciler: Reconciler
    metrics: Metrics
    journal_state: Callable[[], StoreState]
    control: ControlPlaneOfServer | None = None
    """Where this process owns the control plane."""


@asynccontextmanager
async def serving(
    settings: Settings,
    generated: Secret | None,
    owner: Owner | None = None,
    configuration: Configuration | None = None,
    *,
    opened: OpenedControl | None = None,
    relay: Handler | None = None,
) -> AsyncIterator[Application]:
    """Opens stores, workers and pools; closes them in reverse. Without an owner, this process is one. `opened`: the
    control plane, if it is this process that owns it; `relay` brings requests of the administration to its owner.

    Raises WeightsError, ProfileError, OSError."""
    clock = SystemClock()
    if configuration is None:
        configuration = configure(settings, generated, control=opened.state if opened is not None else None)
    snapshot = configuration.snapshot
    if owner is None:
        owner = LocalOwner(configuration.specs, clock, LocalLedger(settings), open_quota(settings, clock))
    transport, wire = AiohttpTransport(), Wire()
    lane: Lane | None = None
    reconciler = Reconciler(configuration, owner, transport, wire)
    redactor = build_redactor(configuration)
    know_secrets(redactor)
    journals = settings.server.data_dir / "journal"
    journals.mkdir(mode=0o700, parents=True, exist_ok=True)  # before the ledger looks there
    async with (
        owner.ledger.running(),
        FileJournal.opened(journals) as journal,
        metered(owner, journal, snapshot, configuration.worker_of, clock) as hours,
        kept(settings, snapshot, owner, transport, clock) as budgets,
    ):
        authentication = Authentication(fetch_document, clock, settings.auth.failures_per_minute)
        metrics = Metrics((journal_source(journal), *owner.sources))
        pipeline = Pipeline(
            snapshot=lambda: snapshot,
            runtime=reconciler.runtime,
            authenticators=(authentication,),
            quota=owner.quota,
            journal=journal,
            observer=CallObserver(metrics, access_log()),
            clock=clock,
            random=Random(),  # noqa: S311  spreads calls over targets
            budgets=budgets.budgets,
            redactor=redactor,
            filters=configuration.filters.policies,
        )
        metrics.sources.append(authentication_source(lambda: authentication.failures, authentication.states))
        metrics.sources.append(token_source(reconciler.providers_at_work))
        metrics.sources.append(waiting_source(pipeline.quota.queue.__len__))
        metrics.sources.append(budgets.source)
        journal_now = partial(journal_state, journal)
        control: ControlPlaneOfServer | None = None
        if opened is not None:
            control = opened.plane(generated, OneProcess(reconciler, budgets), clock)
            control.key_uses.take = pipeline.callers.take_uses
            metrics.sources.append(control_source(control))
        gateway = Gateway(
            pipeline,
            states=lambda: reconciler.runtime.states(reconciler.current.snapshot),
            metrics=lambda: owner.rendered(metrics),
            stores=lambda: [
                *store_states(owner.quota, reconciler.current.settings),
                *budgets.states(),
                *owner.ledger.states(),
                *authentication.states(),
                *(StoreState(f"token of {work.name}", work.state) for work in reconciler.providers_at_work()),
                *(control.states() if control is not None else ()),
                journal_now(),
            ],
            filters=lambda: OpenFilters(reconciler.current.filters.opened, reconciler.current.filters.parts.blocklists),
        )
        authentication.on_withdrawn = pipeline.callers.forget
        authentication.follow(snapshot.issuers, settings.auth.failures_per_minute)
        reconciler.follow(follower(configuration, pipeline, budgets, hours))
        reconciler.follow(
            lambda now, _: authentication.follow(now.snapshot.issuers, now.settings.auth.failures_per_minute)
        )
        reconciler.drain_with(partial(calls_ended, gateway, journal, hours))
        try:
            await owner.start()
            await budgets.start()
            app = admin_app(owner.ledger, lambda: reconciler.current, clock, control)
            explained = explain_route(lambda: reconciler.current)
            doors = build_surfaces(gateway, surface_options(settings), [*admin_routes(relay or app), explained])
            lane = Lane(gateway, doors, wire)
            reconciler.current.filters.engines.ask = InternalAsk(lane)
            async with control.following() if control is not None else nullcontext():
                yield Application(
                    asgi=doors,
                    lane=lane,
                    gateway=gateway,
                    states=gateway.states,
                    snapshot=snapshot,
                    reconciler=reconciler,
                    metrics=metrics,
                    journal_state=journal_now,
                    control=control,
                )
        finally:
            if lane is not None:
                lane.stop()
            await reconciler.close()
            await authentication.close()
            wire.close()
            await budgets.close()
            await owner.close()
            await transport.close()


def follower(
    first: Configuration, pipeline: Pipeline, budgets: KeptBudgets, hours: WorkerHours | None
) -> Callable[[Configuration, LiveRuntime], None]:
    """Gives each new configuration to all that hold a part of it."""
    before = [first]

    def change(now: Configuration, runtime: LiveRuntime) -> None:
        pipeline.snapshot, pipeline.runtime = lambda: now.snapshot, runtime
        pipeline.take_filters(now.filters.policies)
        budgets.follow(budgets_of(now.snapshot))
        if hours is not None and isinstance(now.snapshot.prices, Book):
            hours.follow(now.snapshot.prices, served_by(now.snapshot, now.worker_of), now.snapshot.id)
        # An upstream of the configuration before may still quote a secret of that one.
        redactor = build_redactor(*before, now)
        pipeline.target_failures.redactor = redactor
        know_secrets(redactor)
        before[:] = [now]

    return change


async def calls_ended(gateway: Gateway, journal: FileJournal, hours: WorkerHours | None) -> None:
    """Returns when every call that runs now has ended."""
    kept = hours.open_ids if hours is not None else set()
    calls, ids = gateway.calls.copy(), journal.open_ids - kept
    while not (  # noqa: ASYNC110  nothing tells of the end of a call, so that calls pay nothing for this
        calls.isdisjoint(gateway.calls) and ids.isdisjoint(journal.open_ids)
    ):
        await asyncio.sleep(DRAIN_SECONDS)


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
        tls_ends_before=server.tls.terminated_upstream,
        trusted_proxies=tuple(map(ip_network, server.trusted_proxies)),
    )
