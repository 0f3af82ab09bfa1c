"""A PostgreSQL for tests: the one that is named, or a process of our own on a free port, gone with the tests."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

HOW_TO_GET = (
    "no PostgreSQL: `apt-get install postgresql` and `pip install 'modelport[postgres]'`, "
    "or name one in MODELPORT_TEST_POSTGRES_URL"
)
START_SECONDS = 30.0


@dataclass
class PostgresServer:
    """A process of our own, which a test may kill and start again. What it had committed it still has then."""

    directory: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="modelport-postgres-")))
    port: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Answering when it returns; on the same port as before, if there was one."""
        if not self.port:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
            subprocess.run(["cp", "-a", new_cluster(), self.data], check=True)
            give_away(self.directory)
        # What is committed outlives its processes also without fsync, and nothing here takes the machine's power away.
        options = [f"--port={self.port}", "--listen_addresses=127.0.0.1", "--unix_socket_directories=", "--fsync=off"]
        self._process = subprocess.Popen(
            [program("postgres"), "-D", str(self.data), *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            **unprivileged(),
        )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert time.monotonic() < deadline, "PostgreSQL did not start"
            assert self._process.poll() is None, "PostgreSQL has ended"
            time.sleep(0.05)

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def _answers(self) -> bool:
        import psycopg

        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self.url, connect_timeout=2):
            return True
        return False

    def kill(self) -> None:
        """SIGKILL for all of its processes: as a power failure, but for the disk."""
        if self._process is None:
            return
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for process_id in [self._process.pid, *map(int, children)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process_id, signal.SIGKILL)
        self._process.wait()
        self._process = None
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def close(self) -> None:
        """Ends it and removes what it had."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


def program(name: str) -> str:
    """Where a program of PostgreSQL is: Debian does not put all of them in the path."""
    found = shutil.which(name) or next(map(str, sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))), None)
    if found is None:
        skip_or_fail()
    return str(found)


@functools.cache
def new_cluster() -> Path:
    """What initdb makes: once for all servers of this process."""
    directory = Path(tempfile.mkdtemp(prefix="modelport-initdb-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    give_away(directory)
    command = [program("initdb"), "-D", str(directory / "data"), "-U", "postgres", "-A", "trust", "-E", "UTF8"]
    subprocess.run([*command, "--no-sync"], check=True, capture_output=True, cwd="/", **unprivileged())
    return directory / "data"


def give_away(directory: Path) -> None:
    """To the account of PostgreSQL, where it may not have ours."""
    if os.geteuid() == 0:
        account = pwd.getpwnam("postgres")
        os.chown(directory, account.pw_uid, account.pw_gid)


def unprivileged() -> dict[str, object]:
    """PostgreSQL refuses to run as root."""
    return {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}


def skip_or_fail() -> None:
    """Where everything must be checked, a missing PostgreSQL is a failure."""
    if os.environ.get("MODELPORT_CI"):
        pytest.fail(HOW_TO_GET)
    pytest.skip(HOW_TO_GET)


def own_server() -> PostgresServer:
    """One that a test may kill. Skips or fails where that cannot be."""
    try:
        import psycopg  # noqa: F401
    except ImportError:
        skip_or_fail()
    program("initdb")
    server = PostgresServer()
    server.start()
    return server


@contextlib.contextmanager
def fresh_database(server_url: str) -> Iterator[str]:
    """The URL of an empty database, dropped at the end."""
    import psycopg
    from psycopg import sql

    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def named_url() -> str | None:
    """The PostgreSQL that the environment names."""
    return os.environ.get("MODELPORT_TEST_POSTGRES_URL")
