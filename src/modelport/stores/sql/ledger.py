"""The ledger's writing side: records, their sums and the journal's position in one transaction, each record once.

Every call passes here, on the machine that serves: so records are handled by the thousand, statements are text, and
SQLAlchemy is met only where there is something to migrate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Final, Protocol

from modelport.core.usage import UsageRecord
from modelport.core.usage_reports import DAY_SECONDS, LedgerUnavailable
from modelport.stores.shipping.tail import Position
from modelport.stores.sql.address import DatabaseAddress
from modelport.stores.sql.batches import Batch, Column, SeriesKey, rows_of, summed, transposed
from modelport.stores.sql.columns import POSITION_COLUMNS, REVISIONS, SERIES_COLUMNS
from modelport.stores.sql.rows import (
    HOUR_US,
    Key,
    day_of,
    fingerprint,
    in_larger,
    key_of,
    month_of,
    roll_up_rows,
    series_of,
)

REMEMBERED_SERIES: Final = 50_000
DAY_US: Final = DAY_SECONDS * 1_000_000


class Filling(Protocol):
    """A connection that writes. What the database refuses, the transaction around it raises as LedgerUnavailable."""

    def version(self) -> str | None:
        """The last migration that was run; None for a database without tables."""
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """All that is done within it, or nothing."""
        ...

    def keep(self, columns: Sequence[Column]) -> bool:
        """Writes these records, at least one, by RECORD_COLUMNS. False: some are there, and none was written."""
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

    def oldest(self) -> int | None:
        """When the first record started."""
        ...

    def prune(self, month: int, first_us: int, last_us: int) -> None:
        """Removes the records of a span within a month, and keeps their sums."""
        ...

    def pruned_until(self) -> int | None:
        """Records that started before were removed; None: none was."""
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
            kept = self._kept(self._columns(records, learned)) if records else []
            if kept:
                self._add_up(kept)
            if position is not None:
                self._remember(source, writer, position)
        self._series.update(learned)  # only now is it sure that they exist
        if len(self._series) > REMEMBERED_SERIES:
            self._series.clear()
        return len(kept[0]) if kept else 0

    def missing(self, records: Sequence[UsageRecord]) -> list[UsageRecord]:
        """Those that are not here, and never were."""
        by_key = {key_of(record): record for record in records}
        with self._filling.transaction():
            until = self._filling.pruned_until() or 0
            known = self._filling.known(times_of(by_key))
        return [record for key, record in by_key.items() if key not in known and key[0] >= until]

    def prune(self, before: float) -> bool:
        """Removes the single calls of the oldest day of UTC, if it ended before this moment (unix seconds). Their sums
        stay. False: there was none."""
        with self._filling.transaction():
            oldest = self._filling.oldest()
            if oldest is None:
                return False
            day = oldest // DAY_US
            if (day + 1) * DAY_SECONDS > before:
                return False
            self._filling.prune(month_of(day), day * DAY_US, (day + 1) * DAY_US)
        return True

    # --- steps of one transaction -------------------------------------------------------------------------------------

    def _columns(self, records: Sequence[UsageRecord], learned: dict[SeriesKey, int]) -> list[Column]:
        batch = Batch(records)
        numbers = list(map(self._series.get, batch.series_keys))
        if None in numbers:
            unknown = {key: one for key, one in batch.first_of_each_series().items() if key not in self._series}
            self._learn(unknown, learned)
            known = {**self._series, **learned}
            return batch.columns([known[key] for key in batch.series_keys])
        return batch.columns(numbers)

    def _learn(self, unknown: dict[SeriesKey, UsageRecord], learned: dict[SeriesKey, int]) -> None:
        """Numbers the series that are not numbered yet."""
        series = {key: series_of(record) for key, record in unknown.items()}
        names = {key: fingerprint(one) for key, one in series.items()}
        rows = {names[key]: (names[key], *(one[column] for column in SERIES_COLUMNS)) for key, one in series.items()}
        numbers = self._filling.number([rows[name] for name in sorted(rows)])
        learned.update((key, numbers[name]) for key, name in names.items())

    def _kept(self, columns: list[Column]) -> list[Column]:
        """Writes those that are not there, which are all, unless a database was restored or a journal came twice: so
        that is only looked at once the database has refused them. What was written; empty: nothing."""
        if self._filling.keep(columns):
            return columns
        by_key = {(row[0], row[1]): row for row in reversed(rows_of(columns))}
        known = self._filling.known(times_of(by_key))
        new = transposed(row for key, row in by_key.items() if key not in known)
        if new and not self._filling.keep(new):
            raise LedgerUnavailable("somebody else writes the same records")
        return [*new]

    def _add_up(self, columns: Sequence[Column]) -> None:
        hours = summed(columns, HOUR_US)
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


def times_of(keys: Iterable[Key]) -> list[int]:
    """The moments, each once."""
    return sorted({key[0] for key in keys})
