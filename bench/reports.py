"""How long reports take against the size of the ledger, from ten thousand records to ten million.

python -m bench.reports [--database sqlite|postgresql] [--records N ...] [--name NAME]

Each is asked once and then five times more. Sizes up to --audited are also added up by `ledger verify`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

from bench import databases, filling, records, written
from modelport.control.usage import question
from modelport.core.usage_reports import RecordsQuestion
from modelport.stores.sql.address import DatabaseAddress
from modelport.stores.sql.audit import disagreements
from modelport.stores.sql.database import open_for_reading
from modelport.stores.sql.reports import SqlReports
from modelport.stores.sql.statements import ROLL_UPS

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
SERIES = records.DEPLOYMENTS * records.KEYS
REPEATS = 5
QUESTIONS = (
    ("all", "", None),
    ("by deployment", "deployment", None),
    ("by key, 30 days", "key", "30d"),
    ("by day", "day", None),
    ("by project and model, half a year", "project,model", "2026-06-01"),
    ("by deployment and day, 90 days", "deployment,day", "90d"),
    ("by deployment and day", "deployment,day", None),
)


def main() -> None:
    """Prints a row for each size; writes them where they stay."""
    parser = argparse.ArgumentParser(prog="python -m bench.reports", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--database", choices=databases.KINDS, default="sqlite")
    parser.add_argument("--records", type=int, nargs="+", default=SIZES)
    parser.add_argument("--audited", type=int, default=1_000_000)
    parser.add_argument("--name", help="of the file in bench/results; none: bench/results/local")
    wanted = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with databases.empty(wanted.database) as (address, _):
        kept = 0
        for size in sorted(wanted.records):
            began = time.perf_counter()
            filling.fill(address, kept, size)
            kept = size
            row = {"records": size, "fill_seconds": round(time.perf_counter() - began, 1), **sizes(address)}
            row["milliseconds"] = asked(address)
            if size <= wanted.audited:
                balances(address)
            rows.append(row)
            told(row)
    written.write(f"reports-{wanted.database}", wanted.name, {"series": SERIES, "rows": rows})


def asked(address: DatabaseAddress) -> dict[str, dict[str, float]]:
    """Milliseconds for each question: the first time, and the best and the median of the others."""
    reports = SqlReports(address)
    try:
        found = {}
        for name, by, since in QUESTIONS:
            wanted = question(by, since, None, records.NOW)
            found[name] = timed(lambda wanted=wanted: reports.report(wanted))  # type: ignore[misc]
        found["newest 100 records"] = timed(lambda: reports.records(RecordsQuestion(limit=100)))
        return found
    finally:
        reports.close()


def timed(work: Callable[[], object]) -> dict[str, float]:
    """Milliseconds; `processor` is the best of what this process needed of one, which a busy machine changes less."""
    spent, used = [], []
    for _ in range(REPEATS + 1):
        began, began_using = time.perf_counter(), time.process_time()
        work()
        spent.append((time.perf_counter() - began) * 1000)
        used.append((time.process_time() - began_using) * 1000)
    best, median = min(spent[1:]), statistics.median(spent[1:])
    return {
        "processor": round(min(used), 1),
        "best": round(best, 1),
        "median": round(median, 1),
        "first": round(spent[0], 1),
    }


def sizes(address: DatabaseAddress) -> dict[str, int]:
    """What there is to be read."""
    with filling.connected(address) as run:
        found = {table: run(f"SELECT count(*) FROM {table}")[0][0] for table in ROLL_UPS.values()}
    if address.path is not None:
        found["bytes"] = address.path.stat().st_size
    return found


def balances(address: DatabaseAddress) -> None:
    """Whether what was filled in is what the ledger would have written."""
    engine = open_for_reading(address)
    with engine.begin() as connection:
        fault = next(disagreements(connection, 0), None)
    engine.dispose()
    if fault is not None:
        raise SystemExit(f"bench: the ledger does not balance: {fault}")


def told(row: dict[str, Any]) -> None:
    """For whoever watches."""
    print(f"{row['records']:>12,} records, filled in {row['fill_seconds']} s, {row['usage_days']:,} daily sums")
    for name, spent in row["milliseconds"].items():
        print(f"{'':>14}{name:<36}" + "".join(f"{spent[word]:>9.1f} ms {word:<8}" for word in spent), flush=True)


if __name__ == "__main__":
    main()
