"""What a call's content filter has found."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the column. What served with revision 0006 does not fill it, and goes on."""
    op.add_column("usage_records", sa.Column("content_filter", sa.Text))
