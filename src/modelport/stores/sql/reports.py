"""The ledger's reading side: answers from roll-ups, and pages of single calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Integer, Table, case, func, literal_column, select, tuple_

from modelport.core.usage import WORKER_HOURS
from modelport.core.usage_reports import (
    DAY_SECONDS,
    HOUR_SECONDS,
    MOST_RECORDS,
    MOST_ROWS,
    LedgerUnavailable,
    RecordsPage,
    RecordsQuestion,
    TooManyRows,
    UsageQuestion,
    UsageQuestionError,
    UsageRow,
)
from modelport.stores.shipping.tail import Position
from modelport.stores.sql.address import DatabaseAddress
from modelport.stores.sql.database import open_for_reading, told, version
from modelport.stores.sql.rows import (
    HOURS_A_DAY,
    MICROSECONDS,
    Sums,
    amount,
    day_of,
    first_day,
    month_of,
    record_of,
    usage_of,
)
from modelport.stores.sql.schema import (
    COST_COLUMNS,
    DAYS,
    HOURS,
    MONTHS,
    POSITIONS,
    RECORDS,
    REVISIONS,
    SERIES,
    SUM_COLUMNS,
    TOKEN_COLUMNS,
)

SERIES_OF: Final = {
    "deployment": SERIES.c.deployment,
    "key": SERIES.c.key_id,
    "principal": SERIES.c.principal,
    "project": SERIES.c.project,
    "model": SERIES.c.model,
    "provider": SERIES.c.provider,
    "surface": SERIES.c.surface,
    "operation": SERIES.c.operation,
}

DAYS_A_PIECE: Final = 7

Group = tuple[Any, ...]
"""The names in the question's order, then the currency."""


class SqlReports:
    """core.usage_reports.Ledger. For any thread."""

    def __init__(self, address: DatabaseAddress) -> None:
        """Connects at the first question. Raises LedgerUnavailable for what can never be connected to."""
        self._address = address
        with told(address):
            self._engine = open_for_reading(address)

    def close(self) -> None:
        """Ends its connections."""
        self._engine.dispose()

    def report(self, question: UsageQuestion) -> list[UsageRow]:
        """core.usage_reports.Ledger"""
        sums: dict[Group, Sums] = {}
        with told(self._address), self._engine.begin() as connection:
            if not exists(connection):
                return []
            is_mixed = has_several_currencies(connection)
            for table, bucket, first, last in spans(question):
                for piece in pieces(connection, question, table, first, last):
                    for group, added in grouped(connection, question, table, bucket, *piece, is_mixed=is_mixed):
                        known = sums.get(group)
                        sums[group] = added if known is None else [a + b for a, b in zip(known, added, strict=True)]
        if len(sums) > MOST_ROWS:
            raise TooManyRows
        found = [row_from(question, group, sums[group]) for group in merged(sums)]
        return sorted(found, key=lambda row: [(value is not None, value or "") for value in order(row)])

    def records(self, question: RecordsQuestion) -> RecordsPage:
        """core.usage_reports.Ledger"""
        limit = max(1, min(MOST_RECORDS, question.limit))
        wanted = [
            *([RECORDS.c.started_us >= question.since * MICROSECONDS] if question.since is not None else []),
            *([RECORDS.c.started_us < question.until * MICROSECONDS] if question.until is not None else []),
            *([tuple_(RECORDS.c.started_us, RECORDS.c.id) < place_of(question.before)] if question.before else []),
            *of_projects(question.projects),
        ]
        statement = (
            select(RECORDS, *(column for column in SERIES.c if column.name not in ("id", "fingerprint")))
            .join(SERIES, RECORDS.c.series_id == SERIES.c.id)
            .where(*wanted)
            .order_by(RECORDS.c.started_us.desc(), RECORDS.c.id.desc())
            .limit(limit + 1)
        )
        with told(self._address), self._engine.begin() as connection:
            rows = connection.execute(statement).mappings().all() if exists(connection) else []
        page = rows[:limit]
        more = len(rows) > limit
        return RecordsPage(
            tuple(record_of(dict(row)) for row in page), f"{page[-1]['started_us']}~{page[-1]['id']}" if more else None
        )

    def positions(self, source: str) -> dict[str, Position]:
        """How far each writer's journal of this source is shipped."""
        with told(self._address), self._engine.begin() as connection:
            return positions_of(connection, source) if exists(connection) else {}


def positions_of(connection: Connection, source: str) -> dict[str, Position]:
    """How far each writer's journal of this source is shipped."""
    rows = connection.execute(select(POSITIONS).where(POSITIONS.c.source == source))
    return {
        row.writer: Position(row.number, row.offset_bytes, row.line_bytes, row.digest, row.sequence) for row in rows
    }


def exists(connection: Connection) -> bool:
    """Whether anything was ever written. Raises LedgerUnavailable where only an earlier version has."""
    found = version(connection)
    if found in REVISIONS[:-1]:
        raise LedgerUnavailable("the ledger is of an earlier version; `modelport serve` brings it up to date")
    return found is not None


def place_of(text: str) -> tuple[int, str]:
    """The `before` of a page. Raises UsageQuestionError."""
    started_us, separator, id = text.partition("~")
    if not separator or not started_us.lstrip("-").isdigit() or len(started_us) > 18:
        raise UsageQuestionError("`before` is not a place that a page has named")
    return int(started_us), id


def spans(question: UsageQuestion) -> Iterator[tuple[Table, str, int | None, int | None]]:
    """Which roll-ups, from which bucket to which: whole months by month, the days at both ends by day, the hours at
    theirs by hour. A report by day reads no months."""
    first = None if question.since is None else question.since // HOUR_SECONDS
    last = None if question.until is None else -(-question.until // HOUR_SECONDS)
    hours, days = split(first, last, day_of, lambda day: day * HOURS_A_DAY)
    for span in hours:
        yield HOURS, "hour", *span
    if days is None:
        return
    if "day" in question.by:
        yield DAYS, "day", *days
        return
    ends, months = split(*days, month_of, first_day)
    for span in ends:
        yield DAYS, "day", *span
    if months is not None:
        yield MONTHS, "month", *months


Span = tuple[int | None, int | None]


def split(
    first: int | None, last: int | None, within: Callable[[int], int], begin: Callable[[int], int]
) -> tuple[list[Span], Span | None]:
    """A span of buckets as one of larger buckets, and what is left of it at its ends. `within`: the larger bucket of
    one; `begin`: the first one of a larger bucket."""
    larger_first = None if first is None else within(first)
    if first is not None and larger_first is not None and begin(larger_first) < first:
        larger_first += 1
    larger_last = None if last is None else within(last)
    if larger_first is not None and larger_last is not None and larger_first > larger_last:
        return [(first, last)], None
    ends: list[Span] = []
    if first is not None and larger_first is not None and first < begin(larger_first):
        ends.append((first, begin(larger_first)))
    if last is not None and larger_last is not None and begin(larger_last) < last:
        ends.append((begin(larger_last), last))
    return ends, (larger_first, larger_last)


def pieces(
    connection: Connection, question: UsageQuestion, table: Table, first: int | None, last: int | None
) -> Iterator[Span]:
    """A long report by day, week by week: SQLite sorts what it groups, and on the disk what its cache does not hold."""
    is_sorted = question.by == ("day",)  # as they are kept
    if table is not DAYS or "day" not in question.by or is_sorted or connection.dialect.name != "sqlite":
        yield first, last
        return
    earliest, latest = (connection.execute(select(edge(DAYS.c.day))).scalar() for edge in (func.min, func.max))
    if earliest is None or latest is None:
        return
    begin = earliest if first is None else max(first, earliest)
    end = latest + 1 if last is None else min(last, latest + 1)
    for day in range(begin, end, DAYS_A_PIECE):
        yield day, min(day + DAYS_A_PIECE, end)


def has_several_currencies(connection: Connection) -> bool:
    """Whether anybody was ever charged in more than one."""
    return int(connection.execute(select(func.count(SERIES.c.currency.distinct()))).scalar_one()) > 1


def grouped(
    connection: Connection,
    question: UsageQuestion,
    table: Table,
    bucket: str,
    first: int | None,
    last: int | None,
    *,
    is_mixed: bool,
) -> Iterator[tuple[Group, Sums]]:
    """Sums of one roll-up, by group, and behind them how many of the records are no calls."""
    time = table.c[bucket]
    # A number that stands in the statement: the same parameter twice is not the same expression to PostgreSQL.
    day = time if bucket == "day" else time // literal_column(str(HOURS_A_DAY), Integer)
    names: list[ColumnElement[Any]] = [day if name == "day" else SERIES_OF[name] for name in question.by]
    groups = [column.label(f"group_{number}") for number, column in enumerate(names)]
    if is_mixed or not groups:
        groups.append(SERIES.c.currency.label("currency"))
        selected = groups
    else:  # it divides nothing, and without it sums by day need no sorting: they are kept in that order
        selected = [*groups, func.max(SERIES.c.currency).label("currency")]
    limits = [
        *([time >= first] if first is not None else []),
        *([time < last] if last is not None else []),
        *of_projects(question.projects),
    ]
    no_calls = case((SERIES.c.operation == WORKER_HOURS, table.c.calls), else_=0)
    statement = (
        select(*selected, *(func.sum(table.c[name]) for name in SUM_COLUMNS), func.sum(no_calls))
        .join(SERIES, table.c.series_id == SERIES.c.id)
        .where(*limits)
        .group_by(*[column.element for column in groups])
        .limit(2 * MOST_ROWS)
    )
    for row in connection.execute(statement):
        yield tuple(row[: len(selected)]), [int(value) for value in row[len(selected) :]]


def of_projects(projects: Sequence[str] | None) -> list[ColumnElement[bool]]:
    """The condition on a series; none where every project may be read."""
    return [] if projects is None else [SERIES.c.project.in_(projects)]


def merged(sums: dict[Group, Sums]) -> list[Group]:
    """Calls without a currency, because they cost nothing or nobody knows, join the group's only currency."""
    by_names: dict[Group, list[Group]] = {}
    for group in sums:
        by_names.setdefault(group[:-1], []).append(group)
    for groups in by_names.values():
        if len(groups) == 2 and None in (groups[0][-1], groups[1][-1]):
            bare, other = sorted(groups, key=lambda group: group[-1] is not None)
            sums[other] = [a + b for a, b in zip(sums[other], sums.pop(bare), strict=True)]
    return list(sums)


def row_from(question: UsageQuestion, group: Group, sums: Sums) -> UsageRow:
    """The answer's row."""
    named = dict(zip(question.by, group[:-1], strict=True))
    found = dict(zip((*SUM_COLUMNS, "no_calls"), sums, strict=True))
    cost = amount([found[name] for name in COST_COLUMNS])
    is_known = bool(cost) or not found["unpriced_calls"]  # what is free beside what is unknown makes it no zero
    return UsageRow(
        names={name: day_text(value) if name == "day" else value for name, value in named.items()},
        calls=found["calls"] - found["no_calls"],
        unpriced_calls=found["unpriced_calls"],
        estimated_calls=found["estimated_calls"],
        tokens=usage_of([found[name] for name in TOKEN_COLUMNS]),
        cost=cost if is_known else None,
        currency=group[-1] if is_known else None,
    )


def day_text(day: int) -> str:
    """2026-11-21"""
    return datetime.fromtimestamp(int(day) * DAY_SECONDS, UTC).date().isoformat()


def order(row: UsageRow) -> list[str | None]:
    """What rows are sorted by."""
    return [*row.names.values(), row.currency]
