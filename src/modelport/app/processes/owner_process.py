"""The parent: engines, quota and metrics for all workers, signals, and the socket at which they reach it."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from modelport.admin.endpoint import AdminRequest
from modelport.app.admin import admin_app
from modelport.app.budgets import budgets_of
from modelport.app.configuration import UNLOADABLE, Configuration, ControlState, configure
from modelport.app.control.host import NotNow
from modelport.app.control.opening import OpenedControl, open_control
from modelport.app.drain import Drain
from modelport.app.ledger import LocalLedger
from modelport.app.owner import LocalOwner
from modelport.app.processes.distant_ledger import ledger_handlers
from modelport.app.processes.engines import news_of, told
from modelport.app.processes.fleet import Fleet, Member, first
from modelport.app.processes.handover import Reconfiguration, packed
from modelport.app.processes.members import fleet_source, learn_journal, reconfigured
from modelport.app.processes.nursery_process import NurseryFailed
from modelport.app.processes.peer import LINE_LIMIT_BYTES, Handler, Peer, introduced
from modelport.app.processes.plan import Plan, owned
from modelport.app.quota import open_bank
from modelport.app.reload import (
    OF_A_PROCESS,
    OF_THE_SERVER,
    NeedsRestart,
    changes_below,
    is_package_replaced,
    operators_key,
    restart_needed,
)
from modelport.app.runtime import states
from modelport.app.worker_hours import WorkerHours, has_hours, metered_by_owner, served_by
from modelport.config.secrets import Secret
from modelport.config.settings import Settings
from modelport.config.sources import Flags
from modelport.control.prices import Book
from modelport.core.catalog import Snapshot
from modelport.core.clock import Clock, SystemClock
from modelport.core.errors import ModelportError
from modelport.core.ports.states import DeploymentState, StoreState
from modelport.engine.service import EngineProvider
from modelport.stores import budgets
from modelport.stores.allotments import Ask
from modelport.stores.journal import FileJournal
from modelport.telemetry.figures import Sum, figures_of, rendered
from modelport.telemetry.metrics import Metrics
from modelport.telemetry.sources import control_source

NEWS_SECONDS: Final = 0.1
LEDGER_SECONDS: Final = 1.0
INTRODUCTION_SECONDS: Final = 5.0

_logger = logging.getLogger("modelport.processes")


@dataclass(frozen=True)
class Serving:
    """What may be told of a server that runs."""

    states: Callable[[], list[DeploymentState]]
    snapshot: Snapshot
    apply: Callable[[Settings], Awaitable[Snapshot]]
    """Changes what every worker serves."""


Display = Callable[[Serving], Coroutine[Any, Any, None]]


async def run(
    settings: Settings,
    generated: Secret | None,
    listeners: Sequence[socket.socket],
    config: Path | None,
    flags: Flags,
    display: Display,
) -> None:
    """Serves with several processes until a signal has drained them. Raises what loading raises, NurseryFailed,
    FleetFailed."""
    open_bank(settings)  # the workers open theirs: a fault is found here
    opened = await open_control(settings, config, flags, os.environ)
    configuration = configure(opened.settings, generated, control=opened.state)
    snapshot = configuration.snapshot
    clock = SystemClock()
    owner = LocalOwner(configuration.specs, clock, LocalLedger(settings))
    hours = metered_by_owner(owner, settings.server.data_dir / "journal", snapshot, configuration.worker_of, clock)
    directory = Path(tempfile.mkdtemp(prefix=f"modelport-{os.getpid()}-"))
    life, held = os.pipe()
    plan = Plan(
        config=str(config) if config is not None else None,
        flags={name: str(value) if isinstance(value, Path) else value for name, value in asdict(flags).items()},
        environ={n: os.fsencode(value).decode("utf-8", "replace") for n, value in os.environ.items() if n.isascii()},
        key=generated.reveal() if generated is not None else None,
        owner_socket=str(directory / "owner.sock"),
        owner_secret=secrets.token_urlsafe(32),
        listeners=tuple(listener.fileno() for listener in listeners),
        life=life,
    )
    process = OwnerProcess(plan, owner, configuration, opened, clock)
    try:
        async with (
            owner.ledger.running(),
            hours as process.hours,
            process.reachable(),
            process.control.following(),
        ):
            if budgets_of(snapshot):  # they begin with what the ledger knows: also of calls that a kill has cut
                async with FileJournal.opened(settings.server.data_dir / "journal"):
                    pass
            await owner.start()
            await process.run(owned(settings), lambda: display(Serving(process.states, snapshot, process.apply)))
    finally:
        await owner.close()
        os.close(life)
        os.close(held)
        shutil.rmtree(directory, ignore_errors=True)


class OwnerProcess:
    """The owner's side of everything."""

    def __init__(
        self, plan: Plan, owner: LocalOwner, configuration: Configuration, opened: OpenedControl, clock: Clock
    ) -> None:
        self._plan = plan
        self._owner = owner
        self._current = configuration
        self._forked_with = configuration.settings
        """What a worker reads once, it has from these."""
        self.control = opened.plane(configuration.generated, self, clock)
        self._admin = admin_app(owner.ledger, lambda: self._current, clock, self.control)
        self._packed: str | None = None
        """The settings of the last message `configure`; None while the workers serve what their nursery has read."""
        if configuration.control.version:
            self._packed = packed(configuration.settings, configuration.generated, configuration.control)
        self._changing = asyncio.Lock()
        self._drain_seconds = configuration.settings.server.limits.request_seconds
        self._drain = Drain(self._calls_ended, self._drain_seconds)
        self.hours: WorkerHours | None = None
        self.fleet = Fleet(plan, self._welcome)
        self._metrics = Metrics((*owner.sources, fleet_source(self.fleet), control_source(self.control)))
        self._stop = asyncio.Event()
        self._stop_now = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    # --- life ---------------------------------------------------------------------------------------------------------

    async def run(self, owned_now: Mapping[str, str], display: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Until a signal has drained the workers, or a second one has cut them."""
        with self._signals():
            starting = asyncio.create_task(self.fleet.start(owned_now))
            try:
                await first(asyncio.shield(starting), self._stop.wait())
                if not self._stop.is_set():
                    starting.result()
                    self._do(display())
                    await self._stop.wait()
                    await self._drained()
            finally:
                starting.cancel()
                await asyncio.gather(starting, return_exceptions=True)
                for task in self._tasks:
                    task.cancel()
                await self._drain.close()
                await self.fleet.close(now=not self.fleet.is_drained.is_set())

    async def _drained(self) -> None:
        """All running answers have ended, or nobody wants to wait for them any longer."""
        self.fleet.drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._drain_seconds):
                await first(self.fleet.is_drained.wait(), self._stop_now.wait())

    @contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        handlers = {signal.SIGTERM: self._told_to_stop, signal.SIGINT: self._told_to_stop, signal.SIGHUP: self._renew}
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        try:
            yield
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)
            signal.signal(signal.SIGHUP, lambda *_: None)

    def _told_to_stop(self) -> None:
        if self._stop.is_set():
            self._stop_now.set()
        else:
            _logger.info("stopping: calls have %.0f s to end; a second signal ends them now", self._drain_seconds)
        self._stop.set()

    def _renew(self) -> None:
        if not self._stop.is_set():
            self._do(self._renewed())

    async def _renewed(self) -> None:
        """Reads the configuration again."""
        try:
            await self.control.reread()
            _logger.info("the configuration as it is now is served")
        except (*UNLOADABLE, ModelportError, NeedsRestart, NurseryFailed) as error:
            _logger.error("the server goes on as it was: %s", error)

    def check(self, new: Configuration, *, has_objects: bool) -> None:
        """app.control.host.Server"""
        if refused := changes_below(self._current.settings, new.settings, OF_THE_SERVER):
            raise NotNow(str(restart_needed(refused)))
        if has_objects and is_package_replaced():
            raise NotNow("another version of the package is installed: that needs a restart of the server")
        if self.hours is None and has_hours(new.snapshot):
            raise NotNow("prices: the first price by the hour of a model that runs here needs a restart")

    async def serve(self, settings: Settings, control: ControlState) -> None:
        """app.control.host.Server; what running workers cannot take up is served by new ones."""
        async with self._changing:
            if is_package_replaced() or changes_below(self._forked_with, settings, OF_A_PROCESS):
                await self.fleet.renew(lambda: self._apply(settings, operators_key(settings), control))
                self._forked_with = settings
                _logger.info("new worker processes serve, with the configuration as it is now")
            else:
                await self._apply(settings, operators_key(settings), control)

    async def apply(self, settings: Settings) -> Snapshot:
        """The snapshot that every worker serves when this returns. Raises what `configure` raises; nothing has changed
        then."""
        async with self._changing:
            if is_package_replaced():
                raise NeedsRestart("another version of the package is installed: that needs a restart of the server")
            return await self._apply(settings, self._current.generated)

    async def _apply(
        self, settings: Settings, generated: Secret | None, control: ControlState | None = None
    ) -> Snapshot:
        new = configure(settings, generated, self._current, control)
        if self.hours is None and has_hours(new.snapshot):
            raise NeedsRestart("prices: the first price by the hour of a model that runs here needs a restart")
        retired = self._owner.reconcile(new.specs)
        self._current = new
        if self.hours is not None and isinstance(new.snapshot.prices, Book):
            self.hours.follow(new.snapshot.prices, served_by(new.snapshot, new.worker_of), new.snapshot.id)
        if is_package_replaced():
            self._packed = None  # the workers to come read the file, and settings of theirs are not ours
        else:
            await self._tell_settings(new)
        self._drain.add(retired)
        return new.snapshot

    async def _tell_settings(self, new: Configuration) -> None:
        """Returns when all workers serve them."""
        self._packed = packed(new.settings, new.generated, new.control)
        message = self._reconfiguration()
        # All are sent before anything else is told: what follows of engines is of those in this message.
        asked = [(m, peer.ask("configure", message)) for m, peer in self.fleet.connected()]
        await asyncio.gather(*(reconfigured(member, answer) for member, answer in asked))

    def _reconfiguration(self) -> Any:
        """The message `configure`; None while the workers serve what their nursery has read."""
        if self._packed is None:
            return None
        return msgspec.to_builtins(Reconfiguration(self._packed, news_of(self._owner.supervisor)))

    async def _calls_ended(self) -> None:
        """Every call that runs now has ended, in each worker."""
        asked = [peer.ask("calls_ended", None, self._drain_seconds) for _, peer in self.fleet.connected()]
        await asyncio.gather(*asked, return_exceptions=True)

    def states(self) -> list[DeploymentState]:
        """How every deployment is."""
        workers = self._owner.engines
        engines = {name: EngineProvider(workers[worker]) for name, worker in self._current.worker_of.items()}
        return states(self._current.snapshot, engines)

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- the socket ---------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def reachable(self) -> AsyncIterator[None]:
        """Listens for workers."""
        server = await asyncio.start_unix_server(self._connected, self._plan.owner_socket, limit=LINE_LIMIT_BYTES)
        news = [asyncio.create_task(self._tell_news()), asyncio.create_task(self._tell_ledger())]
        try:
            yield
        finally:
            for telling in news:
                telling.cancel()
            server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers: dict[str, Handler] = {}
        peer = Peer(reader, writer, handlers)
        try:
            async with asyncio.timeout(INTRODUCTION_SECONDS):
                process_id = await introduced(reader, self._plan.owner_secret)
                member = await self.fleet.member(process_id, peer) if process_id is not None else None
        except TimeoutError:
            member = None
        if member is None:
            _logger.error("a process that is no worker has tried to reach the owner")
            peer.close()
            return
        handlers.update(self._handlers(member))
        await peer.run()
        self.fleet.lost(member)

    def _handlers(self, member: Member) -> dict[str, Handler]:
        """What a worker can say, and ask."""
        return {
            "configuration": lambda _: self._reconfiguration(),
            "admin": self._administered,
            "serving": lambda _: self.fleet.serves(member),
            "retiring": lambda _: self.fleet.retires(member),
            "drained": lambda _: self.fleet.drained(member),
            "journal": partial(learn_journal, member),
            "key_uses": lambda uses: self.control.key_uses.add(msgspec.convert(uses, dict[str, float])),
            "figures": lambda figures: self.fleet.heard(member, figures),
            "metrics": lambda figures: self._rendered(member, figures),
            "start_engine": self._start_engine,
            **ledger_handlers(self._owner.ledger),
            "budget": lambda ask: msgspec.to_builtins(self._owner.budgets.exchanged(msgspec.convert(ask, budgets.Ask))),
            "quota": lambda ask: msgspec.to_builtins(self._owner.bank.exchanged(msgspec.convert(ask, Ask))),
        }

    async def _administered(self, body: Any) -> Any:
        """A worker's message `admin`: a request that it relays."""
        return msgspec.to_builtins(await self._admin(msgspec.convert(body, AdminRequest)))

    # --- engines and metrics ------------------------------------------------------------------------------------------

    def _welcome(self, member: Member) -> None:
        member.tell("engines", told(news_of(self._owner.supervisor)))
        member.tell("ledger", msgspec.to_builtins(self._stores_seen_by(member)))

    async def _tell_news(self) -> None:
        """Whatever changes with an engine is known everywhere a moment later."""
        last = news_of(self._owner.supervisor)
        while True:
            await asyncio.sleep(NEWS_SECONDS)
            now = news_of(self._owner.supervisor)
            changed = [news for news in now if news not in last]
            if changed:
                for member in self.fleet.members.values():
                    member.tell("engines", told(changed))
            last = now

    async def _tell_ledger(self) -> None:
        """How it is, and which workers cannot write their journals: any worker may be asked."""
        last: dict[int, list[StoreState]] = {}
        while True:
            now = {number: self._stores_seen_by(member) for number, member in self.fleet.members.items()}
            for number, seen in now.items():
                if seen != last.get(number):
                    self.fleet.members[number].tell("ledger", msgspec.to_builtins(seen))
            last = now
            await asyncio.sleep(LEDGER_SECONDS)

    def _stores_seen_by(self, member: Member) -> list[StoreState]:
        """The ledger, and the journals of other workers that cannot be written; a worker sees its own by itself."""
        others = (other.journal for other in self.fleet.members.values() if other is not member)
        return [*self._owner.ledger.states(), *self.control.states(), *(state for state in others if state is not None)]

    def _start_engine(self, name: str) -> None:
        worker = self._owner.supervisor.workers.get(name)
        if worker is not None:
            worker.start()

    async def _rendered(self, asking: Member, figures: Any) -> str:
        """One text for all processes."""
        self.fleet.heard(asking, figures)
        total = Sum()
        for found in await self.fleet.figures(asking):
            total.add(found)
        total.add(self.fleet.past.figures())
        total.add(figures_of(self._metrics.families()))
        return rendered(total.figures()).decode()
