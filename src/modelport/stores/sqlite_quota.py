"""The quota of one host: a bank in a SQLite file. A power cut loses at most what a minute makes good."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from modelport.stores.allotments.bank import Answer, Ask, State, exchanged
from modelport.stores.sqlite_bank import SqliteFile, wall_ms

KEPT_MS: Final = 150_000
SWEEP_EVERY: Final = 4096
SCHEMA: Final = """
create table if not exists quota (subject text primary key, state blob not null, used_ms integer not null)
without rowid
"""


class SqliteBank:
    """stores.allotments.Bank"""

    def __init__(self, path: Path, *, now_ms: Callable[[], int] = wall_ms) -> None:
        self._file = SqliteFile(path, SCHEMA, "quota")
        self._now_ms = now_ms
        self._exchanges = 0
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(State)
        self.open = self._file.open
        self.close = self._file.close

    async def exchange(self, ask: Ask) -> Answer:
        """Bank"""
        return await self._file.run(partial(self._exchanged, ask))

    def _exchanged(self, ask: Ask, connection: sqlite3.Connection) -> Answer:
        found = connection.execute("select state from quota where subject = ?", (ask.subject,)).fetchone()
        before = self._decoder.decode(found[0]) if found is not None else None
        now_ms = self._now_ms()
        state, answer = exchanged(before, ask, now_ms)
        connection.execute("replace into quota values (?, ?, ?)", (ask.subject, self._encoder.encode(state), now_ms))
        self._exchanges += 1
        if self._exchanges % SWEEP_EVERY == 0:
            connection.execute("delete from quota where used_ms < ?", (now_ms - KEPT_MS,))
        return answer
