"""Engine workers as another process sees them: the owner supervises them, and tells where they are and how."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from modelport.engine.supervisor import EngineUnavailableError, Supervisor, WorkerAddress, WorkerSpec, WorkerState


class EngineNews(Struct, frozen=True):
    """One engine worker now. Its address is there only while it is ready."""

    name: str
    state: str
    reason: str = ""
    socket_path: str | None = None
    secret: str | None = None

    def __repr__(self) -> str:
        return f"EngineNews({self.name}, {self.state})"  # the secret is for the wire alone


def news_of(supervisor: Supervisor) -> list[EngineNews]:
    """What the workers are told."""
    return [
        EngineNews(
            name=name,
            state=worker.state.value,
            reason=worker.reason,
            socket_path=str(worker.address.socket_path) if worker.address is not None else None,
            secret=worker.address.secret if worker.address is not None else None,
        )
        for name, worker in supervisor.workers.items()
    ]


class DistantEngine:
    """engine.service.EngineWorker for a worker that the owner supervises."""

    def __init__(self, spec: WorkerSpec, start: Callable[[str], Awaitable[Any]]) -> None:
        self.spec = spec
        self.state = WorkerState.LOADING
        self.reason = ""
        self.address: WorkerAddress | None = None
        self._start = start
        self._changed = asyncio.Event()

    def learn(self, news: EngineNews) -> None:
        """Takes up what the owner says."""
        self.state, self.reason = WorkerState(news.state), news.reason
        self.address = None
        if news.socket_path is not None and news.secret is not None:
            self.address = WorkerAddress(Path(news.socket_path), news.secret)
        self._changed.set()
        self._changed = asyncio.Event()

    async def ready(self, timeout_seconds: float | None = None) -> WorkerAddress:
        """The address, once the model can answer; has it loaded if it is not. Raises EngineUnavailableError."""
        try:
            async with asyncio.timeout(timeout_seconds):
                while self.address is None:
                    changed = self._changed
                    if self.state is WorkerState.UNLOADED:  # also where one that was idle ends just now
                        await self._start(self.spec.name)
                    if self.state is WorkerState.FAILED:
                        raise EngineUnavailableError(f"The model {self.spec.name!r} cannot be loaded.", permanent=True)
                    await changed.wait()
        except TimeoutError:
            text = f"The model {self.spec.name!r} is {self.state.value}; try again in a moment."
            raise EngineUnavailableError(text, permanent=False) from None
        return self.address


class DistantEngines:
    """All of them."""

    def __init__(self, specs: Sequence[WorkerSpec], start: Callable[[str], Awaitable[Any]]) -> None:
        self._start = start
        self.by_name: Mapping[str, DistantEngine] = {spec.name: DistantEngine(spec, start) for spec in specs}
        self.news: list[EngineNews] = []
        """How the engines are that `reconcile` makes."""

    def reconcile(self, specs: Sequence[WorkerSpec]) -> None:
        """From now on these are the engines. One whose spec is the same is kept."""
        before = self.by_name
        kept = {
            spec.name: before[spec.name] for spec in specs if spec.name in before and before[spec.name].spec == spec
        }
        self.by_name = {spec.name: kept.get(spec.name) or DistantEngine(spec, self._start) for spec in specs}
        for news in self.news:
            if news.name not in kept and news.name in self.by_name:
                self.by_name[news.name].learn(news)

    def learn(self, body: Any) -> None:
        """The owner's message `engines`."""
        for news in msgspec.convert(body, list[EngineNews]):
            engine = self.by_name.get(news.name)
            if engine is not None:
                engine.learn(news)


def told(news: Iterable[EngineNews]) -> Any:
    """The body of the message `engines`."""
    return msgspec.to_builtins(list(news))
