"""The statements that fill the ledger, as text: they run for every batch, so nothing builds them anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from modelport.stores.sql.columns import POSITION_COLUMNS, RECORD_COLUMNS, SERIES_COLUMNS, SUM_COLUMNS

ROLL_UPS: Final = {"hour": "usage_hours", "day": "usage_days", "month": "usage_months"}
SERIES_ROW: Final = ("fingerprint", *SERIES_COLUMNS)
POSITION_ROW: Final = ("source", "writer", *POSITION_COLUMNS)


def listed(columns: Sequence[str]) -> str:
    """With commas."""
    return ", ".join(columns)


def insert(table: str, columns: Sequence[str], mark: str) -> str:
    """One row; `mark` is what the driver wants in the place of a value."""
    return f"INSERT INTO {table} ({listed(columns)}) VALUES ({listed([mark] * len(columns))})"  # noqa: S608 - only marks and names of ours


def keep(mark: str) -> str:
    """A record's row. Fails where the record is there."""
    return insert("usage_records", RECORD_COLUMNS, mark)


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


def adding(bucket: str, values: Callable[[Sequence[str]], str]) -> str:
    """Sums to those that are there. `values`: from where the rows of these columns come."""
    table, columns = ROLL_UPS[bucket], (bucket, "series_id", *SUM_COLUMNS)
    changes = listed([f"{name} = {table}.{name} + excluded.{name}" for name in SUM_COLUMNS])
    return (
        f"INSERT INTO {table} ({listed(columns)}) {values(columns)} "
        f"ON CONFLICT ({bucket}, series_id) DO UPDATE SET {changes}"
    )
