"""The owner role: what exists once for all processes that serve. A direct call where there is one process, a socket
where there are several (`processes/`); the way never knows which."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Protocol

from modelport.core.clock import Clock
from modelport.core.ports import Quota
from modelport.engine.service import EngineWorker
from modelport.engine.supervisor import Supervisor, WorkerSpec
from modelport.stores.memory.quota import MemoryQuota
from modelport.telemetry.metrics import Metrics, Source
from modelport.telemetry.sources import EngineReading, engine_source


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
    def sources(self) -> Sequence[Source]:
        """Metrics that this process tells of the owner."""
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


class LocalOwner:
    """The one process is its own owner."""

    def __init__(self, specs: Sequence[WorkerSpec], clock: Clock) -> None:
        self.supervisor = Supervisor(specs)
        self.quota: Quota = MemoryQuota(clock)
        self.sources: Sequence[Source] = (engine_source(supervisor_readings(self.supervisor)),)

    @property
    def engines(self) -> Mapping[str, EngineWorker]:
        """Owner"""
        return self.supervisor.workers

    def rendered(self, metrics: Metrics) -> bytes:
        """Owner"""
        return metrics.render()

    async def start(self) -> None:
        """Owner"""
        await self.supervisor.start()

    async def close(self) -> None:
        """Owner"""
        await self.supervisor.close()


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
