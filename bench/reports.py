"""How long a report takes against the size of the ledger, and how many records a second the shipper moves; printed.

python bench/reports.py [RECORDS ...]       10000 100000 1000000 if none are named; 10000000 takes a while
MODELPORT_DATABASE_URL=postgresql://… the same there, in the tables of that database: name an empty one
"""

from __future__ import annotations

import os
import random
import resource
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from modelport.control.usage import question
from modelport.core.usage import Pricing, TokenUsage, UsageRecord
from modelport.core.usage_reports import RecordsQuestion
from modelport.stores.journal import FileJournal
from modelport.stores.shipping.shipper import BATCH_RECORDS, Shipper
from modelport.stores.sql.address import address_of
from modelport.stores.sql.ledger import SqlLedger
from modelport.stores.sql.reports import SqlReports

YEAR_SECONDS = 365 * 86_400
NOW = 1_795_262_400
DEPLOYMENTS, KEYS = 20, 50
JOURNALED = 50_000
QUESTIONS = (
    ("deployment", None),
    ("key", "30d"),
    ("day", None),
    ("project,model", "2026-06-01"),
    ("deployment,day", "90d"),
)


def main(sizes: list[int]) -> None:
    """Prints a table for reports, and one for shipping."""
    with tempfile.TemporaryDirectory() as name:
        address = address_of(os.environ.get("MODELPORT_DATABASE_URL"), Path(name))
        print(f"{address.kind}, {DEPLOYMENTS} deployments x {KEYS} keys over a year; milliseconds, the best of 5")
        words = [by if since is None else f"{by} since {since}" for by, since in QUESTIONS]
        print(f"{'records':>12}  " + "  ".join(f"{word:>26}" for word in (*words, "newest 100 records")))
        with SqlLedger(address) as ledger:
            kept = 0
            for size in sorted(sizes):
                for batch in batches(size - kept, 2_000):
                    ledger.take(batch)
                kept = size
                print(f"{size:>12,}  " + "  ".join(f"{spent * 1000:>26.1f}" for spent in asked(SqlReports(address))))
        ship(Path(name))
    print(f"most memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB")


def asked(reports: SqlReports) -> Iterator[float]:
    """Seconds for each question."""
    for by, since in QUESTIONS:
        wanted = question(by, since, None, NOW)
        yield best(lambda wanted=wanted: reports.report(wanted))
    yield best(lambda: reports.records(RecordsQuestion(limit=100)))
    reports.close()


def best(work: object) -> float:
    """Of five."""
    found = []
    for _ in range(5):
        began = time.perf_counter()
        work()  # type: ignore[operator]
        found.append(time.perf_counter() - began)
    return min(found)


def ship(directory: Path) -> None:
    """A backlog as after an outage: what one thread moves when nobody else wants the interpreter."""
    for word, seconds_between in (("calls of one hour", 0.05), ("calls of a year", YEAR_SECONDS / JOURNALED)):
        journals = directory / word
        with FileJournal(journals) as journal:
            for number in range(JOURNALED):
                one = record(NOW - YEAR_SECONDS + number * seconds_between)
                journal.open(one)
                journal.close(one)
                if number % 100 == 0:
                    journal.flush()
        address = address_of(os.environ.get("MODELPORT_DATABASE_URL"), journals)
        shipper = Shipper(journals, lambda address=address: SqlLedger(address))
        began, used = time.perf_counter(), time.process_time()
        shipper.ship()
        seconds, cpu = time.perf_counter() - began, time.process_time() - used
        print(
            f"shipped, {word}: {JOURNALED / seconds:,.0f} records/s in batches of {BATCH_RECORDS}, "
            f"{cpu / JOURNALED * 1e6:.0f} us of CPU each"
        )


def batches(records: int, size: int) -> Iterator[list[UsageRecord]]:
    """Spread over the year, in the order of time."""
    for start in range(0, records, size):
        end = min(records, start + size)
        yield [record(NOW - YEAR_SECONDS + number * YEAR_SECONDS / records) for number in range(start, end)]


def record(started_at: float) -> UsageRecord:
    """Of some key, to some deployment."""
    deployment, key = random.randrange(DEPLOYMENTS), random.randrange(KEYS)
    return UsageRecord(
        id=str(uuid.uuid4()),
        started_at=started_at,
        principal=f"team-{key}",
        key_id=f"team-{key}/key1",
        surface="azure_inference",
        operation="chat_completions",
        streamed=True,
        requested_model=f"deployment-{deployment}",
        deployment=f"deployment-{deployment}",
        answered_model=f"model-{deployment % 7}",
        target=f"house/model-{deployment % 7}",
        provider="house",
        status=200,
        usage=TokenUsage(input=random.randrange(4000), output=random.randrange(1000)),
        usage_source="reported",
        reserved_tokens=4096,
        first_event_seconds=0.2,
        duration_seconds=2.0,
        snapshot="0123456789ab",
        cost=f"0.00{random.randrange(10**9):09}",
        currency="USD",
        price_version="0123456789ab",
        pricing=Pricing.PRICED.value,
        project=f"project-{key % 5}",
    )


if __name__ == "__main__":
    main([int(text) for text in sys.argv[1:]] or [10_000, 100_000, 1_000_000])
