"""The ledger's writing side: records, their sums and the journal's position in one transaction, each record once.

Every call passes here, on the machine that serves: so rows are tuples, statements are text, and SQLAlchemy is met only
where there is something to migrate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Final, Protocol

from modelport.core.usage import UsageRecord
from modelport.core.usage_reports import LedgerUnavailable
from modelport.stores.shipping.tail import Position
from modelport.stores.sql.address import DatabaseAddress
from modelport.stores.sql.columns import POSITION_COLUMNS, REVISIONS, SERIES_COLUMNS
from modelport.stores.sql.rows import (
    HOUR_US,
    Key,
    Row,
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

REMEMBERED_SERIES: Final = 50_000

SeriesKey = tuple[str | None, ...]
"""What makes a series, as the record has it."""


class Filling(Protocol):
    """A connection that writes. What the database refuses, the transaction around it raises as LedgerUnavailable."""

    def version(self) -> str | None:
        """The last migration that was run; None for a database without tables."""
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """All that is done within it, or nothing."""
        ...

    def keep(self, rows: Sequence[Row]) -> bool:
        """Writes these records. False: some of them are there already, and none was written."""
        ...

    def known(self, times: Sequence[int]) -> set[Key]:
        """The records that started at one of these moments."""
        ...

    def number(self, series: Sequence[tuple[str | None, ...]]) -> dict[str, int]:
        """The numbers of these series by their fingerprints, which lead the rows; new ones are made."""
        ...

    def add(self, bucket: str, rows: Sequence[tuple[int, ...]]) -> None:
        """Adds to roll-ups."""
        ...

    def remember(self, source: str, writer: str, position: tuple[int | str, ...]) -> None:
        """How far a journal is shipped."""
        ...

    def positions(self, source: str) -> dict[str, Position]:
        """How far each journal of this source is shipped."""
        ...

    def close(self) -> None:
        """Ends the connection."""
        ...


class SqlLedger:
    """One writer's view of the database. Not for several threads. Raises LedgerUnavailable, everywhere."""

    def __init__(self, address: DatabaseAddress, *, upgrade: Callable[[DatabaseAddress], None] | None = None) -> None:
        """`upgrade` makes or migrates the database where that is due; None: here."""
        self._filling = opened(address, upgrade or upgraded)
        self._series: dict[SeriesKey, int] = {}

    def close(self) -> None:
        """Ends its connection."""
        self._filling.close()

    def __enter__(self) -> SqlLedger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def positions(self, source: str) -> dict[str, Position]:
        """How far each writer's journal of this source is shipped."""
        with self._filling.transaction():
            return self._filling.positions(source)

    def take(
        self, records: Sequence[UsageRecord], source: str = "", writer: str = "", position: Position | None = None
    ) -> int:
        """Keeps what it has not yet, and remembers the position. How many records were new."""
        learned: dict[SeriesKey, int] = {}
        with self._filling.transaction():
            rows = self._kept(self._rows(records, learned))
            self._add_up(rows)
            if position is not None:
                self._remember(source, writer, position)
        self._series.update(learned)  # only now is it sure that they exist
        if len(self._series) > REMEMBERED_SERIES:
            self._series.clear()
        return len(rows)

    def missing(self, records: Sequence[UsageRecord]) -> list[UsageRecord]:
        """Those that are not here."""
        by_key = {key_of(record): record for record in records}
        with self._filling.transaction():
            known = self._filling.known(times_of(by_key))
        return [record for key, record in by_key.items() if key not in known]

    # --- steps of one transaction -------------------------------------------------------------------------------------

    def _rows(self, records: Sequence[UsageRecord], learned: dict[SeriesKey, int]) -> list[Row]:
        keys = list(map(series_key, records))
        unknown = {key: record for key, record in zip(keys, records, strict=True) if key not in self._series}
        if unknown:
            self._learn(unknown, learned)
            numbers = {**self._series, **learned}
        else:
            numbers = self._series
        return [row_of(record, numbers[key]) for key, record in zip(keys, records, strict=True)]

    def _learn(self, unknown: dict[SeriesKey, UsageRecord], learned: dict[SeriesKey, int]) -> None:
        """Numbers the series that are not numbered yet."""
        series = {key: series_of(record) for key, record in unknown.items()}
        names = {key: fingerprint(one) for key, one in series.items()}
        rows = {names[key]: (names[key], *(one[column] for column in SERIES_COLUMNS)) for key, one in series.items()}
        numbers = self._filling.number([rows[name] for name in sorted(rows)])
        learned.update((key, numbers[name]) for key, name in names.items())

    def _kept(self, rows: list[Row]) -> list[Row]:
        """Writes those that are not there, which are all, unless a database was restored or a journal came twice: so
        that is only looked at once the database has refused them."""
        if not rows or self._filling.keep(rows):
            return rows
        by_key = {(row[0], row[1]): row for row in reversed(rows)}
        known = self._filling.known(times_of(by_key))
        new = [row for key, row in by_key.items() if key not in known]
        if new and not self._filling.keep(new):
            raise LedgerUnavailable("somebody else writes the same records")
        return new

    def _add_up(self, rows: Sequence[Row]) -> None:
        if not rows:
            return
        hours = summed(rows, HOUR_US)
        days = in_larger(hours, day_of)
        months = in_larger(days, month_of)
        for bucket, sums in (("hour", hours), ("day", days), ("month", months)):
            self._filling.add(bucket, roll_up_rows(sums))

    def _remember(self, source: str, writer: str, position: Position) -> None:
        self._filling.remember(source, writer, tuple(getattr(position, name) for name in POSITION_COLUMNS))


def opened(address: DatabaseAddress, upgrade: Callable[[DatabaseAddress], None]) -> Filling:
    """Made where it is not there, and upgraded. A database of a later version is left alone: it still serves this one.
    Raises LedgerUnavailable."""
    filling = connected(address)
    try:
        version = filling.version()
    except BaseException:
        filling.close()
        raise
    if version is not None and version not in REVISIONS[:-1]:
        return filling
    filling.close()
    upgrade(address)
    return connected(address)


def upgraded(address: DatabaseAddress) -> None:
    """Made or migrated, by this process. Raises LedgerUnavailable."""
    from modelport.stores.sql.database import open_for_writing

    open_for_writing(address).dispose()


def connected(address: DatabaseAddress) -> Filling:
    """As it is. Raises LedgerUnavailable."""
    if address.path is not None:
        from modelport.stores.sql.sqlite_filling import SqliteFilling

        return SqliteFilling(address.path)
    from modelport.stores.sql.postgresql_filling import PostgresqlFilling

    return PostgresqlFilling(address)


def series_key(record: UsageRecord) -> SeriesKey:
    """Known again without a fingerprint."""
    return (
        record.principal,
        record.key_id,
        record.project,
        record.deployment,
        record.target,
        record.answered_model,
        record.provider,
        record.surface,
        record.operation,
        record.currency,
    )


def times_of(keys: Iterable[Key]) -> list[int]:
    """The moments, each once."""
    return sorted({key[0] for key in keys})
