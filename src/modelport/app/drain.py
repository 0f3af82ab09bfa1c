"""Parts that no new call uses: ended once the calls that may still use them have ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Mapping
from contextlib import suppress

End = Callable[[], Awaitable[object]]

_logger = logging.getLogger("modelport.reload")


class Drain:
    """Waits for one set of calls after the other. A part that is retired again meanwhile waits for the later set."""

    def __init__(self, calls_ended: Callable[[], Awaitable[object]], limit_seconds: float) -> None:
        """`calls_ended` returns when every call that runs at that moment has ended; it has `limit_seconds` for that."""
        self._calls_ended = calls_ended
        self._limit_seconds = limit_seconds
        self._due: dict[Hashable, End] = {}
        self._task: asyncio.Task[None] | None = None

    def add(self, parts: Mapping[Hashable, End]) -> None:
        """How each of these parts ends."""
        self._due.update(parts)
        if self._due and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._run(), name="drain")

    async def close(self) -> None:
        """Waits for nothing any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while self._due:
            due, self._due = self._due, {}
            with suppress(TimeoutError):
                async with asyncio.timeout(self._limit_seconds):
                    await self._calls_ended()
            for part, end in due.items():
                if part not in self._due:
                    await self._end(end)

    async def _end(self, end: End) -> None:
        try:
            await end()
        except Exception as error:  # noqa: BLE001  the end of a task: other parts must end, too
            _logger.error("a part that is not used any more could not be closed: %s", type(error).__name__)
