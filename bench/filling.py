"""Fills a ledger with made-up calls of a year, in the database's own language: ten million in a few minutes.

Rows are those that the ledger itself would have written: `python -m bench.reports` has `ledger verify` add them up.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench import records as made_up
from bench.records import DEPLOYMENTS, KEYS, NOW, YEAR_SECONDS
from modelport.stores.sql.address import DatabaseAddress
from modelport.stores.sql.columns import COST_COLUMNS, RECORD_COLUMNS, SUM_COLUMNS, TOKEN_COLUMNS
from modelport.stores.sql.connecting import sqlite_writer
from modelport.stores.sql.ledger import SqlLedger
from modelport.stores.sql.statements import ROLL_UPS, adding, listed

CHUNK = 100_000
HOUR_US, DAY_US = 3_600_000_000, 86_400_000_000
FIRST_US = (NOW - YEAR_SECONDS) * 1_000_000
UNPRICED_OF = 50
"""One of so many calls has no known price."""


class Dialect:
    """What the two databases say differently."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        is_sqlite = kind == "sqlite"
        self.id = "lower(hex(randomblob(18)))" if is_sqlite else "gen_random_uuid()::text"
        self.true = "1" if is_sqlite else "true"
        self.numbers = (
            "WITH RECURSIVE numbers(i) AS (SELECT {0} UNION ALL SELECT i + 1 FROM numbers WHERE i + 1 < {1})"
            if is_sqlite
            else "WITH numbers AS (SELECT i::int8 FROM generate_series({0}::int8, {1}::int8 - 1) AS i)"
        )
        self.month = (
            "cast(strftime('%Y', {0}, 'unixepoch') as int) * 12 + cast(strftime('%m', {0}, 'unixepoch') as int) - 23641"
            if is_sqlite
            else "extract(year from to_timestamp({0}) at time zone 'UTC')::int * 12"
            " + extract(month from to_timestamp({0}) at time zone 'UTC')::int - 23641"
        )

    def random(self, below: int) -> str:
        """A whole number from 0."""
        return f"abs(random() % {below})" if self.kind == "sqlite" else f"floor(random() * {below})::int8"


def fill(address: DatabaseAddress, kept: int, wanted: int) -> None:
    """From so many records to so many, each time over the whole year."""
    if not kept:
        with SqlLedger(address) as ledger:
            series = [(deployment, key) for deployment in range(DEPLOYMENTS) for key in range(KEYS)]
            ledger.take([made_up.record(NOW - YEAR_SECONDS, *one) for one in series])
        kept = len(series)
    dialect = Dialect(address.kind)
    added = wanted - kept
    with connected(address) as run:
        first = run("SELECT min(id), max(id) FROM series")[0]
        assert first[1] - first[0] + 1 == DEPLOYMENTS * KEYS
        for start in range(0, added, CHUNK):
            chunk(run, dialect, first[0], start, min(added, start + CHUNK), added)
        if address.kind == "postgresql":
            run("ANALYZE")  # as its own daemon would, a minute later


@contextmanager
def connected(address: DatabaseAddress) -> Iterator[Any]:
    """A function that runs a statement and returns its rows. What is filled here need not survive a power failure."""
    if address.path is not None:
        sqlite = sqlite_writer(address.path)
        for pragma in ("synchronous=OFF", "temp_store=MEMORY", "cache_size=-262144"):
            sqlite.execute(f"PRAGMA {pragma}")
        try:
            yield lambda statement: sqlite.execute(statement).fetchall()
        finally:
            sqlite.close()
        return
    import psycopg

    with psycopg.connect(f"postgresql://{(address.url or '').partition('://')[2]}", autocommit=True) as server:
        server.execute("SET synchronous_commit = off")

        def run(statement: str) -> list[tuple[Any, ...]]:
            cursor = server.execute(statement)
            return cursor.fetchall() if cursor.description else []

        yield run


def chunk(run: Any, dialect: Dialect, first_series: int, start: int, end: int, added: int) -> None:
    """One transaction: records, and their sums."""
    run("BEGIN")
    run("DROP TABLE IF EXISTS made")
    run(f"CREATE TEMPORARY TABLE made AS {records(dialect, first_series, start, end, added)}")
    run(f"INSERT INTO usage_records ({listed(RECORD_COLUMNS)}) SELECT {listed(RECORD_COLUMNS)} FROM made ORDER BY 1")
    buckets = {
        "hour": f"started_us / {HOUR_US}",
        "day": f"started_us / {DAY_US}",
        "month": dialect.month.format("started_us / 1000000"),
    }
    for bucket in ROLL_UPS:
        run(adding(bucket, lambda _, bucket=bucket: sums(buckets[bucket])))  # type: ignore[misc]
    run("COMMIT")


def records(dialect: Dialect, first_series: int, start: int, end: int, added: int) -> str:
    """So many of them, in the order of time."""
    known = f"i % {UNPRICED_OF} <> 0"
    values = {
        "started_us": f"{FIRST_US} + i * {YEAR_SECONDS * 1_000_000 // added}",
        "id": dialect.id,
        "series_id": f"{first_series} + {dialect.random(DEPLOYMENTS * KEYS)}",
        "streamed": dialect.true,
        "requested_model": "'deployment'",
        "status": "200",
        "ending": "'completed'",
        "usage_source": "'reported'",
        **dict.fromkeys(TOKEN_COLUMNS, "0"),
        "input_tokens": dialect.random(4_000),
        "output_tokens": dialect.random(1_000),
        "reserved_tokens": "4096",
        "first_event_seconds": "0.2",
        "duration_seconds": "2.0",
        "snapshot": "'0123456789ab'",
        "pricing": f"CASE WHEN {known} THEN 'priced' ELSE 'unpriced' END",
        "price_version": "'0123456789ab'",
        **dict.fromkeys(COST_COLUMNS, f"CASE WHEN {known} THEN 0 END"),
        "cost_nanos": f"CASE WHEN {known} THEN {dialect.random(10**7)} END",
        "cost_attos": f"CASE WHEN {known} THEN {dialect.random(10**9)} END",
    }
    columns = listed([f"{values.get(name, 'NULL')} AS {name}" for name in RECORD_COLUMNS])
    return f"{dialect.numbers.format(start, end)} SELECT {columns} FROM numbers"


def sums(bucket: str) -> str:
    """Of what was made, in the order of a roll-up's columns."""
    kept = ("count(*)", "sum(CASE WHEN cost_units IS NULL THEN 1 ELSE 0 END)", "0")
    added = (f"coalesce(sum({name}), 0)" for name in SUM_COLUMNS[len(kept) :])
    return f"SELECT {bucket}, series_id, {listed([*kept, *added])} FROM made WHERE true GROUP BY 1, 2"
