"""How many records a second the shipper brings from the journals into the ledger, and what one costs.

python -m bench.shipping [--database sqlite|postgresql ...] [--records 100000] [--name NAME]
python -m bench.shipping --instructions             one shipper under callgrind: user instructions for a record

A backlog as after an outage. Processor time is the shipper's own: PostgreSQL's is not in it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import counters, databases, written
from bench.records import NOW, YEAR_SECONDS, record
from modelport.stores.journal import FileJournal
from modelport.stores.ledger_process.messages import Assignment, database_of, line
from modelport.stores.shipping.shipper import Shipper
from modelport.stores.sql.address import DatabaseAddress, address_of
from modelport.stores.sql.ledger import SqlLedger

ROUNDS = 3
COUNTED_RECORDS = 4_000
LONGEST_SECONDS = 3_600.0
FLUSHED_RECORDS = 64
CHILD = ("-m", "modelport.stores.ledger_process.child")


def main() -> None:
    """Prints a line for each database and each kind of backlog."""
    parser = argparse.ArgumentParser(prog="python -m bench.shipping", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--database", choices=databases.KINDS, nargs="+", default=databases.KINDS)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--instructions", action="store_true")
    parser.add_argument("--name", help="of the file in bench/results; none: bench/results/local")
    wanted = parser.parse_args()
    if wanted.instructions:
        print(f"{instructions(Path(sys.executable)):,} user instructions for a record")
        return
    rows: list[dict[str, Any]] = []
    spans = {"one hour": 3_600 / wanted.records, "a year": YEAR_SECONDS / wanted.records}
    for word, seconds_between in spans.items():
        with tempfile.TemporaryDirectory() as name:
            journal = Path(name)
            backlog(journal / "journal", wanted.records, seconds_between)
            for kind in wanted.database:
                row = {"database": kind, "backlog": f"calls of {word}", **shipped(kind, journal, wanted.records)}
                rows.append(row)
                print(
                    f"{kind:<12}{row['backlog']:<18}{row['records_per_second']:>8,} records/s"
                    f"{row['microseconds']:>8.1f} us of processor time each",
                    flush=True,
                )
    written.write("shipping", wanted.name, {"records": wanted.records, "rows": rows})


def backlog(
    directory: Path, records: int, seconds_between: float, deployment: int | None = None, key: int | None = None
) -> None:
    """An opening and a closing line for each."""
    with FileJournal(directory) as journal:
        for number in range(records):
            one = record(NOW - YEAR_SECONDS + number * seconds_between, deployment, key)
            journal.open(one)
            journal.close(one)
            if number % FLUSHED_RECORDS == 0:
                journal.flush()


def shipped(kind: str, folder: Path, records: int) -> dict[str, Any]:
    """Into empty tables each time; the median."""
    rates, spent = [], []
    for _ in range(ROUNDS):
        with databases.empty(kind) as (address, _):
            seconds, processor = once(address, folder)
        rates.append(records / seconds)
        spent.append(processor / records * 1e6)
    return {"records_per_second": round(statistics.median(rates)), "microseconds": round(statistics.median(spent), 1)}


def once(address: DatabaseAddress, folder: Path) -> tuple[float, float]:
    """Seconds, by the clock and of processor time. The tables are made before."""
    SqlLedger(address).close()
    shipper = Shipper(folder / "journal", lambda: SqlLedger(address))
    began, used = time.perf_counter(), time.process_time()
    shipper.start()
    if not shipper.catch_up(LONGEST_SECONDS):
        raise SystemExit(f"bench: the ledger could not be filled: {shipper.failure}")
    found = time.perf_counter() - began, time.process_time() - used
    shipper.stop()
    return found


def instructions(python: Path, records: int = COUNTED_RECORDS) -> int:
    """User instructions for a record of one caller to one deployment: (I(2n) - I(n)) / n, so what starting costs does
    not count."""
    found = []
    for number in (records, 2 * records):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            backlog(folder / "journal", number, 0.001, 0, 0)
            SqlLedger(address_of(None, folder)).close()
            assignment = Assignment(str(folder / "journal"), database_of(address_of(None, folder)))
            found.append(counters.of_command([str(python), *CHILD], folder, given=line(assignment)))
    return (found[1] - found[0]) // records


if __name__ == "__main__":
    main()
