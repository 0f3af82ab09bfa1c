"""What Alembic runs: the migrations that are due, on the connection and in the transaction of `database.upgrade`."""

from __future__ import annotations

from alembic import context

from modelport.stores.sql.schema import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, render_as_batch=True)
context.run_migrations()
