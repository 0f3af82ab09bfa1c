"""Input that a provider keeps in its cache, as a class of tokens of its own.

The column has a default, so that processes of the version before can go on writing while they are being replaced.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = ("usage_records", "usage_hours", "usage_days", "usage_months")


def upgrade() -> None:
    """Adds the column to records and roll-ups."""
    for table in TABLES:
        op.add_column(table, sa.Column("cache_write_tokens", sa.BigInteger, nullable=False, server_default="0"))
