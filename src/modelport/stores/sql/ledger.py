"""The ledger's writing side: records, their sums and the journal's position in one transaction, each record once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Final

from sqlalchemy import Connection, Table, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from modelport.core.usage import UsageRecord
from modelport.stores.shipping.tail import Position
from modelport.stores.sql.address import DatabaseAddress
from modelport.stores.sql.database import open_for_writing, told
from modelport.stores.sql.reports import positions_of
from modelport.stores.sql.rows import (
    HOUR_US,
    Key,
    day_of,
    fingerprint,
    in_larger,
    key_of,
    month_of,
    roll_up_rows,
    row_of,
    series_of,
    summed,
)
from modelport.stores.sql.schema import DAYS, HOURS, MONTHS, POSITIONS, RECORDS, SERIES, SUM_COLUMNS

ROWS_A_STATEMENT: Final = 1_000
REMEMBERED_SERIES: Final = 50_000


class SqlLedger:
    """One writer's view of the database. Not for several threads. Raises LedgerUnavailable, everywhere."""

    def __init__(self, address: DatabaseAddress) -> None:
        self._address = address
        self._engine = open_for_writing(address)
        self._series: dict[str, int] = {}

    def close(self) -> None:
        """Ends its connections."""
        self._engine.dispose()

    def __enter__(self) -> SqlLedger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def positions(self, source: str) -> dict[str, Position]:
        """How far each writer's journal of this source is shipped."""
        with told(self._address), self._engine.begin() as connection:
            return positions_of(connection, source)

    def take(
        self, records: Sequence[UsageRecord], source: str = "", writer: str = "", position: Position | None = None
    ) -> int:
        """Keeps what it has not yet, and remembers the position. How many records were new."""
        learned: dict[str, int] = {}
        with told(self._address), self._engine.begin() as connection:
            new = self._unknown(connection, records)
            if new:
                self._insert(connection, new, learned)
            if position is not None:
                self._remember(connection, source, writer, position)
        self._series.update(learned)  # only now is it sure that they exist
        if len(self._series) > REMEMBERED_SERIES:
            self._series.clear()
        return len(new)

    def missing(self, records: Sequence[UsageRecord]) -> list[UsageRecord]:
        """Those that are not here."""
        with told(self._address), self._engine.begin() as connection:
            return self._unknown(connection, records)

    # --- steps of one transaction -------------------------------------------------------------------------------------

    def _unknown(self, connection: Connection, records: Sequence[UsageRecord]) -> list[UsageRecord]:
        by_key: dict[Key, UsageRecord] = {}
        for record in records:
            by_key.setdefault(key_of(record), record)
        times = sorted({key[0] for key in by_key})
        for chunk in chunks(times, ROWS_A_STATEMENT):
            found = select(RECORDS.c.started_us, RECORDS.c.id).where(RECORDS.c.started_us.in_(chunk))
            for started_us, id in connection.execute(found):
                by_key.pop((started_us, id), None)
        return list(by_key.values())

    def _insert(self, connection: Connection, records: Sequence[UsageRecord], learned: dict[str, int]) -> None:
        series = [series_of(record) for record in records]
        names = [fingerprint(one) for one in series]
        self._learn(connection, dict(zip(names, series, strict=True)), learned)
        known = {**self._series, **learned} if learned else self._series
        rows = [row_of(record, known[name]) for record, name in zip(records, names, strict=True)]
        connection.execute(insert(RECORDS), rows)
        hours = summed(rows, HOUR_US)
        days = in_larger(hours, day_of)
        months = in_larger(days, month_of)
        for table, bucket, sums in ((HOURS, "hour", hours), (DAYS, "day", days), (MONTHS, "month", months)):
            connection.execute(adding(connection, table, bucket), roll_up_rows(sums, bucket))

    def _learn(self, connection: Connection, series: dict[str, dict[str, Any]], learned: dict[str, int]) -> None:
        """Numbers the series that are not numbered yet."""
        unknown = sorted(name for name in series if name not in self._series)
        for chunk in chunks(unknown, ROWS_A_STATEMENT):
            rows = [{"fingerprint": name, **series[name]} for name in chunk]
            connection.execute(upsert(connection, SERIES).on_conflict_do_nothing(), rows)
            found = select(SERIES.c.fingerprint, SERIES.c.id).where(SERIES.c.fingerprint.in_(chunk))
            learned.update((name, number) for name, number in connection.execute(found))

    def _remember(self, connection: Connection, source: str, writer: str, position: Position) -> None:
        values = {name: getattr(position, name) for name in Position.__struct_fields__}
        statement = upsert(connection, POSITIONS).on_conflict_do_update(
            index_elements=["source", "writer"], set_=values
        )
        connection.execute(statement, {"source": source, "writer": writer, **values})


def upsert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An insert that can say what happens to rows that are there."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def adding(connection: Connection, table: Table, bucket: str) -> sqlite.Insert | postgresql.Insert:
    """An insert of sums that adds to those that are there."""
    statement = upsert(connection, table)
    sums = {name: table.c[name] + statement.excluded[name] for name in SUM_COLUMNS}
    return statement.on_conflict_do_update(index_elements=[bucket, "series_id"], set_=sums)


def chunks(values: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Pieces that one statement takes."""
    for start in range(0, len(values), size):
        yield values[start : start + size]
