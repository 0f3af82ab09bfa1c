"""A worker: the data plane of one process, listening on a socket of its own. Forked by the nursery, told what to do by
the owner, and gone within a second when that is gone."""

from __future__ import annotations

import asyncio
import logging
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any, Final, TextIO, cast

import msgspec
import uvloop

from modelport.app.build import Application, serving
from modelport.app.certificate import watch_certificate
from modelport.app.configuration import Configuration, ControlState
from modelport.app.http_server import http_server
from modelport.app.processes.output import WholeLines
from modelport.app.processes.peer import Peer
from modelport.app.processes.plan import Plan
from modelport.app.processes.remote_owner import RemoteOwner, told_figures
from modelport.config.secrets import Secret
from modelport.config.settings import Settings
from modelport.config.tls import RenewedCertificate, TlsFiles, tls_files
from modelport.core.clock import SystemClock
from modelport.core.ports.states import StoreState
from modelport.lane.server import Server
from modelport.telemetry.logging import configure_logging
from modelport.telemetry.metrics import Metrics

FIGURES_SECONDS: Final = 1.0
JOURNAL_SECONDS: Final = 1.0
KEY_USES_SECONDS: Final = 1.0
IDLE_SECONDS: Final = 2.0
"""A connection without a request when its worker retires stays open for so long: one may be on its way."""
LAST_SECONDS: Final = 0.9
"""For the records of what is cut when the owner is gone."""

_logger = logging.getLogger("modelport.processes")


@dataclass(frozen=True)
class Inherited:
    """What the nursery has loaded, once for all workers."""

    configuration: Configuration
    context: ssl.SSLContext | None


def run(plan: Plan, inherited: Inherited, listener: int) -> int:
    """Serves until told to end; the exit code."""
    threading.Thread(target=end_with_owner, args=(plan.life,), name="owner-watch", daemon=True).start()
    telemetry = inherited.configuration.settings.telemetry
    configure_logging(telemetry.log, telemetry.log_level, cast(TextIO, WholeLines(2)))
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(plan, inherited, listener))
        return 0
    except Exception as error:  # noqa: BLE001  the end of a process
        _logger.error("a worker process cannot serve: %s: %s", type(error).__name__, error)
        return 1
    finally:
        logging.shutdown()


def end_with_owner(life: int) -> None:
    """A thread, so that a loop that is stuck ends, too."""
    watched = select.poll()
    watched.register(life, 0)
    watched.poll()
    time.sleep(LAST_SECONDS)
    os._exit(1)


async def serve(plan: Plan, inherited: Inherited, listener: int) -> None:
    """Opens the application, says so, serves."""
    first = inherited.configuration
    settings = first.settings
    owner = RemoteOwner(plan, first.specs, SystemClock(), settings, listener)
    async with serving(settings, first.generated, owner, first, relay=owner.relay) as application:
        certificate: RenewedCertificate | None = None
        if inherited.context is not None:
            find = partial(current_files, application)
            certificate = RenewedCertificate(find, inherited.context)
        owner.configure_with(partial(reconfigured, application, certificate))
        server = http_server(settings, application, inherited.context, WorkerServer)
        server.attach(owner.peer, [socket.socket(fileno=os.dup(found)) for found in plan.listeners])
        owner.on(server.orders())
        owner.on({"figures": lambda _: told_figures(application.metrics)})
        owner.on({"calls_ended": lambda _: application.reconciler.calls_ended()})
        tasks = [
            asyncio.create_task(ended_with(owner, server)),
            asyncio.create_task(figures_told(owner.peer, application.metrics)),
            asyncio.create_task(key_uses_told(owner.peer, application.gateway.pipeline.callers.take_uses)),
            asyncio.create_task(journal_told(owner.peer, application.journal_state)),
            asyncio.create_task(watch_certificate(certificate)),
        ]
        try:
            await server.serve(sockets=[server.listeners[listener]])
        finally:
            for task in tasks:
                task.cancel()


def reconfigured(
    application: Application,
    certificate: RenewedCertificate | None,
    settings: Settings,
    generated: Secret | None,
    control: ControlState,
) -> None:
    """The worker serves what the owner serves. Raises what `configure` raises."""
    application.reconciler.apply(settings, generated, control)
    if certificate is not None:
        certificate.renew()


def current_files(application: Application) -> TlsFiles | None:
    """Where the certificate is now. Raises ConfigError."""
    return tls_files(application.reconciler.current.settings)


async def ended_with(owner: RemoteOwner, server: WorkerServer) -> None:
    """Nobody serves without an owner: it may be gone for good."""
    await owner.gone()
    server.end_now()


async def figures_told(peer: Peer, metrics: Metrics) -> None:
    """So that little is forgotten if this process is killed; and a sign of life."""
    while True:
        await asyncio.sleep(FIGURES_SECONDS)
        peer.tell("figures", told_figures(metrics))


async def key_uses_told(peer: Peer, take: Callable[[], Mapping[str, float]]) -> None:
    """Tells the owner which keys were used, and when."""
    while True:
        await asyncio.sleep(KEY_USES_SECONDS)
        if uses := take():
            peer.tell("key_uses", uses)


async def journal_told(peer: Peer, state: Callable[[], StoreState]) -> None:
    """Tells the owner when this process can record no calls, and when it can again."""
    told = "ready"
    while True:
        await asyncio.sleep(JOURNAL_SECONDS)
        now = state()
        if now.state != told:
            peer.tell("journal", msgspec.to_builtins(now))
            told = now.state


class WorkerServer(Server):
    """Takes orders from the owner. A signal that somebody sends to this one process retires it."""

    peer: Peer
    listeners: list[socket.socket]

    def attach(self, peer: Peer, listeners: list[socket.socket]) -> None:
        """`listeners`: all workers' sockets, of which this one serves its own and sometimes another's."""
        self.peer = peer
        self.listeners = listeners
        self._adopted: dict[int, asyncio.Server] = {}
        self._is_drained = False
        self._retired_at: float | None = None
        self._listening = lambda: peer.tell("serving")

    def orders(self) -> dict[str, Any]:
        """What the owner can say."""
        return {
            "drain": lambda _: self.drain(),
            "end": lambda now: self.end_now() if now else self.end(),
            "retire": lambda _: self.retire(),
            "adopt": self.adopt,
            "release": self.release,
        }

    def drain(self) -> None:
        """New calls are refused; running ones end. The owner says when all have, in all processes."""
        self._gateway.draining = True

    def end(self) -> None:
        """Closes idle connections, and ends."""
        self.should_exit = True

    def end_now(self) -> None:
        """Cuts what runs."""
        self._gateway.draining = True
        self.should_exit = self.force_exit = True

    def retire(self) -> None:
        """Others have taken over: accepts nothing new, serves what is connected, ends with the last connection. Every
        answer tells its client to connect anew."""
        if self._retired_at is not None:
            return
        self._retired_at = time.monotonic()
        self.peer.tell("retiring")
        if not self.started:
            self.end()
            return
        for server in (*self.servers, *self._adopted.values()):
            server.close()
        self.config.encoded_headers.append((b"connection", b"close"))
        self.server_state.default_headers = [*self.server_state.default_headers, (b"connection", b"close")]

    async def adopt(self, number: int) -> None:
        """Serves the socket of a worker that cannot be replaced for a while, too."""
        if self._retired_at is None and number not in self._adopted:
            self._adopted[number] = await self.listen(self.listeners[number].dup())

    def release(self, number: int) -> None:
        """Its own worker is back."""
        server = self._adopted.pop(number, None)
        if server is not None:
            server.close()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Somebody else than the owner wants this process to end: it is replaced, and drains."""
        asyncio.get_running_loop().call_soon_threadsafe(self.retire)

    async def on_tick(self, counter: int) -> bool:
        if self._gateway.draining and self._gateway.running <= 0 and not self._is_drained:
            self._is_drained = True
            self.peer.tell("drained")
        if self._retired_at is not None:
            self._end_retired(time.monotonic() - self._retired_at)
        return await super().on_tick(counter)

    def _end_retired(self, seconds: float) -> None:
        if seconds > self._drain_seconds:
            self.end_now()
        elif not self.server_state.connections:
            self.end()
        elif seconds > IDLE_SECONDS:
            for connection in list(self.server_state.connections):
                connection.shutdown()
