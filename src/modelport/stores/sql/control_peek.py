"""A look at the control plane's tables in SQLite without SQLAlchemy, for servers that store no objects."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from msgspec import Struct

from modelport.stores.sql.connecting import sqlite_reader


class Peek(Struct, frozen=True):
    """What is there. Version 0: nothing was ever stored."""

    version: int = 0
    claims: dict[str, str] = {}


def peeked(path: Path) -> Peek:
    """A database that is missing, empty or of an earlier version has nothing. What cannot be read shows when the store
    is opened."""
    if not path.exists():
        return Peek()
    try:
        with closing(sqlite_reader(path)) as connection:
            row = connection.execute("SELECT version FROM control_state WHERE id = 1").fetchone()
            claims = dict(connection.execute("SELECT name, value FROM control_claims").fetchall())
    except sqlite3.Error:
        return Peek()
    return Peek(row[0] if row is not None else 0, claims)
