"""What is left of single calls that were removed: their sums by month and series, and until when they are gone."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
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
    "cache_write_tokens",
)
COSTS = ("cost_units", "cost_nanos", "cost_attos", "cost_rontos")


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "pruned_months",
        sa.Column("month", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("series_id", sa.Integer, sa.ForeignKey("series.id"), primary_key=True, autoincrement=False),
        *(
            sa.Column(name, sa.BigInteger, nullable=False)
            for name in ("calls", "unpriced_calls", "estimated_calls", *TOKENS, *COSTS)
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "pruned_until",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("before_us", sa.BigInteger, nullable=False),
    )
