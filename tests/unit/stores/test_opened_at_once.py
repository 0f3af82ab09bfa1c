"""A database that is new, and that several processes open at once: each waits for the others, and none is refused."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier, Event

from modelport.stores.sql.address import DatabaseAddress
from modelport.stores.sql.connecting import sqlite_writer
from modelport.stores.sql.database import open_as_is, open_for_writing

OPENERS, ROUNDS = 4, 12


def test_a_file_that_somebody_writes_just_now_is_waited_for(tmp_path: Path) -> None:
    """SQLite does not wait by itself where the file has to become one with write-ahead logging."""
    path, asks = tmp_path / "new.sqlite3", Event()

    def opened() -> str:
        asks.set()
        with closing(sqlite_writer(path)) as connection:
            return str(connection.execute("PRAGMA journal_mode").fetchone()[0])

    with closing(sqlite3.connect(path, isolation_level=None)) as other, ThreadPoolExecutor(1) as pool:
        other.execute("BEGIN IMMEDIATE")
        other.execute("CREATE TABLE another (number)")
        second = pool.submit(opened)
        asks.wait()
        while not second.done() and not second.running():
            pass
        Event().wait(0.2)
        assert not second.done()
        other.execute("COMMIT")
        assert second.result() == "wal"


def test_all_who_open_a_new_database_at_once_can_use_it(tmp_path: Path) -> None:
    barrier = Barrier(OPENERS)

    def opened(number: int) -> int:
        address = DatabaseAddress("sqlite", path=tmp_path / f"{number}.sqlite3")
        barrier.wait()
        open_for_writing(address).dispose()
        engine = open_as_is(address)
        try:
            with engine.begin() as connection:
                return int(connection.exec_driver_sql("SELECT count(*) FROM control_objects").scalar_one())
        finally:
            engine.dispose()

    with ThreadPoolExecutor(OPENERS) as pool:
        for number in range(ROUNDS):
            assert list(pool.map(opened, [number] * OPENERS)) == [0] * OPENERS


def test_a_second_writer_does_not_drop_the_locks_of_the_first(tmp_path: Path) -> None:
    """Another process that closes its connection must see that it is not the last one: it would remove the log."""
    path = tmp_path / "one.sqlite3"
    connect = "import sqlite3, sys; connection = sqlite3.connect(sys.argv[1])"
    script = f"{connect}; print(connection.execute('SELECT sum(number) FROM t').fetchone()[0])"

    def sum_seen_by_another_process() -> int:
        return int(subprocess.run([sys.executable, "-c", script, path], check=True, capture_output=True).stdout)

    with closing(sqlite_writer(path)) as first:
        first.execute("CREATE TABLE t (number)")
        first.execute("INSERT INTO t VALUES (1)")
        with closing(sqlite_writer(path)) as second:
            assert second.execute("SELECT count(*) FROM t").fetchone() == (1,)
        log = path.with_name(f"{path.name}-wal").stat().st_ino
        assert sum_seen_by_another_process() == 1
        assert path.with_name(f"{path.name}-wal").stat().st_ino == log
        first.execute("INSERT INTO t VALUES (10)")
        assert sum_seen_by_another_process() == 11
