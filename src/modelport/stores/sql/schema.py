"""The tables. What changes here comes with a migration of the same change (`migrations/versions`).

Times are whole microseconds and hours of unix time. Costs are four whole numbers (units of the currency, billionths of
it, billionths of those, and once more), so that any database adds them up exactly; SQLite has no decimal type.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Double, ForeignKey, Integer, MetaData, Table, Text
from sqlalchemy import Identity as Numbered

from modelport.stores.sql.columns import COST_COLUMNS, REVISIONS, SUM_COLUMNS, TOKEN_COLUMNS

__all__ = [
    "CONTROL_AUDIT",
    "CONTROL_CLAIMS",
    "CONTROL_KEY_USES",
    "CONTROL_OBJECTS",
    "CONTROL_STATE",
    "COST_COLUMNS",
    "DAYS",
    "HOURS",
    "METADATA",
    "MONTHS",
    "POSITIONS",
    "PRUNED",
    "PRUNED_UNTIL",
    "RECORDS",
    "REVISIONS",
    "SERIES",
    "SUM_COLUMNS",
    "TOKEN_COLUMNS",
]

METADATA: Final = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
    }
)

SERIES: Final = Table(
    "series",
    METADATA,
    Column("id", Integer, Numbered(), primary_key=True),
    Column("fingerprint", Text, nullable=False, unique=True),
    Column("principal", Text, nullable=False),
    Column("key_id", Text),
    Column("project", Text),
    Column("deployment", Text),
    Column("model", Text),
    Column("target", Text),
    Column("answered_model", Text),
    Column("provider", Text),
    Column("surface", Text, nullable=False),
    Column("operation", Text, nullable=False),
    Column("currency", Text),
)
"""What calls have in common and reports divide by; each combination once. Nothing in it is a caller's free text."""

RECORDS: Final = Table(
    "usage_records",
    METADATA,
    Column("started_us", BigInteger, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("series_id", Integer, ForeignKey("series.id"), nullable=False),
    Column("streamed", Boolean, nullable=False),
    Column("requested_model", Text),
    Column("spilled_from", Text),
    Column("status", Integer, nullable=False),
    Column("ending", Text, nullable=False),
    Column("error_code", Text),
    Column("usage_source", Text, nullable=False),
    *(Column(name, BigInteger, nullable=False) for name in TOKEN_COLUMNS),
    Column("reserved_tokens", BigInteger, nullable=False),
    Column("first_event_seconds", Double),
    Column("duration_seconds", Double, nullable=False),
    Column("client_request_id", Text),
    Column("snapshot", Text),
    Column("pricing", Text, nullable=False),
    Column("price_version", Text),
    Column("service_tier", Text),
    Column("content_filter", Text),
    *(Column(name, BigInteger) for name in COST_COLUMNS),
)
"""One row for each call. The time leads the key, so that rows are appended to it and pages are read along it; a call's
records all have its time, so the pair is as unique as the id."""


def roll_up(name: str, bucket: str) -> Table:
    """Sums of a span of time, by series."""
    return Table(
        name,
        METADATA,
        Column(bucket, Integer, primary_key=True, autoincrement=False),
        Column("series_id", Integer, ForeignKey("series.id"), primary_key=True, autoincrement=False),
        *(Column(column, BigInteger, nullable=False) for column in SUM_COLUMNS),
        sqlite_with_rowid=False,
    )


HOURS: Final = roll_up("usage_hours", "hour")
DAYS: Final = roll_up("usage_days", "day")
MONTHS: Final = roll_up("usage_months", "month")
"""Counted from January 1970."""

PRUNED: Final = roll_up("pruned_months", "month")
"""Sums of single calls that were removed: they and the calls that are left must be the roll-ups."""
PRUNED_UNTIL: Final = Table(
    "pruned_until",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("before_us", BigInteger, nullable=False),
)
"""One row: calls that started before this moment were removed."""

POSITIONS: Final = Table(
    "journal_positions",
    METADATA,
    Column("source", Text, primary_key=True),
    Column("writer", Text, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("offset_bytes", BigInteger, nullable=False),
    Column("line_bytes", BigInteger, nullable=False),
    Column("digest", Text, nullable=False),
    Column("sequence", BigInteger, nullable=False),
)
"""How far each journal is in the ledger: written in the same transaction as its records."""

CONTROL_OBJECTS: Final = Table(
    "control_objects",
    METADATA,
    Column("kind", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("changed_us", BigInteger, nullable=False),
)
"""What was made over the API. `key` is the name in lower case; `body` is JSON with sealed secrets."""

CONTROL_STATE: Final = Table(
    "control_state",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", BigInteger, nullable=False),
)
"""One row: how many changes there were. Who changes something locks it."""

CONTROL_CLAIMS: Final = Table(
    "control_claims",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
"""What the first server has said and all others must agree with: the fingerprint of the secrets key."""

CONTROL_KEY_USES: Final = Table(
    "control_key_uses",
    METADATA,
    Column("key_id", Text, primary_key=True),
    Column("used_us", BigInteger, nullable=False),
)
"""When a key of an entry was used last, as far as a server has written it."""

CONTROL_AUDIT: Final = Table(
    "control_audit",
    METADATA,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("time_us", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("key_id", Text),
    Column("source", Text),
    Column("action", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("before", Text),
    Column("after", Text),
    Column("result", Text, nullable=False),
    Column("previous", Text, nullable=False),
    Column("digest", Text, nullable=False),
)
"""Only ever appended to; `digest` chains the rows (core/audit_chain.py)."""
