"""Fills a ledger in SQLite, through Python's own driver alone: it takes a batch without the interpreter's lock."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from modelport.core.usage_reports import LedgerUnavailable
from modelport.stores.shipping.tail import Position
from modelport.stores.sql import connecting, statements
from modelport.stores.sql.batches import Column
from modelport.stores.sql.rows import Key

VALUES_A_STATEMENT: Final = 500
NUMBER: Final = statements.number("?")
REMEMBER: Final = statements.remember("?")
POSITIONS: Final = statements.positions("?")
ADDING: Final = {
    bucket: statements.adding(bucket, lambda columns: f"VALUES ({statements.listed('?' * len(columns))})")
    for bucket in statements.ROLL_UPS
}

PRUNED: Final = statements.pruned("?", "usage_records WHERE started_us >= ? AND started_us < ?")
REMOVE: Final = "DELETE FROM usage_records WHERE started_us >= ? AND started_us < ?"
PRUNED_UNTIL: Final = statements.pruned_until("?")


class SqliteFilling:
    """stores.sql.ledger.Filling"""

    def __init__(self, path: Path) -> None:
        """Raises LedgerUnavailable."""
        self._path = path
        with self._told():
            self._connection = connecting.sqlite_writer(path)
            # Only numbers that this connection has just read or written are named: a check for each row finds nothing.
            self._connection.execute("PRAGMA foreign_keys=OFF")

    def close(self) -> None:
        """stores.sql.ledger.Filling"""
        self._connection.close()

    def version(self) -> str | None:
        """stores.sql.ledger.Filling"""
        with self._told():
            found = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'alembic_version'"
            if self._connection.execute(found).fetchone() is None:
                return None
            row = self._connection.execute("SELECT version_num FROM alembic_version").fetchone()
            return None if row is None else str(row[0])

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """stores.sql.ledger.Filling"""
        with self._told():
            # Immediate: a transaction that reads before it writes could not be upgraded later.
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # it has ended by itself where the disk was full
                    self._connection.execute("ROLLBACK")
                raise

    def keep(self, columns: Sequence[Column]) -> bool:
        """stores.sql.ledger.Filling"""
        values = [statements.common(column) for column in columns]
        bound = [column for column, value in zip(columns, values, strict=True) if value is None]
        self._connection.execute("SAVEPOINT keeping")
        try:
            self._connection.executemany(statements.keep([value or "?" for value in values]), zip(*bound, strict=True))
        except sqlite3.IntegrityError:
            self._connection.execute("ROLLBACK TO keeping")
            return False
        self._connection.execute("RELEASE keeping")
        return True

    def known(self, times: Sequence[int]) -> set[Key]:
        """stores.sql.ledger.Filling"""
        found: set[Key] = set()
        for start in range(0, len(times), VALUES_A_STATEMENT):
            chunk = times[start : start + VALUES_A_STATEMENT]
            marks = statements.listed("?" * len(chunk))
            wanted = f"SELECT started_us, id FROM usage_records WHERE started_us IN ({marks})"  # noqa: S608 - only marks and names of ours
            found.update(self._connection.execute(wanted, chunk))
        return found

    def number(self, series: Sequence[tuple[str | None, ...]]) -> dict[str, int]:
        """stores.sql.ledger.Filling"""
        self._connection.executemany(NUMBER, series)
        wanted = "SELECT id FROM series WHERE fingerprint = ?"
        return {str(one[0]): self._connection.execute(wanted, one[:1]).fetchone()[0] for one in series}

    def add(self, bucket: str, rows: Sequence[tuple[int, ...]]) -> None:
        """stores.sql.ledger.Filling"""
        self._connection.executemany(ADDING[bucket], rows)

    def remember(self, source: str, writer: str, position: tuple[int | str, ...]) -> None:
        """stores.sql.ledger.Filling"""
        self._connection.execute(REMEMBER, (source, writer, *position))

    def positions(self, source: str) -> dict[str, Position]:
        """stores.sql.ledger.Filling"""
        return {row[0]: Position(*row[1:]) for row in self._connection.execute(POSITIONS, (source,))}

    def oldest(self) -> int | None:
        """stores.sql.ledger.Filling"""
        found: int | None = self._connection.execute(statements.OLDEST).fetchone()[0]
        return found

    def prune(self, month: int, first_us: int, last_us: int) -> None:
        """stores.sql.ledger.Filling"""
        self._connection.execute(PRUNED, (month, first_us, last_us))
        self._connection.execute(REMOVE, (first_us, last_us))
        self._connection.execute(PRUNED_UNTIL, (last_us,))

    def pruned_until(self) -> int | None:
        """stores.sql.ledger.Filling"""
        row = self._connection.execute(statements.PRUNED_UNTIL).fetchone()
        return None if row is None else int(row[0])

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as cause:
            reason = cause if isinstance(cause, sqlite3.Error) else type(cause).__name__
            raise LedgerUnavailable(f"the database {self._path} cannot be used: {reason}") from cause
