"""The budgets of one host: a bank in a SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from modelport.stores.budgets.bank import KEPT_MS, Answer, Ask, State, exchanged
from modelport.stores.sqlite_bank import SqliteFile, wall_ms

SCHEMA: Final = """
create table if not exists budgets (
    subject text, window text, state blob not null, until_ms integer not null, primary key (subject, window)
) without rowid
"""


class SqliteBudgetBank:
    """stores.budgets.Bank"""

    def __init__(self, path: Path, *, now_ms: Callable[[], int] = wall_ms) -> None:
        self._file = SqliteFile(path, SCHEMA, "budgets")
        self._now_ms = now_ms
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(State)
        self.open = self._file.open
        self.close = self._file.close

    async def exchange(self, ask: Ask) -> Answer:
        """Bank"""
        return await self._file.run(partial(self._exchanged, ask))

    def _exchanged(self, ask: Ask, connection: sqlite3.Connection) -> Answer:
        key, now_ms = (ask.subject, ask.window), self._now_ms()
        found = connection.execute("select state from budgets where subject = ? and window = ?", key).fetchone()
        if found is None:
            connection.execute("delete from budgets where until_ms < ?", (now_ms,))
        before = self._decoder.decode(found[0]) if found is not None else None
        state, answer = exchanged(before, ask, now_ms)
        if state is not None:
            until_ms = now_ms + max(0, ask.lasts_ms) + KEPT_MS
            row = (*key, self._encoder.encode(state), until_ms)
            connection.execute("replace into budgets values (?, ?, ?, ?)", row)
        return answer
