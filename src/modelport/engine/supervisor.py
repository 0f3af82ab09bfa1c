"""Starts, watches, restarts and ends the worker processes that own weights: the gateway's side of the engine."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal


class WorkerState(enum.StrEnum):
    """Where a worker is in its life."""

    LOADING = "loading"
    READY = "ready"
    RESTARTING = "restarting"
    FAILED = "failed"
    UNLOADED = "unloaded"


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """What to run: one embedded model, its backend and that backend's options (`weights` and the rest)."""

    name: str
    backend: str
    options: Mapping[str, Any] = field(default_factory=dict)
    load: Literal["start", "first_use"] = "start"
    idle_unload_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class WorkerAddress:
    """How to reach a ready worker: plain HTTP over its unix socket, with `Authorization: Bearer <secret>`."""

    socket_path: Path
    secret: str = field(repr=False)


class EngineUnavailableError(Exception):
    """No worker can answer now; `permanent` says that waiting will not help. `str()` is fit for a caller's eyes."""

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


class Worker:
    """One worker process across its restarts."""

    spec: WorkerSpec
    state: WorkerState
    reason: str
    restarts: int
    facts: Mapping[str, Any]

    async def ready(self, timeout_seconds: float) -> WorkerAddress:
        """The address, once the model can answer; starts the process if it is unloaded.

        Raises EngineUnavailableError when it failed for good or is not ready in time.
        """
        raise NotImplementedError

    def begin_use(self) -> None:
        """Says that a request is being answered, so that the worker is not unloaded as idle."""
        raise NotImplementedError

    def end_use(self) -> None:
        """The counterpart of `begin_use`."""
        raise NotImplementedError


class Supervisor:
    """Owns the workers of one gateway process. `async with Supervisor(specs) as supervisor` starts and ends them."""

    def __init__(self, specs: Sequence[WorkerSpec]) -> None:
        self.specs = tuple(specs)
        self.workers: Mapping[str, Worker] = {}

    async def start(self) -> None:
        """Starts every worker whose `load` is `start`; returns without waiting for weights to load."""
        raise NotImplementedError

    async def close(self, drain_seconds: float = 10.0) -> None:
        """Lets running answers end for at most `drain_seconds`, then ends every process; none is left behind."""
        raise NotImplementedError

    async def __aenter__(self) -> Supervisor:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
