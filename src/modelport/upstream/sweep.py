"""Deadlines without a timer each: whatever has one is looked at twice a second."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

PERIOD_SECONDS: Final = 0.5


class Swept(Protocol):
    """Has a deadline, perhaps."""

    def sweep(self, now: float) -> None:
        """Ends what is late. `now` is the loop's clock."""
        ...


class Sweep:
    """The timer runs only while something is watched."""

    def __init__(self) -> None:
        self._watched: set[Swept] = set()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, swept: Swept) -> None:
        """From now on."""
        self._watched.add(swept)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PERIOD_SECONDS, self._run)

    def forget(self, swept: Swept) -> None:
        """No more."""
        self._watched.discard(swept)

    def watched(self) -> tuple[Swept, ...]:
        """All that is watched now."""
        return tuple(self._watched)

    def _run(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        try:
            for swept in tuple(self._watched):
                swept.sweep(now)
        finally:  # one that fails is told by the loop, and must not be the end of all deadlines
            self._timer = loop.call_later(PERIOD_SECONDS, self._run) if self._watched else None
