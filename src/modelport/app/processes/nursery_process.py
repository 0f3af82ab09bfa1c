"""The nursery, as the owner has it: a child process that is given orders and reports."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Protocol

import msgspec

from modelport.app.processes.plan import Order, Plan, Report
from modelport.core.environment import child_environment

LOADING_SECONDS: Final = 120.0
FORKING_SECONDS: Final = 10.0
LAST_WORDS_SECONDS: Final = 1.0

_logger = logging.getLogger("modelport.processes")


class NurseryFailed(Exception):
    """It cannot load what is to be served; says why."""


class NurseryGone(Exception):
    """The process has ended."""


class Ended(Protocol):
    """Hears of the end of a worker."""

    def __call__(self, process_id: int, code: int | None) -> None: ...


class NurseryProcess:
    """One nursery. `is_gone` says whether it has ended."""

    def __init__(
        self, process: asyncio.subprocess.Process, ended: Ended, gone: Callable[[NurseryProcess], None]
    ) -> None:
        self._process = process
        self._ended = ended
        self._gone = gone
        self._forked: dict[int, asyncio.Future[int]] = {}
        self._loaded: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
        self._life: asyncio.Task[None] | None = None
        self.is_gone = False

    @classmethod
    async def started(
        cls, plan: Plan, ended: Ended, gone: Callable[[NurseryProcess], None]
    ) -> tuple[NurseryProcess, dict[str, str]]:
        """A nursery that has loaded everything, and what it needs of the owner (`plan.owned`). Raises NurseryFailed."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "modelport.app.processes.nursery"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=child_environment(os.environ),
            pass_fds=(plan.life, *plan.listeners),
            start_new_session=True,  # Ctrl-C at the terminal is the owner's to hear
            limit=1 << 20,
        )
        nursery = cls(process, ended, gone)
        nursery._write(msgspec.json.encode(plan))
        nursery._life = asyncio.create_task(nursery._live())
        try:
            async with asyncio.timeout(LOADING_SECONDS):
                return nursery, await nursery._loaded
        except (TimeoutError, NurseryFailed, NurseryGone) as error:
            await nursery.kill()
            raise NurseryFailed(str(error) or "the processes that serve cannot be started") from None

    async def fork(self, listener: int) -> int:
        """A new worker's process id. Raises NurseryGone."""
        if self.is_gone:
            raise NurseryGone
        forked: asyncio.Future[int]
        forked = self._forked[listener] = asyncio.get_running_loop().create_future()
        self._order(Order(fork=listener))
        try:
            async with asyncio.timeout(FORKING_SECONDS):
                return await forked
        except TimeoutError:
            await self.kill()
            raise NurseryGone from None

    def end(self) -> None:
        """It ends when its last worker has."""
        self._order(Order(end=True))

    async def kill(self) -> None:
        """Ends it now."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()

    async def closed(self, seconds: float) -> None:
        """Waits for its end, but not for long."""
        self.end()
        try:
            async with asyncio.timeout(seconds):
                await self._process.wait()
        except TimeoutError:
            pass
        await self.kill()
        if self._life is not None:
            await self._life

    def _order(self, order: Order) -> None:
        self._write(msgspec.json.encode(order))

    def _write(self, line: bytes) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError, ConnectionResetError, RuntimeError):
            self._process.stdin.write(line + b"\n")

    async def _live(self) -> None:
        reading = asyncio.create_task(self._read())
        await self._process.wait()
        await asyncio.wait({reading}, timeout=LAST_WORDS_SECONDS)
        reading.cancel()
        self.is_gone = True
        awaited: list[asyncio.Future[Any]] = [self._loaded, *self._forked.values()]
        for one in awaited:
            if not one.done():
                one.set_exception(NurseryGone())
        self._gone(self)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            report = msgspec.json.decode(line, type=Report)
            if report.ready is not None:
                self._loaded.set_result(report.ready)
            elif report.failed is not None:
                self._loaded.set_exception(NurseryFailed(report.failed))
            elif report.forked is not None and report.listener is not None:
                self._forked.pop(report.listener).set_result(report.forked)
            elif report.ended is not None:
                self._ended(report.ended, report.code)


def kill(process_id: int, number: int) -> None:
    """Signals a worker, which may be gone already."""
    with suppress(ProcessLookupError):
        os.kill(process_id, number)
