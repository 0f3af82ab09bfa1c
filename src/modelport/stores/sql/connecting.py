"""How SQLite is opened, and how long is waited: for those who fill the ledger and for those who read it."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Final

BUSY_MILLISECONDS: Final = 5_000
CONNECT_SECONDS: Final = 5


def sqlite_writer(path: Path) -> sqlite3.Connection:
    """Write-ahead logging: readers and the one writer do not wait for each other. A commit is on the disk. Transactions
    begin where they are told to. Raises sqlite3.Error, OSError."""
    private(path)
    connection = sqlite_connection(path, "rwc")
    try:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection


def sqlite_reader(path: Path) -> sqlite3.Connection:
    """Finds the database or fails. Raises sqlite3.Error."""
    return sqlite_connection(path, "ro")


def sqlite_connection(path: Path, mode: str) -> sqlite3.Connection:
    """For any one thread at a time."""
    return sqlite3.connect(
        f"file:{quoted(path)}?mode={mode}",
        uri=True,
        timeout=BUSY_MILLISECONDS / 1000,
        isolation_level=None,
        check_same_thread=False,
    )


def quoted(path: Path) -> str:
    """For SQLite's URI form."""
    return str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def private(path: Path) -> None:
    """The file is its owner's alone; SQLite gives its companions the same mode. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
