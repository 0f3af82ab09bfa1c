"""Fills a ledger in PostgreSQL: records by COPY, sums as arrays, one statement each for a whole batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import psycopg

from modelport.core.usage_reports import LedgerUnavailable
from modelport.stores.shipping.tail import Position
from modelport.stores.sql import statements
from modelport.stores.sql.address import DatabaseAddress
from modelport.stores.sql.batches import Column
from modelport.stores.sql.columns import RECORD_COLUMNS
from modelport.stores.sql.connecting import CONNECT_SECONDS
from modelport.stores.sql.rows import Key

KEEP: Final = f"COPY usage_records ({statements.listed(RECORD_COLUMNS)}) FROM STDIN"
NUMBER: Final = statements.number("%s")
REMEMBER: Final = statements.remember("%s")
POSITIONS: Final = statements.positions("%s")
PLACE_COLUMNS: Final = 2
"""Of a roll-up: integers, where the sums are large ones."""


def unnested(columns: Sequence[str]) -> str:
    """One array for each column."""
    types = ["%s::int4[]"] * PLACE_COLUMNS + ["%s::int8[]"] * (len(columns) - PLACE_COLUMNS)
    return f"SELECT * FROM unnest({statements.listed(types)})"  # noqa: S608 - only marks and names of ours


ADDING: Final = {bucket: statements.adding(bucket, unnested) for bucket in statements.ROLL_UPS}

GONE: Final = "WITH gone AS (DELETE FROM usage_records WHERE started_us >= %s AND started_us < %s RETURNING *)"
PRUNED: Final = f"{GONE} {statements.pruned('%s::int4', 'gone')}"
"""In one statement: what somebody else writes or removes meanwhile is summed by nobody, or by one."""
PRUNED_UNTIL: Final = statements.pruned_until("%s")


class PostgresqlFilling:
    """stores.sql.ledger.Filling"""

    def __init__(self, address: DatabaseAddress) -> None:
        """Raises LedgerUnavailable."""
        assert address.url is not None
        self._address = address
        with self._told():
            self._connection = psycopg.connect(
                f"postgresql://{address.url.partition('://')[2]}", connect_timeout=CONNECT_SECONDS, autocommit=True
            )

    def close(self) -> None:
        """stores.sql.ledger.Filling"""
        self._connection.close()

    def version(self) -> str | None:
        """stores.sql.ledger.Filling"""
        with self._told():
            row = self._connection.execute("SELECT to_regclass('alembic_version') IS NOT NULL").fetchone()
            if row is None or not row[0]:
                return None
            row = self._connection.execute("SELECT version_num FROM alembic_version").fetchone()
            return None if row is None else str(row[0])

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """stores.sql.ledger.Filling"""
        with self._told(), self._connection.transaction():
            yield

    def keep(self, columns: Sequence[Column]) -> bool:
        """stores.sql.ledger.Filling"""
        try:
            with self._connection.transaction(), self._connection.cursor() as cursor, cursor.copy(KEEP) as copy:
                for row in zip(*columns, strict=True):
                    copy.write_row(row)
        except psycopg.errors.UniqueViolation:
            return False
        return True

    def known(self, times: Sequence[int]) -> set[Key]:
        """stores.sql.ledger.Filling"""
        wanted = "SELECT started_us, id FROM usage_records WHERE started_us = ANY(%s::int8[])"
        return set(self._connection.execute(wanted, (list(times),)))

    def number(self, series: Sequence[tuple[str | None, ...]]) -> dict[str, int]:
        """stores.sql.ledger.Filling"""
        with self._connection.cursor() as cursor:
            cursor.executemany(NUMBER, series)
            wanted = "SELECT fingerprint, id FROM series WHERE fingerprint = ANY(%s)"
            return dict(cursor.execute(wanted, ([one[0] for one in series],)).fetchall())

    def add(self, bucket: str, rows: Sequence[tuple[int, ...]]) -> None:
        """stores.sql.ledger.Filling"""
        self._connection.execute(ADDING[bucket], [list(column) for column in zip(*rows, strict=True)])

    def remember(self, source: str, writer: str, position: tuple[int | str, ...]) -> None:
        """stores.sql.ledger.Filling"""
        self._connection.execute(REMEMBER, (source, writer, *position))

    def positions(self, source: str) -> dict[str, Position]:
        """stores.sql.ledger.Filling"""
        with self._told():
            return {row[0]: Position(*row[1:]) for row in self._connection.execute(POSITIONS, (source,))}

    def oldest(self) -> int | None:
        """stores.sql.ledger.Filling"""
        row = self._connection.execute(statements.OLDEST).fetchone()
        return None if row is None or row[0] is None else int(row[0])

    def prune(self, month: int, first_us: int, last_us: int) -> None:
        """stores.sql.ledger.Filling"""
        self._connection.execute(PRUNED, (first_us, last_us, month))
        self._connection.execute(PRUNED_UNTIL, (last_us,))

    def pruned_until(self) -> int | None:
        """stores.sql.ledger.Filling"""
        row = self._connection.execute(statements.PRUNED_UNTIL).fetchone()
        return None if row is None else int(row[0])

    @contextmanager
    def _told(self) -> Iterator[None]:
        """The kind of the failure alone: the driver's text may quote the address."""
        try:
            yield
        except (psycopg.Error, OSError) as cause:
            reason = type(cause).__name__
            raise LedgerUnavailable(f"the database {self._address.shown} cannot be used: {reason}") from cause
