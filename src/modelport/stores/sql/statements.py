"""The statements that fill the ledger, as text: they run for every batch, so nothing builds them anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from modelport.core.usage import Pricing
from modelport.stores.sql.columns import (
    COST_COLUMNS,
    POSITION_COLUMNS,
    RECORD_COLUMNS,
    SERIES_COLUMNS,
    SUM_COLUMNS,
    TOKEN_COLUMNS,
)

ROLL_UPS: Final = {"hour": "usage_hours", "day": "usage_days", "month": "usage_months"}
SERIES_ROW: Final = ("fingerprint", *SERIES_COLUMNS)
POSITION_ROW: Final = ("source", "writer", *POSITION_COLUMNS)


def listed(columns: Sequence[str]) -> str:
    """With commas."""
    return ", ".join(columns)


def insert(table: str, columns: Sequence[str], mark: str) -> str:
    """One row; `mark` is what the driver wants in the place of a value."""
    return f"INSERT INTO {table} ({listed(columns)}) VALUES ({listed([mark] * len(columns))})"  # noqa: S608 - only marks and names of ours


def keep(values: Sequence[str]) -> str:
    """A record's row. Fails where the record is there. `values`: marks, or what all rows have in common."""
    return f"INSERT INTO usage_records ({listed(RECORD_COLUMNS)}) VALUES ({listed(values)})"  # noqa: S608  see `common`


def common(column: Sequence[object]) -> str | None:
    """A whole number or nothing that all rows have: it stands in the statement, and is not bound for each. None: the
    column has to be bound."""
    first = column[0]
    if (first is None or type(first) is int) and column[-1] == first and column.count(first) == len(column):
        return "NULL" if first is None else str(first)
    return None


def number(mark: str) -> str:
    """A series, unless it has its number already."""
    return f"{insert('series', SERIES_ROW, mark)} ON CONFLICT DO NOTHING"


def remember(mark: str) -> str:
    """How far a journal is shipped."""
    changes = listed([f"{name} = excluded.{name}" for name in POSITION_COLUMNS])
    return f"{insert('journal_positions', POSITION_ROW, mark)} ON CONFLICT (source, writer) DO UPDATE SET {changes}"


def positions(mark: str) -> str:
    """How far each journal of a source is shipped."""
    return f"SELECT writer, {listed(POSITION_COLUMNS)} FROM journal_positions WHERE source = {mark}"  # noqa: S608 - only marks and names of ours


PRUNE_SUMS: Final = listed(
    [
        "count(*)",
        "sum(CASE WHEN cost_units IS NULL THEN 1 ELSE 0 END)",
        f"sum(CASE WHEN pricing = '{Pricing.ESTIMATED.value}' THEN 1 ELSE 0 END)",
        *(f"sum({name})" for name in TOKEN_COLUMNS),
        *(f"coalesce(sum({name}), 0)" for name in COST_COLUMNS),
    ]
)
"""In the order of SUM_COLUMNS, of records."""
OLDEST: Final = "SELECT min(started_us) FROM usage_records"
PRUNED_UNTIL: Final = "SELECT before_us FROM pruned_until"


def pruned(mark: str, source: str) -> str:
    """Keeps the sums of the records in `source`, all of one month, which leads the values."""
    changes = listed([f"{name} = pruned_months.{name} + excluded.{name}" for name in SUM_COLUMNS])
    return (
        f"INSERT INTO pruned_months (month, series_id, {listed(SUM_COLUMNS)}) "  # noqa: S608 - only names of ours
        f"SELECT {mark}, series_id, {PRUNE_SUMS} FROM {source} GROUP BY series_id "
        f"ON CONFLICT (month, series_id) DO UPDATE SET {changes}"
    )


def pruned_until(mark: str) -> str:
    """Moves the moment forwards."""
    return (
        f"INSERT INTO pruned_until (id, before_us) VALUES (1, {mark}) ON CONFLICT (id) DO UPDATE SET before_us = "  # noqa: S608 - only marks and names of ours
        "CASE WHEN excluded.before_us > pruned_until.before_us THEN excluded.before_us ELSE pruned_until.before_us END"
    )


def adding(bucket: str, values: Callable[[Sequence[str]], str]) -> str:
    """Sums to those that are there. `values`: from where the rows of these columns come."""
    table, columns = ROLL_UPS[bucket], (bucket, "series_id", *SUM_COLUMNS)
    changes = listed([f"{name} = {table}.{name} + excluded.{name}" for name in SUM_COLUMNS])
    return (
        f"INSERT INTO {table} ({listed(columns)}) {values(columns)} "
        f"ON CONFLICT ({bucket}, series_id) DO UPDATE SET {changes}"
    )
