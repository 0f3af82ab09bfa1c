"""When each key was used last: kept in memory, and written rarely, so that no call waits for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

from modelport.control.resources.keys import SLOTS
from modelport.core.clock import Clock
from modelport.core.ports.control import ControlStoreUnavailable

WRITE_SECONDS: Final = 300.0
"""Between two writes; what was not written when a process is killed is forgotten."""
ENDINGS: Final = tuple(f"/{slot}" for slot in SLOTS)

_logger = logging.getLogger("modelport.control")


class Store(Protocol):
    """Times are microseconds of unix time. Raises ControlStoreUnavailable."""

    async def key_uses(self) -> Mapping[str, int]: ...

    async def note_key_uses(self, uses: Mapping[str, int]) -> None: ...

    async def forget_key_uses(self, key_ids: Iterable[str]) -> None: ...


class KeyUses:
    """admin.resources.LastUses, in the process that owns the control plane."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.take: Callable[[], Mapping[str, float]] = dict
        """What the calls of this process add, in unix seconds by key id."""
        self._store = store
        self._clock = clock
        self._forgotten: dict[str, int] = {}
        """Until when a use is one of a former value, in microseconds of unix time."""
        self._unwritten: dict[str, int] = {}

    def add(self, uses: Mapping[str, float]) -> None:
        """Of this process or another one. Callers without a key of `keys` are passed over."""
        for key_id, used_at in uses.items():
            if key_id.endswith(ENDINGS):
                name, used_us = key_id.lower(), int(used_at * 1_000_000)
                if used_us > self._forgotten.get(name, 0):
                    self._unwritten[name] = max(used_us, self._unwritten.get(name, 0))

    async def last(self) -> Mapping[str, int]:
        """By key id in lower case (`name/key1`), in microseconds of unix time; without the store, what is in memory."""
        self.add(self.take())
        try:
            found = dict(await self._store.key_uses())
        except ControlStoreUnavailable:
            found = {}
        for key_id, used_us in self._unwritten.items():
            found[key_id] = max(used_us, found.get(key_id, 0))
        return found

    async def forget(self, key_ids: Iterable[str]) -> None:
        """Their values are gone. An earlier use that another process tells of later is none of the new values."""
        self.add(self.take())
        for key_id in (forgotten := list(key_ids)):
            self._unwritten.pop(key_id, None)
            self._forgotten[key_id] = int(self._clock.now() * 1_000_000)
        try:
            await self._store.forget_key_uses(forgotten)
        except ControlStoreUnavailable as error:
            _logger.warning("the last use of a key that is gone stays: %s", error)

    async def write(self) -> None:
        """Into the store; what it does not take now is kept for the next time."""
        self.add(self.take())
        if not (uses := self._unwritten):
            return
        self._unwritten = {}
        try:
            await self._store.note_key_uses(uses)
        except ControlStoreUnavailable as error:
            for key_id, used_us in uses.items():
                self._unwritten[key_id] = max(used_us, self._unwritten.get(key_id, 0))
            _logger.warning("the last uses of keys could not be written: %s", error)

    async def write_repeatedly(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(WRITE_SECONDS)
            await self.write()
