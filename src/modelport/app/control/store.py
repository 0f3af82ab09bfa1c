"""The control plane's store for an event loop: opened at its first use, and asked from threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from modelport.core.ports.control import (
    AuditDraft,
    AuditEntry,
    ControlStore,
    ControlStoreUnavailable,
    StoredState,
    Write,
)

Kind = TypeVar("Kind")


class ThreadedStore:
    """control.plane_ports.Store."""

    def __init__(self, open_store: Callable[[], ControlStore]) -> None:
        """`open_store` is called from a thread, again after it has failed. Raises ControlStoreUnavailable."""
        self._open = open_store
        self._store: ControlStore | None = None
        self._opening = threading.Lock()
        self.away: str | None = None
        """Why it cannot be reached; questions are refused at once then, all but `version` and `load`."""

    @property
    def is_open(self) -> bool:
        """Whether it was needed."""
        return self._store is not None

    def read(self) -> StoredState:
        """`load` for a thread."""
        return self._answer(lambda store: store.load())

    async def load(self) -> StoredState:
        """Store"""
        return await self._asked(lambda store: store.load())

    async def version(self) -> int:
        """ControlStore"""
        return await self._asked(lambda store: store.version())

    async def commit(self, expected: int, writes: Sequence[Write], entry: AuditDraft) -> int:
        """Store"""
        return await self._asked(lambda store: store.commit(expected, writes, entry), is_refused_when_away=True)

    async def note(self, entry: AuditDraft) -> None:
        """Store"""
        await self._asked(lambda store: store.note(entry), is_refused_when_away=True)

    async def audit(self, since_us: int, kind: str | None, name: str | None) -> Sequence[AuditEntry]:
        """Store"""
        return await self._asked(lambda store: store.audit(since_us, kind, name), is_refused_when_away=True)

    async def key_uses(self) -> Mapping[str, int]:
        """ControlStore"""
        return await self._asked(lambda store: store.key_uses(), is_refused_when_away=True)

    async def note_key_uses(self, uses: Mapping[str, int]) -> None:
        """ControlStore"""
        await self._asked(lambda store: store.note_key_uses(uses), is_refused_when_away=True)

    async def forget_key_uses(self, key_ids: Iterable[str]) -> None:
        """ControlStore"""
        await self._asked(lambda store: store.forget_key_uses(key_ids), is_refused_when_away=True)

    async def wait(self, seconds: float) -> None:
        """ControlStore"""
        await self._asked(lambda store: store.wait(seconds))

    def close(self) -> None:
        """Ends its connections."""
        if self._store is not None:
            self._store.close()

    async def _asked(self, question: Callable[[ControlStore], Kind], *, is_refused_when_away: bool = False) -> Kind:
        if self.away is not None and is_refused_when_away:
            raise ControlStoreUnavailable(self.away)
        return await asyncio.to_thread(self._answer, question)

    def _answer(self, question: Callable[[ControlStore], Kind]) -> Kind:
        with self._opening:
            if self._store is None:
                self._store = self._open()
        return question(self._store)
