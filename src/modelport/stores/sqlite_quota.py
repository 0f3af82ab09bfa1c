"""The quota of one host: a bank in a SQLite file. It survives a restart, and several processes share it.

Each message is one transaction, in a thread of its own. The file is written to the kernel at once and to the disk when
SQLite sees fit: a killed process loses nothing, a power cut at most what a minute makes good.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

from modelport.stores.allotments.bank import Answer, Ask, State, StoreGone, exchanged

BUSY_SECONDS: Final = 0.5
KEPT_MS: Final = 150_000
SWEEP_EVERY: Final = 4096
SCHEMA: Final = """
create table if not exists quota (subject text primary key, state blob not null, used_ms integer not null)
without rowid
"""


def wall_ms() -> int:
    """Every process of a host reads the same clock."""
    return int(time.time() * 1000)


class SqliteBank:
    """stores.allotments.Bank"""

    def __init__(self, path: Path, *, now_ms: Callable[[], int] = wall_ms) -> None:
        self._path = path
        self._now_ms = now_ms
        self._connection: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="quota")
        self._exchanges = 0
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(State)

    async def open(self) -> None:
        """Bank"""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._open)

    async def exchange(self, ask: Ask) -> Answer:
        """Bank"""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._exchanged, ask)

    async def close(self) -> None:
        """Bank"""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)

    def _exchanged(self, ask: Ask) -> Answer:
        try:
            connection = self._connection if self._connection is not None else self._opened()
            with connection:
                connection.execute("begin immediate")
                found = connection.execute("select state from quota where subject = ?", (ask.subject,)).fetchone()
                before = self._decoder.decode(found[0]) if found is not None else None
                now_ms = self._now_ms()
                state, answer = exchanged(before, ask, now_ms)
                connection.execute(
                    "replace into quota values (?, ?, ?)", (ask.subject, self._encoder.encode(state), now_ms)
                )
                self._exchanges += 1
                if self._exchanges % SWEEP_EVERY == 0:
                    connection.execute("delete from quota where used_ms < ?", (now_ms - KEPT_MS,))
            return answer
        except (sqlite3.Error, msgspec.MsgspecError, OSError) as error:
            self._close()
            raise StoreGone(type(error).__name__) from error

    def _open(self) -> None:
        try:
            if self._connection is None:
                self._opened()
        except (sqlite3.Error, OSError) as error:
            raise StoreGone(type(error).__name__) from error

    def _opened(self) -> sqlite3.Connection:
        self._path.touch(mode=0o600)
        connection = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = normal")
        connection.execute(SCHEMA)
        self._connection = connection
        return connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
