"""The owner role: what exists once for all processes that serve. A direct call where there is one process, a socket
where there are several (`processes/`); the way never knows which."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Protocol

from modelport.app.drain import End
from modelport.app.ledger import LocalLedger
from modelport.app.quota import close_quota, start_quota
from modelport.core.clock import Clock
from modelport.core.ports.quota import Quota
from modelport.core.ports.states import StoreState
from modelport.core.usage_reports import RecordsPage, RecordsQuestion, UsageQuestion, UsageRow
from modelport.engine.service import EngineWorker
from modelport.engine.supervisor import Supervisor, WorkerSpec
from modelport.stores import budgets
from modelport.stores.allotments import MemoryBank, SharedQuota
from modelport.stores.memory.quota import MemoryQuota
from modelport.telemetry.metrics import Metrics, Source
from modelport.telemetry.sources import EngineReading, engine_source, quota_source


class Owner(Protocol):
    """Engines, quota, and the one view of the metrics."""

    @property
    def engines(self) -> Mapping[str, EngineWorker]:
        """Every engine worker, by its name."""
        ...

    @property
    def quota(self) -> Quota:
        """Whatever the processes draw from."""
        ...

    @property
    def budget_bank(self) -> budgets.Bank | None:
        """What this process draws budgets from, where it shares no other store. None: it keeps its own."""
        ...

    @property
    def ledger(self) -> Ledger:
        """What calls have used."""
        ...

    @property
    def sources(self) -> Sequence[Source]:
        """Metrics that this process tells of the owner."""
        ...

    def reconcile(self, specs: Sequence[WorkerSpec]) -> Mapping[Hashable, End]:
        """From now on these are the engine workers. Returns how the ones that are not wanted any more end."""
        ...

    def rendered(self, metrics: Metrics) -> bytes | Awaitable[bytes]:
        """Prometheus text for the whole server, with these of this process."""
        ...

    async def start(self) -> None:
        """Starts what the owner runs."""
        ...

    async def close(self) -> None:
        """Ends it."""
        ...


class Ledger(Protocol):
    """The owner fills it, the others ask the owner. Questions raise LedgerUnavailable."""

    def running(self) -> AbstractAsyncContextManager[None]:
        """Around everything that writes a journal."""
        ...

    def states(self) -> list[StoreState]:
        """How it is, as far as this process knows."""
        ...

    async def report(self, question: UsageQuestion) -> list[UsageRow]:
        """With all that has ended by now. Raises TooManyRows."""
        ...

    async def records(self, question: RecordsQuestion) -> RecordsPage:
        """Single calls. Raises UsageQuestionError."""
        ...


class LocalOwner:
    """The one process is its own owner."""

    def __init__(
        self, specs: Sequence[WorkerSpec], clock: Clock, ledger: LocalLedger, quota: Quota | None = None
    ) -> None:
        self.supervisor = Supervisor(specs)
        self.ledger = ledger
        self.quota: Quota = quota if quota is not None else MemoryQuota(clock)
        self.bank = MemoryBank(clock)
        """What workers draw from, where they share no other store."""
        self.budgets = budgets.MemoryBank(clock)
        """The same of budgets."""
        self.budget_bank: budgets.Bank | None = None
        self.sources: Sequence[Source] = (
            engine_source(supervisor_readings(self.supervisor)),
            *quota_sources(self.quota),
            ledger.source,
        )

    @property
    def engines(self) -> Mapping[str, EngineWorker]:
        """Owner"""
        return self.supervisor.workers

    def reconcile(self, specs: Sequence[WorkerSpec]) -> Mapping[Hashable, End]:
        """Owner"""
        supervisor = self.supervisor
        return {worker: partial(supervisor.retire, worker) for worker in supervisor.reconcile(specs)}

    def rendered(self, metrics: Metrics) -> bytes:
        """Owner"""
        return metrics.render()

    async def start(self) -> None:
        """Owner"""
        await start_quota(self.quota)
        await self.supervisor.start()

    async def close(self) -> None:
        """Owner"""
        await self.supervisor.close()
        await close_quota(self.quota)


def quota_sources(quota: Quota) -> tuple[Source, ...]:
    """Metrics of the store that the quota shares, if it does."""
    return (quota_source(quota),) if isinstance(quota, SharedQuota) else ()


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
