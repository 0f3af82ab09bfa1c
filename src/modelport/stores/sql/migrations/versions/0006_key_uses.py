"""When each key was used last."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the table. What served with revision 0005 does not know it, and goes on."""
    op.create_table(
        "control_key_uses",
        sa.Column("key_id", sa.Text, primary_key=True),
        sa.Column("used_us", sa.BigInteger, nullable=False),
    )
