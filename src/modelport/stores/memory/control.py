"""The control plane's objects in memory: for tests, and the model that the SQL store is compared with."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence

from msgspec import structs

from modelport.core.audit_chain import FIRST, chained
from modelport.core.ports.control import (
    AuditDraft,
    AuditEntry,
    StoredObject,
    StoredState,
    VersionConflict,
    Write,
)


class MemoryControlStore:
    """core.ports.control.ControlStore. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._version = 0
        self._objects: dict[tuple[str, str], StoredObject] = {}
        self._entries: list[AuditEntry] = []
        self._claims: dict[str, str] = {}
        self._key_uses: dict[str, int] = {}

    def load(self) -> StoredState:
        """ControlStore"""
        with self._lock:
            return StoredState(self._version, tuple(self._objects[key] for key in sorted(self._objects)))

    def version(self) -> int:
        """ControlStore"""
        return self._version

    def commit(self, expected: int, writes: Sequence[Write], entry: AuditDraft) -> int:
        """ControlStore"""
        with self._lock:
            if expected != self._version:
                raise VersionConflict
            self._version += 1
            for write in writes:
                self._write(write, entry.time_us)
            self._append(entry)
            return self._version

    def note(self, entry: AuditDraft) -> None:
        """ControlStore"""
        with self._lock:
            self._append(entry)

    def audit(self, since_us: int = 0, kind: str | None = None, name: str | None = None) -> list[AuditEntry]:
        """ControlStore"""
        with self._lock:
            return [
                entry
                for entry in self._entries
                if entry.time_us >= since_us
                and kind in (None, entry.kind)
                and (name is None or name.lower() == entry.name.lower())
            ]

    def key_uses(self) -> dict[str, int]:
        """ControlStore"""
        with self._lock:
            return dict(self._key_uses)

    def note_key_uses(self, uses: Mapping[str, int]) -> None:
        """ControlStore"""
        with self._lock:
            for key_id, used_us in uses.items():
                self._key_uses[key_id] = max(used_us, self._key_uses.get(key_id, 0))

    def forget_key_uses(self, key_ids: Iterable[str]) -> None:
        """ControlStore"""
        with self._lock:
            for key_id in key_ids:
                self._key_uses.pop(key_id, None)

    def wait(self, seconds: float) -> None:
        """ControlStore"""
        time.sleep(seconds)

    def claim(self, name: str, value: str) -> str:
        """ControlStore"""
        with self._lock:
            return self._claims.setdefault(name, value)

    def close(self) -> None:
        """ControlStore"""

    def _write(self, write: Write, now_us: int) -> None:
        key = (write.kind, write.name.lower())
        if write.body is None:
            self._objects.pop(key, None)
            return
        known = self._objects.get(key)
        new = StoredObject(
            kind=write.kind,
            name=write.name,
            body=write.body,
            version=self._version,
            created_us=now_us,
            changed_us=now_us,
        )
        kept = {"name": known.name, "created_us": known.created_us} if known is not None else {}
        self._objects[key] = structs.replace(new, **kept)

    def _append(self, entry: AuditDraft) -> None:
        previous = self._entries[-1].digest if self._entries else FIRST
        self._entries.append(chained(entry, len(self._entries) + 1, self._version, previous))
