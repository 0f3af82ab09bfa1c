"""What banks in a SQLite file have in common: several processes of a host share it, and it survives a restart.

Each message is one transaction, in a thread of its own. The file is written to the kernel at once and to the disk when
SQLite sees fit: a killed process loses nothing.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from modelport.stores.allotments import StoreGone

BUSY_SECONDS: Final = 0.5
T = TypeVar("T")


def wall_ms() -> int:
    """Every process of a host reads the same clock."""
    return int(time.time() * 1000)


class SqliteFile:
    """One connection, and the thread that it belongs to. `schema` is made where it is missing. Its methods raise
    StoreGone for whatever goes wrong; what was open is then opened anew by the next one."""

    def __init__(self, path: Path, schema: str, name: str) -> None:
        self._path = path
        self._schema = schema
        self._connection: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def open(self) -> None:
        """Ends when it is there."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._open)

    async def run(self, step: Callable[[sqlite3.Connection], T]) -> T:
        """The step in one transaction that nobody else writes beside."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, step)

    async def close(self) -> None:
        """Lets the file go."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)

    def _run(self, step: Callable[[sqlite3.Connection], T]) -> T:
        try:
            connection = self._opened()
            with connection:
                connection.execute("begin immediate")
                return step(connection)
        except (sqlite3.Error, msgspec.MsgspecError, OSError) as error:
            self._close()
            raise StoreGone(type(error).__name__) from error

    def _open(self) -> None:
        try:
            self._opened()
        except (sqlite3.Error, OSError) as error:
            raise StoreGone(type(error).__name__) from error

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._path.touch(mode=0o600)
            connection = sqlite3.connect(
                self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            connection.execute("pragma journal_mode = wal")
            connection.execute("pragma synchronous = normal")
            connection.execute(self._schema)
            self._connection = connection
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
