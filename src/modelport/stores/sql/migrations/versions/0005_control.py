"""The control plane: objects made over the API, their version, their audit, and what all servers must agree on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables. What served with revision 0004 does not know them, and goes on."""
    op.create_table(
        "control_objects",
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("version", "created_us", "changed_us")),
    )
    state = op.create_table(
        "control_state",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("version", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(state, [{"id": 1, "version": 0}])
    op.create_table(
        "control_claims",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.create_table(
        "control_audit",
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("time_us", sa.BigInteger, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("key_id", sa.Text),
        sa.Column("source", sa.Text),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("action", "kind", "name")),
        sa.Column("before", sa.Text),
        sa.Column("after", sa.Text),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("result", "previous", "digest")),
    )
