"""Databases for a ledger, empty: SQLite in a folder of its own, PostgreSQL as a process of ours on a free port, or the
empty one that MODELPORT_DATABASE_URL names."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import servers
from modelport.stores.sql.address import DatabaseAddress, address_of

KINDS = ("sqlite", "postgresql")
MISSING = "bench: PostgreSQL is missing; on Debian: apt-get install postgresql, and pip install 'modelport[postgres]'"


@contextmanager
def empty(kind: str) -> Iterator[tuple[DatabaseAddress, Path]]:
    """A database, and a folder that is gone with it."""
    with tempfile.TemporaryDirectory(prefix="modelport-bench-") as name:
        folder = Path(name)
        if kind == "sqlite":
            yield address_of(None, folder), folder
        elif named := os.environ.get("MODELPORT_DATABASE_URL"):
            yield address_of(named, folder), folder
        else:
            folder.chmod(0o755)  # for the account that PostgreSQL runs under
            with postgresql(folder / "postgresql") as url:
                yield address_of(url, folder), folder


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """The URL of a server with its own defaults, which ends with the block."""
    folder.mkdir()
    account: dict[str, Any] = {"cwd": "/"}
    if os.geteuid() == 0:  # it refuses to run as root
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
        account |= {"user": "postgres", "group": "postgres", "extra_groups": []}
    data, port = folder / "data", servers.free_port()
    command = [program("initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8"]
    subprocess.run(command, check=True, capture_output=True, **account)
    options = [f"port={port}", "listen_addresses=127.0.0.1", "unix_socket_directories="]
    command = [program("postgres"), "-D", str(data), *(word for option in options for word in ("-c", option))]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **account)
    url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    try:
        await_server(url)
        yield url
    finally:
        process.terminate()
        process.wait()


def await_server(url: str) -> None:
    """Until it answers."""
    import psycopg

    deadline = time.monotonic() + servers.START_SECONDS
    while True:
        try:
            psycopg.connect(url, connect_timeout=2).close()
            return
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise SystemExit("bench: PostgreSQL does not start") from None
            time.sleep(0.1)


def program(name: str) -> str:
    """Where a program of PostgreSQL is: Debian does not put all of them in the path."""
    found = shutil.which(name) or next(map(str, sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))), None)
    if found is None:
        raise SystemExit(MISSING)
    return found
