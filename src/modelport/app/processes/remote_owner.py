"""The owner, as a worker reaches it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Final

import msgspec

from modelport.admin.endpoint import AdminRequest
from modelport.admin.endpoint import Answer as AdminAnswer
from modelport.app.configuration import ControlState
from modelport.app.drain import End
from modelport.app.owner import Ledger, quota_sources
from modelport.app.processes.distant_ledger import DistantLedger
from modelport.app.processes.engines import DistantEngines
from modelport.app.processes.handover import Reconfiguration, unpacked
from modelport.app.processes.peer import Handler, Peer, PeerGone, PeerRefused, connected
from modelport.app.processes.plan import Plan
from modelport.app.quota import close_quota, open_quota, start_quota
from modelport.config.secrets import Secret
from modelport.config.settings import Settings
from modelport.core.clock import Clock
from modelport.core.errors import Unavailable
from modelport.core.ports.quota import Quota
from modelport.engine.service import EngineWorker
from modelport.engine.supervisor import EngineUnavailableError, WorkerSpec
from modelport.stores import budgets
from modelport.stores.allotments import Answer, Ask, StoreGone
from modelport.telemetry.figures import figures_of
from modelport.telemetry.metrics import Metrics, Source

ADMIN_SECONDS: Final = 60.0
"""For one request of the administration: a change waits until every worker serves it."""


class RemoteOwner:
    """app.owner.Owner over the owner's socket. `on` says what its orders do; they are read from `start` to `close`."""

    def __init__(
        self, plan: Plan, specs: Sequence[WorkerSpec], clock: Clock, settings: Settings, number: int = 0
    ) -> None:
        self._plan = plan
        self._engines = DistantEngines(specs, self._start_engine)
        self._peer: Peer | None = None
        self._reading: asyncio.Task[None] | None = None
        self.ledger: Ledger = (ledger := DistantLedger(lambda: self.peer))
        self._handlers: dict[str, Handler] = {
            "engines": self._engines.learn,
            "ledger": ledger.learn,
            "configure": self._configured,
        }
        self._latest: Reconfiguration | None = None
        """What the owner has told and this process does not serve yet."""
        self._apply: Callable[[Settings, Secret | None, ControlState], None] | None = None
        self.quota: Quota = open_quota(settings, clock, OwnersBank(self), number)
        self.budget_bank: budgets.Bank | None = OwnersBudgetBank(self)
        self.sources: Sequence[Source] = quota_sources(self.quota)

    @property
    def engines(self) -> Mapping[str, EngineWorker]:
        """Owner"""
        return self._engines.by_name

    def reconcile(self, specs: Sequence[WorkerSpec]) -> Mapping[Hashable, End]:
        """Owner"""
        self._engines.reconcile(specs)
        return {}  # the owner ends its engines when the calls of every process have ended

    def configure_with(self, apply: Callable[[Settings, Secret | None, ControlState], None]) -> None:
        """How this process takes up the owner's settings: those told until now at once, the others as they come."""
        self._apply = apply
        if self._latest is not None:
            self._take_up(self._latest)

    def _configured(self, body: Any) -> None:
        """The owner's message `configure`; its answer says that this process serves it."""
        self._latest = msgspec.convert(body, Reconfiguration)
        if self._apply is not None:
            self._take_up(self._latest)

    def _take_up(self, told: Reconfiguration) -> None:
        assert self._apply is not None
        self._engines.news = told.engines
        self._apply(*unpacked(told.settings))

    @property
    def peer(self) -> Peer:
        """The connection. Raises PeerGone before `start`."""
        if self._peer is None:
            raise PeerGone
        return self._peer

    def on(self, orders: Mapping[str, Handler]) -> None:
        """What to do when the owner says so."""
        self._handlers.update(orders)

    async def start(self) -> None:
        """Connects. Raises OSError when the owner is gone."""
        plan = self._plan
        self._peer = await connected(plan.owner_socket, plan.owner_secret, os.getpid(), self._handlers)
        self._reading = asyncio.create_task(self._peer.run(), name="owner")
        told = await self._peer.ask("configuration")
        if told is not None and self._latest is None:
            self._latest = msgspec.convert(told, Reconfiguration)
        await start_quota(self.quota)

    async def gone(self) -> None:
        """Returns when the owner does not listen any more."""
        if self._reading is not None:
            await asyncio.wait({self._reading})

    async def close(self) -> None:
        """Gives back what is held of the quota, and ends the connection."""
        await close_quota(self.quota)
        if self._peer is not None:
            self._peer.close()
        await self.gone()

    async def rendered(self, metrics: Metrics) -> bytes:
        """The whole server's metrics; where the owner does not answer, those of this process."""
        try:
            text: str = await self.peer.ask("metrics", told_figures(metrics))
        except (PeerGone, PeerRefused):
            return metrics.render()
        return text.encode()

    async def relay(self, request: AdminRequest) -> AdminAnswer:
        """The owner's answer to a request of the administration."""
        try:
            said = await self.peer.ask("admin", msgspec.to_builtins(request), ADMIN_SECONDS)
            return msgspec.convert(said, AdminAnswer)
        except (PeerGone, PeerRefused):
            what = "The process that owns the control plane does not answer."
            raise Unavailable(f"{what} Read the object again before you repeat a change.", retry_after=1) from None

    async def _start_engine(self, name: str) -> None:
        try:
            await self.peer.ask("start_engine", name)
        except (PeerGone, PeerRefused):
            raise EngineUnavailableError("The server is shutting down.", permanent=False) from None


class OwnersBank:
    """stores.allotments.Bank in the owner's memory."""

    def __init__(self, owner: RemoteOwner) -> None:
        self._owner = owner

    async def open(self) -> None:
        """Bank"""

    async def exchange(self, ask: Ask) -> Answer:
        """Bank"""
        try:
            said = await self._owner.peer.ask("quota", msgspec.to_builtins(ask))
            return msgspec.convert(said, Answer)
        except (PeerGone, PeerRefused, msgspec.ValidationError) as error:
            raise StoreGone(type(error).__name__) from error

    async def close(self) -> None:
        """Bank"""


class OwnersBudgetBank:
    """stores.budgets.Bank in the owner's memory."""

    def __init__(self, owner: RemoteOwner) -> None:
        self._owner = owner

    async def open(self) -> None:
        """Bank"""

    async def exchange(self, ask: budgets.Ask) -> budgets.Answer:
        """Bank"""
        try:
            said = await self._owner.peer.ask("budget", msgspec.to_builtins(ask))
            return msgspec.convert(said, budgets.Answer)
        except (PeerGone, PeerRefused, msgspec.ValidationError) as error:
            raise StoreGone(type(error).__name__) from error

    async def close(self) -> None:
        """Bank"""


def told_figures(metrics: Metrics) -> Any:
    """The body of the message `figures`."""
    return msgspec.to_builtins(figures_of(metrics.families()))
