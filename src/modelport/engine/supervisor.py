"""Starts, watches, restarts and ends the worker processes that own weights: the gateway's side of the engine."""

from __future__ import annotations

import asyncio
import enum
import json
import logging
import os
import re
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from modelport.core.environment import COMPUTE, child_environment
from modelport.engine.local_http import LocalHttp, LocalHttpError, LocalHttpStatusError
from modelport.engine.worker import EXIT_CANNOT_LOAD, EXIT_IDLE

_logger = logging.getLogger(__name__)

_FIRST_DELAY_SECONDS: Final = 0.5
_LONGEST_DELAY_SECONDS: Final = 30.0
_STABLE_SECONDS: Final = 60.0
_LOADING_CRASHES_LIMIT: Final = 5
_HEALTH_EVERY_SECONDS: Final = 10.0
_HEALTH_TIMEOUT_SECONDS: Final = 20.0
_HEALTH_FAILURES_LIMIT: Final = 3
_LOG_LINE_LIMIT: Final = 2000

# A worker needs no credentials: of the gateway's environment it gets what a program needs to run, and nothing else.


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
    """One worker process across its restarts.

    `state`, `reason` (one line, no traceback), `restarts`, `facts` (what the backend says of its model), `load` (its
    last health report) and `address` (None unless it is ready) may be read at any time.
    """

    def __init__(self, spec: WorkerSpec, directory: Path) -> None:
        self.spec = spec
        self.state = WorkerState.UNLOADED
        self.reason = ""
        self.restarts = 0
        self.facts: Mapping[str, Any] = {}
        self.load: Mapping[str, Any] = {}
        self.address: WorkerAddress | None = None
        self.process_id: int | None = None
        self._directory = directory
        self._changed = asyncio.Event()
        self._life: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._is_closing = False
        self.on_running: Callable[[str, bool], None] | None = None
        """Is told the worker's name when its process begins (True) and when it has ended (False)."""

    async def ready(self, timeout_seconds: float | None = None) -> WorkerAddress:
        """The address, once the model can answer; starts the process if it is unloaded.

        Raises EngineUnavailableError when it failed for good or is not ready in time.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                while self.address is None:
                    self.start()  # again where the process that was there has just ended for being idle
                    if self.state is WorkerState.FAILED or self._is_closing:
                        raise EngineUnavailableError(f"The model {self.spec.name!r} cannot be loaded.", permanent=True)
                    await self._changed.wait()
        except TimeoutError:
            text = f"The model {self.spec.name!r} is {self.state.value}; try again in a moment."
            raise EngineUnavailableError(text, permanent=False) from None
        return self.address

    def start(self) -> None:
        """Starts the process unless there is one, or there is no hope."""
        if self._is_closing or self.state is WorkerState.FAILED:
            return
        if self._life is None or self._life.done():
            self._become(WorkerState.LOADING)
            self._life = asyncio.create_task(self._live(), name=f"worker {self.spec.name}")

    async def close(self, drain_seconds: float) -> None:
        """Ends the process, gently for `drain_seconds` and then at once. It is not started again."""
        self._is_closing = True
        process, life = self._process, self._life
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
        if life is not None:
            await asyncio.wait({life}, timeout=drain_seconds)
            life.cancel()
            await asyncio.gather(life, return_exceptions=True)
        self._become(WorkerState.UNLOADED)

    async def _live(self) -> None:
        """Runs the process again and again until it is unloaded, fails for good, or is closed."""
        delay_seconds, loading_crashes = _FIRST_DELAY_SECONDS, 0
        while True:
            started = time.monotonic()
            code, was_ready = await self._run_once()
            if self._is_closing:
                return
            if code == EXIT_IDLE:
                self._become(WorkerState.UNLOADED)
                return
            if code == EXIT_CANNOT_LOAD:
                _logger.error("model %s cannot be loaded: %s", self.spec.name, self.reason)
                self._become(WorkerState.FAILED, self.reason)
                return
            ending = _ending(code)
            loading_crashes = 0 if was_ready else loading_crashes + 1
            if loading_crashes >= _LOADING_CRASHES_LIMIT:
                self._become(WorkerState.FAILED, f"the worker {ending} {loading_crashes} times while loading")
                _logger.error("model %s: %s", self.spec.name, self.reason)
                return
            if was_ready and time.monotonic() - started > _STABLE_SECONDS:
                delay_seconds = _FIRST_DELAY_SECONDS
            self.restarts += 1
            self._become(WorkerState.RESTARTING, f"the worker {ending}")
            _logger.warning("model %s: the worker %s; restart in %.1f s", self.spec.name, ending, delay_seconds)
            await asyncio.sleep(delay_seconds)
            delay_seconds = min(_LONGEST_DELAY_SECONDS, delay_seconds * 2)

    async def _run_once(self) -> tuple[int, bool]:
        """One process from its start to its end: its exit code, and whether it was ever ready."""
        directory = Path(tempfile.mkdtemp(dir=self._directory))
        address = WorkerAddress(directory / "worker.sock", secrets.token_urlsafe(32))
        process = await self._spawn(address)
        self._process, self.process_id = process, process.pid
        self._tell_running(True)
        was_ready = False
        watches: list[asyncio.Task[None]] = []
        try:
            watches.append(asyncio.create_task(self._log_lines(process)))
            assert process.stdout is not None
            async for line in process.stdout:
                report = _report(line)
                if report.get("state") == "ready":
                    was_ready = True
                    self.facts, self.address = report.get("facts", {}), address
                    self._become(WorkerState.READY)
                    watches.append(asyncio.create_task(self._watch_health(process, address)))
                elif report.get("state") == "failed":
                    self.reason = str(report.get("reason", ""))
                elif report.get("state") == "unloaded":
                    self.address = None
            return await process.wait(), was_ready
        finally:
            self.address = None
            for watch in watches:
                watch.cancel()
            await self._end(process)
            self._tell_running(False)
            await asyncio.gather(*watches, return_exceptions=True)
            shutil.rmtree(directory, ignore_errors=True)

    async def _spawn(self, address: WorkerAddress) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "modelport.engine.worker", "--backend", self.spec.backend),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            # numpy's own threads would spin over matrices that are done before they have begun
            env={"OMP_WAIT_POLICY": "passive", "OPENBLAS_NUM_THREADS": "1", **child_environment(os.environ, COMPUTE)},
            start_new_session=True,  # Ctrl-C at the terminal is the gateway's to hear
            limit=1 << 20,
        )
        given = {
            "socket": str(address.socket_path),
            "secret": address.secret,
            "idle_unload_seconds": self.spec.idle_unload_seconds,
            "options": {"name": self.spec.name, **self.spec.options},
        }
        assert process.stdin is not None
        with suppress(BrokenPipeError, ConnectionResetError):  # it ended already; its exit code tells the rest
            process.stdin.write(json.dumps(given).encode() + b"\n")
            await process.stdin.drain()
        return process  # standard input stays open: its end would tell the worker that we are gone

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        self._process = self.process_id = None
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
        await process.wait()
        if process.stdin is not None:
            process.stdin.close()

    async def _log_lines(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            text = line.decode("utf-8", "replace").rstrip()[:_LOG_LINE_LIMIT]
            if text:
                _logger.info("worker %s: %s", self.spec.name, text)

    async def _watch_health(self, process: asyncio.subprocess.Process, address: WorkerAddress) -> None:
        """Kills a worker that is there but does not answer."""
        client = LocalHttp(address.socket_path, address.secret)
        failures = 0
        while failures < _HEALTH_FAILURES_LIMIT:
            await asyncio.sleep(_HEALTH_EVERY_SECONDS)
            try:
                async with asyncio.timeout(_HEALTH_TIMEOUT_SECONDS):
                    self.load = await client.call("GET", "/health")
                failures = 0
            except (TimeoutError, LocalHttpError, LocalHttpStatusError):
                failures += 1
        _logger.error("model %s: the worker does not answer and is ended", self.spec.name)
        with suppress(ProcessLookupError):
            process.kill()

    def stop_telling(self) -> None:
        """Its process counts as ended from now on, whenever it ends."""
        if self.process_id is not None:
            self._tell_running(False)
        self.on_running = None

    def _tell_running(self, is_running: bool) -> None:
        if self.on_running is not None:
            self.on_running(self.spec.name, is_running)

    def _become(self, state: WorkerState, reason: str = "") -> None:
        self.state, self.reason = state, reason
        self._changed.set()
        self._changed = asyncio.Event()


class Supervisor:
    """Owns the workers of one gateway process. `async with Supervisor(specs) as supervisor` starts and ends them."""

    def __init__(self, specs: Sequence[WorkerSpec]) -> None:
        _remove_leftovers()
        self._directory = Path(tempfile.mkdtemp(prefix=f"modelport-{os.getpid()}-"))
        self._on_running: Callable[[str, bool], None] | None = None
        self._retired: set[Worker] = set()
        self.workers: Mapping[str, Worker] = {spec.name: Worker(spec, self._directory) for spec in specs}

    def watch(self, on_running: Callable[[str, bool], None]) -> None:
        """`on_running` is told the name of each worker whose process begins (True) or has ended (False)."""
        self._on_running = on_running
        for worker in self.workers.values():
            worker.on_running = on_running

    def reconcile(self, specs: Sequence[WorkerSpec]) -> list[Worker]:
        """Keeps the workers whose spec is the same, and makes and starts the others. Returns those that are not wanted
        any more: they run on until `retire` ends them."""
        before = self.workers
        kept = {
            spec.name: before[spec.name] for spec in specs if spec.name in before and before[spec.name].spec == spec
        }
        retired = [worker for name, worker in before.items() if name not in kept]
        for worker in retired:
            worker.stop_telling()
        self._retired.update(retired)
        self.workers = {spec.name: kept.get(spec.name) or Worker(spec, self._directory) for spec in specs}
        for name, worker in self.workers.items():
            worker.on_running = self._on_running
            if name not in kept and worker.spec.load == "start":
                worker.start()
        return retired

    async def retire(self, worker: Worker, drain_seconds: float = 10.0) -> None:
        """Ends a worker that is not wanted any more."""
        await worker.close(drain_seconds)
        self._retired.discard(worker)

    async def start(self) -> None:
        """Starts every worker whose `load` is `start`; returns without waiting for weights to load."""
        for worker in self.workers.values():
            if worker.spec.load == "start":
                worker.start()

    async def close(self, drain_seconds: float = 10.0) -> None:
        """Lets running answers end for at most `drain_seconds`, then ends every process; none is left behind."""
        await asyncio.gather(*(worker.close(drain_seconds) for worker in (*self.workers.values(), *self._retired)))
        shutil.rmtree(self._directory, ignore_errors=True)

    async def __aenter__(self) -> Supervisor:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _remove_leftovers() -> None:
    """Directories of gateways that were killed; each is named after its process."""
    for directory in Path(tempfile.gettempdir()).glob("modelport-*-*"):
        name = re.fullmatch(r"modelport-(\d+)-\w+", directory.name)
        with suppress(OSError):
            if name and directory.stat().st_uid == os.getuid() and not Path(f"/proc/{name[1]}").exists():
                shutil.rmtree(directory, ignore_errors=True)


def _report(line: bytes) -> dict[str, Any]:
    try:
        report = json.loads(line)
    except ValueError:
        return {}  # something of a native library's own
    return report if isinstance(report, dict) else {}


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
