"""Does it balance: every journal whole, every call that was shipped in the ledger once and as it was, every roll-up the
sum of its records. Changes nothing, and may run beside a server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import BigInteger, ColumnElement, Connection, Select, Table, case, func, literal_column, select

from modelport.core.usage import Pricing, UsageRecord
from modelport.stores.journal import Verification, verify
from modelport.stores.journal.files import files_of, number_of, writers_in
from modelport.stores.journal.lines import DamagedLine, decode_record
from modelport.stores.journal.reading import parts_of
from modelport.stores.journal.writes import Damage
from modelport.stores.shipping.tail import Position, stands
from modelport.stores.sql.address import DatabaseAddress
from modelport.stores.sql.columns import SERIES_COLUMNS
from modelport.stores.sql.database import open_for_reading, told
from modelport.stores.sql.reports import exists, positions_of
from modelport.stores.sql.rows import (
    HOUR_US,
    Key,
    added_up,
    day_of,
    key_of,
    month_of,
    named_row,
    series_of,
)
from modelport.stores.sql.schema import (
    COST_COLUMNS,
    DAYS,
    HOURS,
    MONTHS,
    PRUNED,
    PRUNED_UNTIL,
    RECORDS,
    SERIES,
    SUM_COLUMNS,
    TOKEN_COLUMNS,
)

RECORDS_AT_ONCE: Final = 500
MOST_TOLD: Final = 20
"""Of one kind of fault."""

Sums = tuple[int, ...]
Summed = tuple[tuple[int, int], Sums]


class Audit(Struct, frozen=True):
    """What was found."""

    journal: Verification
    ledger_calls: int
    ledger_tokens: int
    checked_calls: int
    """Calls of the journal that were looked up in the ledger."""
    waiting_calls: int
    """Calls of the journal that are not shipped yet."""
    faults: tuple[str, ...]
    """Of the ledger; the journal's own are in `journal`."""
    pruned_calls: int = 0
    """Of the ledger's calls: those of which only the sums are left."""

    @property
    def balances(self) -> bool:
        """Nothing is wrong anywhere."""
        return not self.faults and not self.journal.faults


def audit(address: DatabaseAddress, directory: Path, source: str | None) -> Audit:
    """`source`: what the journals in this directory are called in the ledger; None: nothing was ever shipped.
    Raises LedgerUnavailable, OSError."""
    journal = verify(directory) if directory.is_dir() else Verification(0, 0, 0, 0, ())
    if address.path is not None and not address.path.exists():
        return Audit(journal, 0, 0, 0, journal.calls, ())
    engine = open_for_reading(address)
    try:
        with told(address), engine.begin() as connection:
            if not exists(connection):
                return Audit(journal, 0, 0, 0, journal.calls, ())
            positions = positions_of(connection, source) if source is not None else {}
            until_us = connection.execute(select(PRUNED_UNTIL.c.before_us)).scalar() or 0
            shipping = Shipped(connection, directory, positions, until_us)
            faults = [
                *first(shipping.faults()),
                *first(doubled(connection)),
                *first(disagreements(connection, until_us)),
            ]
            calls, tokens = totals(connection)
            pruned = int(connection.execute(select(func.coalesce(func.sum(PRUNED.c.calls), 0))).scalar_one())
    finally:
        engine.dispose()
    return Audit(journal, calls, tokens, shipping.checked, shipping.waiting, tuple(faults), pruned)


# --- the journal against the ledger -----------------------------------------------------------------------------------


class Shipped:
    """Looks up what the ledger says that it has."""

    def __init__(
        self, connection: Connection, directory: Path, positions: Mapping[str, Position], until_us: int
    ) -> None:
        """Calls that started before `until_us` may have been removed."""
        self._connection = connection
        self._until_us = until_us
        self._directory = directory
        self._positions = positions
        self.checked = 0
        self.waiting = 0

    def faults(self) -> Iterator[str]:
        """Calls that are missing or other than they were."""
        for writer in writers_in(self._directory):
            position = self._positions.get(writer)
            if position is not None and not stands(self._directory, writer, position):
                yield f"the journal {writer!r} is not the one that the ledger was filled from"
                position = None
            records = self._closed(writer, position)
            while batch := list(islice(records, RECORDS_AT_ONCE)):
                self.checked += len(batch)
                yield from self._compared(batch)

    def _closed(self, writer: str, position: Position | None) -> Iterator[UsageRecord]:
        """Final records up to the position; counts those after it."""
        for path in files_of(self._directory, writer):
            with suppress(FileNotFoundError):  # removed meanwhile: it was in the ledger
                for part in parts_of(path):
                    if isinstance(part, Damage):
                        continue  # told by `verify`
                    if position is None or (number_of(path), part.offset_bytes) > (
                        position.number,
                        position.offset_bytes,
                    ):
                        self.waiting += len(part.closings())
                        continue
                    for record in part.closings():
                        with suppress(DamagedLine):
                            yield decode_record(record)

    def _compared(self, records: Sequence[UsageRecord]) -> Iterator[str]:
        found: dict[Key, Mapping[str, Any]] = {}
        times = sorted({key_of(record)[0] for record in records})
        columns = [column for column in SERIES.c if column.name in SERIES_COLUMNS]
        rows = select(RECORDS, *columns).join(SERIES).where(RECORDS.c.started_us.in_(times))
        for row in self._connection.execute(rows).mappings():
            found[row["started_us"], row["id"]] = dict(row)
        for record in records:
            row_found = found.get(key_of(record))
            if row_found is None:
                if key_of(record)[0] < self._until_us:
                    self.checked -= 1
                    continue
                yield f"call {record.id}: it is in the journal and not in the ledger"
                continue
            expected = {**named_row(record, row_found["series_id"]), **series_of(record)}
            other = sorted(name for name, value in expected.items() if row_found[name] != value)
            if other:
                yield f"call {record.id}: the ledger has another {', '.join(other)} than the journal"


# --- the ledger against itself ----------------------------------------------------------------------------------------


def doubled(connection: Connection) -> Iterator[str]:
    """Ids that are there twice, at different times."""
    statement = select(RECORDS.c.id).group_by(RECORDS.c.id).having(func.count() > 1).limit(MOST_TOLD + 1)
    for id in connection.execute(statement).scalars():
        yield f"call {id}: it is in the ledger more than once"


def disagreements(connection: Connection, until_us: int) -> Iterator[str]:
    """Roll-ups that are not the sums of what they roll up. Of calls before `until_us` only their sums are left."""
    hour = until_us // HOUR_US
    kept = kept_sums(connection, HOURS, "hour", HOURS.c.hour >= hour)
    yield from differences("hour", raw_sums(connection, RECORDS.c.started_us >= until_us), kept)
    if until_us:
        before = added_up(
            [
                *((place, list(sums)) for place, sums in kept_sums(connection, PRUNED, "month")),
                *in_months(raw_sums(connection, RECORDS.c.started_us < until_us)),
            ]
        )
        kept_before = added_up(in_months(kept_sums(connection, HOURS, "hour", HOURS.c.hour < hour)))
        yield from differences("month of removed calls", in_order(before), in_order(kept_before))
    days = larger(kept_sums(connection, HOURS, "hour"), day_of)
    yield from differences("day", days, kept_sums(connection, DAYS, "day"))
    months = larger(kept_sums(connection, DAYS, "day"), month_of)
    yield from differences("month", months, kept_sums(connection, MONTHS, "month"))


def in_months(hours: Iterator[Summed]) -> Iterator[tuple[tuple[int, int], list[int]]]:
    """Sums of hours, each at its month."""
    return (((month_of(day_of(hour)), series), list(sums)) for (hour, series), sums in hours)


def in_order(sums: Mapping[tuple[int, int], list[int]]) -> Iterator[Summed]:
    """As `differences` wants them."""
    return ((place, tuple(sums[place])) for place in sorted(sums))


def raw_sums(connection: Connection, wanted: ColumnElement[bool]) -> Iterator[Summed]:
    """What the hours should say, from these records."""
    bucket = (RECORDS.c.started_us // literal_column(str(HOUR_US), BigInteger)).label("bucket")
    return streamed(
        connection,
        select(
            bucket,
            RECORDS.c.series_id,
            func.count(),
            func.sum(case((RECORDS.c.cost_units.is_(None), 1), else_=0)),
            func.sum(case((RECORDS.c.pricing == Pricing.ESTIMATED.value, 1), else_=0)),
            *(func.sum(RECORDS.c[name]) for name in TOKEN_COLUMNS),
            *(func.coalesce(func.sum(RECORDS.c[name]), 0) for name in COST_COLUMNS),
        )
        .where(wanted)
        .group_by(bucket.element, RECORDS.c.series_id)
        .order_by(bucket.element, RECORDS.c.series_id),
    )


def kept_sums(
    connection: Connection, table: Table, bucket: str, wanted: ColumnElement[bool] | None = None
) -> Iterator[Summed]:
    """What they say."""
    columns = [table.c[bucket], table.c.series_id]
    statement = select(*columns, *(table.c[name] for name in SUM_COLUMNS)).order_by(*columns)
    return streamed(connection, statement if wanted is None else statement.where(wanted))


def larger(sums: Iterator[Summed], bucket: Callable[[int], int]) -> Iterator[Summed]:
    """What larger spans should say, from smaller ones that come in order."""
    for _, group in groupby(sums, lambda summed: bucket(summed[0][0])):
        found = added_up(((bucket(place[0]), place[1]), list(added)) for place, added in group)
        yield from ((place, tuple(found[place])) for place in sorted(found))


def streamed(connection: Connection, statement: Select[Any]) -> Iterator[Summed]:
    """Rows as (place, sums), without holding all of them."""
    for row in connection.execution_options(yield_per=1_000).execute(statement):
        yield (int(row[0]), int(row[1])), tuple(int(value) for value in row[2:])


def differences(word: str, raw: Iterator[Summed], kept: Iterator[Summed]) -> Iterator[str]:
    """Where two ordered lists of sums part."""
    one, other = next(raw, None), next(kept, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one[0] < other[0]):
            assert one is not None
            yield f"{word} {one[0][0]}, series {one[0][1]}: there are calls and no roll-up"
            one = next(raw, None)
        elif one is None or other[0] < one[0]:
            yield f"{word} {other[0][0]}, series {other[0][1]}: there is a roll-up and no call"
            other = next(kept, None)
        else:
            wrong = [name for name, a, b in zip(SUM_COLUMNS, one[1], other[1], strict=True) if a != b]
            if wrong:
                yield f"{word} {one[0][0]}, series {one[0][1]}: the roll-up has another {', '.join(wrong)} than calls"
            one, other = next(raw, None), next(kept, None)


def totals(connection: Connection) -> tuple[int, int]:
    """Calls and tokens, from the roll-ups."""
    tokens = [func.coalesce(func.sum(DAYS.c[name]), 0) for name in TOKEN_COLUMNS]
    calls, *counts = connection.execute(select(func.coalesce(func.sum(DAYS.c.calls), 0), *tokens)).one()
    return int(calls), sum(map(int, counts))


def first(faults: Iterable[str]) -> Iterator[str]:
    """As many as somebody reads; the rest is gone through and counted."""
    more = 0
    for number, fault in enumerate(faults):
        if number < MOST_TOLD:
            yield fault
        else:
            more += 1
    if more:
        yield f"… and {more} more of this kind"
