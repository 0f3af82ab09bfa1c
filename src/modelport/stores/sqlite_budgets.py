"""The budgets of one host: a bank in a SQLite file. It survives a restart, and several processes share it.

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
from typing import Final

import msgspec

from modelport.stores.allotments import StoreGone
from modelport.stores.budgets.bank import KEPT_MS, Answer, Ask, State, exchanged

BUSY_SECONDS: Final = 0.5
SCHEMA: Final = """
create table if not exists budgets (
    subject text, window text, state blob not null, until_ms integer not null, primary key (subject, window)
) without rowid
"""


def wall_ms() -> int:
    """Every process of a host reads the same clock."""
    return int(time.time() * 1000)


class SqliteBudgetBank:
    """stores.budgets.Bank"""

    def __init__(self, path: Path, *, now_ms: Callable[[], int] = wall_ms) -> None:
        self._path = path
        self._now_ms = now_ms
        self._connection: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="budgets")
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
                key, now_ms = (ask.subject, ask.window), self._now_ms()
                statement = "select state from budgets where subject = ? and window = ?"
                found = connection.execute(statement, key).fetchone()
                if found is None:
                    connection.execute("delete from budgets where until_ms < ?", (now_ms,))
                before = self._decoder.decode(found[0]) if found is not None else None
                state, answer = exchanged(before, ask, now_ms)
                if state is not None:
                    until_ms = now_ms + max(0, ask.lasts_ms) + KEPT_MS
                    row = (*key, self._encoder.encode(state), until_ms)
                    connection.execute("replace into budgets values (?, ?, ?, ?)", row)
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
