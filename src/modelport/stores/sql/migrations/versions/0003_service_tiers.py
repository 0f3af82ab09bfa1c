"""The tier that a call was served in, where it was not the usual one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the column to records."""
    op.add_column("usage_records", sa.Column("service_tier", sa.Text))
