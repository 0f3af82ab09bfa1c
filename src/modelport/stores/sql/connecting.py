"""How SQLite is opened, and how long is waited: for those who fill the ledger and for those who read it."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

BUSY_MILLISECONDS: Final = 5_000
BUSY_PAUSE_SECONDS: Final = 0.01
CONNECT_SECONDS: Final = 5
PRIMARY_CODE: Final = 0xFF
"""The part of SQLite's error codes that does not go into detail."""


def sqlite_writer(path: Path) -> sqlite3.Connection:
    """Write-ahead logging: readers and the one writer do not wait for each other. A commit is on the disk. Transactions
    begin where they are told to. Raises sqlite3.Error, OSError."""
    create_private(path)
    connection = sqlite_connection(path, "rwc")
    try:
        write_ahead(connection)
        for pragma in ("synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection


def write_ahead(connection: sqlite3.Connection) -> None:
    """Switches to write-ahead logging. Where somebody else writes or switches a new file, SQLite refuses that at once
    instead of waiting. Raises sqlite3.Error."""
    deadline = time.monotonic() + BUSY_MILLISECONDS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & PRIMARY_CODE != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(BUSY_PAUSE_SECONDS)
        else:
            return


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


def create_private(path: Path) -> None:
    """Creates the file, for its owner alone, if it is missing; SQLite gives its companions the same mode. The file is
    never opened: closing any descriptor of it would drop the locks of this process's connections to it, and another
    process could then remove the write-ahead log that they use (https://sqlite.org/howtocorrupt.html, 2.2).
    Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        os.mknod(path, 0o600)
