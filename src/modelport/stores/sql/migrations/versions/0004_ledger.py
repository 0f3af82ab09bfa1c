"""The ledger: series, records, roll-ups by hour, day and month, how far each journal is shipped, and the sums of single
calls that were removed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = None
branch_labels = None
depends_on = None

TOKENS = (
    "input_tokens",
    "cached_input_tokens",
    "output_tokens",
    "reasoning_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
    "image_tokens",
)
COSTS = ("cost_units", "cost_nanos", "cost_attos", "cost_rontos")
COUNTS = ("calls", "unpriced_calls", "estimated_calls")
CACHE_WRITES = "cache_write_tokens"


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "series",
        sa.Column("id", sa.Integer, sa.Identity(), primary_key=True),
        sa.Column("fingerprint", sa.Text, nullable=False, unique=True),
        sa.Column("principal", sa.Text, nullable=False),
        *(
            sa.Column(name, sa.Text)
            for name in ("key_id", "project", "deployment", "model", "target", "answered_model", "provider")
        ),
        sa.Column("surface", sa.Text, nullable=False),
        sa.Column("operation", sa.Text, nullable=False),
        sa.Column("currency", sa.Text),
    )
    op.create_table(
        "usage_records",
        sa.Column("started_us", sa.BigInteger, primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("series_id", sa.Integer, sa.ForeignKey("series.id"), nullable=False),
        sa.Column("streamed", sa.Boolean, nullable=False),
        sa.Column("requested_model", sa.Text),
        sa.Column("spilled_from", sa.Text),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("ending", sa.Text, nullable=False),
        sa.Column("error_code", sa.Text),
        sa.Column("usage_source", sa.Text, nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in TOKENS),
        sa.Column("reserved_tokens", sa.BigInteger, nullable=False),
        sa.Column("first_event_seconds", sa.Double),
        sa.Column("duration_seconds", sa.Double, nullable=False),
        sa.Column("client_request_id", sa.Text),
        sa.Column("snapshot", sa.Text),
        sa.Column("pricing", sa.Text, nullable=False),
        sa.Column("price_version", sa.Text),
        *(sa.Column(name, sa.BigInteger) for name in COSTS),
        sa.Column(CACHE_WRITES, sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("service_tier", sa.Text),
    )
    for table, bucket in (("usage_hours", "hour"), ("usage_days", "day"), ("usage_months", "month")):
        cache_writes = sa.Column(CACHE_WRITES, sa.BigInteger, nullable=False, server_default="0")
        create_sums(table, bucket, *sums(*COUNTS, *TOKENS, *COSTS), cache_writes)
    create_sums("pruned_months", "month", *sums(*COUNTS, *TOKENS, CACHE_WRITES, *COSTS))
    op.create_table(
        "pruned_until",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("before_us", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "journal_positions",
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("writer", sa.Text, primary_key=True),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("number", "offset_bytes", "line_bytes")),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
    )


def create_sums(table: str, bucket: str, *columns: sa.Column[int]) -> None:
    """One row for each span of time and series."""
    op.create_table(
        table,
        sa.Column(bucket, sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("series_id", sa.Integer, sa.ForeignKey("series.id"), primary_key=True, autoincrement=False),
        *columns,
        sqlite_with_rowid=False,
    )


def sums(*names: str) -> list[sa.Column[int]]:
    """A column for each name."""
    return [sa.Column(name, sa.BigInteger, nullable=False) for name in names]
