"""The one place that changes what a process serves: it builds everything that new settings ask for, and then puts it in
the place of what was there, within one turn of the loop. Calls keep the snapshot and the runtime they began with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Hashable
from functools import partial

from modelport.app.configuration import Configuration, ControlState, configure
from modelport.app.drain import Drain, End
from modelport.app.owner import Owner
from modelport.app.runtime import LiveRuntime
from modelport.config.secrets import Secret
from modelport.config.settings import Settings
from modelport.core.catalog import Snapshot
from modelport.core.ports.providers import Address, BackgroundWork, OpeningProvider, Provider
from modelport.engine.service import EngineProvider
from modelport.upstream.transports.aiohttp import AiohttpTransport
from modelport.upstream.wire import Wire


class Reconciler:
    """One for each process that serves calls."""

    def __init__(self, current: Configuration, owner: Owner, transport: AiohttpTransport, wire: Wire) -> None:
        self.current = current
        self.runtime = LiveRuntime(transport, {})
        self._owner = owner
        self._transport = transport
        self._wire = wire
        self.calls_ended: Callable[[], Awaitable[None]]
        self._drain: Drain | None = None
        self._followers: list[Callable[[Configuration, LiveRuntime], None]] = []
        self._reach(current)

    def providers_at_work(self) -> Collection[BackgroundWork]:
        """Those that work between calls."""
        return working(self.runtime).values()

    def follow(self, change: Callable[[Configuration, LiveRuntime], None]) -> None:
        """`change` is told of each new configuration, in the turn in which it begins to count."""
        self._followers.append(change)

    def drain_with(self, calls_ended: Callable[[], Awaitable[None]]) -> None:
        """`calls_ended` returns when every call that runs at that moment has ended."""
        self.calls_ended = calls_ended
        self._drain = Drain(calls_ended, self.current.settings.server.limits.request_seconds)

    def apply(self, settings: Settings, generated: Secret | None, control: ControlState | None = None) -> Snapshot:
        """The snapshot that each call gets from now on. `control` None: as before. Raises what `configure` raises;
        nothing has changed then."""
        return self.take_up(configure(settings, generated, self.current, control))

    def take_up(self, new: Configuration) -> Snapshot:
        """The same for one that was built from `current` already."""
        before = self.runtime
        retired: dict[Hashable, End] = {**self._owner.reconcile(new.specs)}
        self.current = new
        self._reach(new)
        for change in self._followers:
            change(new, self.runtime)
        for address in addresses(before) - addresses(self.runtime):
            retired[address] = partial(self._release, address)
        kept = working(self.runtime)
        retired |= {key: work.stop for key, work in working(before).items() if key not in kept}
        if self._drain is not None:
            self._drain.add(retired)
        return new.snapshot

    async def close(self) -> None:
        """Before the pools and the owner."""
        if self._drain is not None:
            await self._drain.close()
        for work in working(self.runtime).values():
            await work.stop()

    def _reach(self, configuration: Configuration) -> None:
        """Makes the runtime. The provider of an engine worker that goes on is kept."""
        configuration.filters.engines.workers = lambda: self._owner.engines
        configuration.filters.engines.transport = self._transport
        found: dict[str, Provider | OpeningProvider] = {**configuration.providers}
        for name, worker in configuration.worker_of.items():
            engine, before = self._owner.engines[worker], self.runtime.providers.get(name)
            keeps = isinstance(before, EngineProvider) and before.worker is engine
            found[name] = before if keeps and before is not None else EngineProvider(engine)
        running, self.runtime = working(self.runtime), LiveRuntime(self._transport, found)
        for key, work in working(self.runtime).items():
            if key not in running:
                work.start(self._transport)

    async def _release(self, address: Address) -> None:
        """Closes the connections to an address, unless providers lead there again."""
        if address not in addresses(self.runtime):
            self._wire.release(address)
            await self._transport.forget(address)


def addresses(runtime: LiveRuntime) -> set[Address]:
    """Where its providers are now."""
    return {provider.address for provider in runtime.providers.values() if isinstance(provider, Provider)}


def working(runtime: LiveRuntime) -> dict[int, BackgroundWork]:
    """Its providers that work between calls, by identity."""
    return {id(provider): provider for provider in runtime.providers.values() if isinstance(provider, BackgroundWork)}
