"""Alembic's home: `env.py` runs a migration on a connection that it is given."""
