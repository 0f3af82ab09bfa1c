"""Instructions per request, against a limit and the baseline of this Python; other load adds up to 9 %.

All threads of the server count, with its key, quota, journal and metrics on. What the ledger's process spends on the
record afterwards, niced and on another core where there is one, is printed beside it.

python -m bench.gate [--python PATH] [--write]

Exit status 1 above the limit, or more than 15 % above the baseline. `--write` makes what was counted the new baseline.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from bench import counters, instructions, interpreters

BASELINE = Path(__file__).parent / "baseline.json"
LIMIT = 180_000
TOLERANCE = 0.15  # beside other load fewer calls share a turn of the loop: up to 9 % more is counted


def main() -> None:
    """Counts, compares, says so."""
    parser = argparse.ArgumentParser(prog="python -m bench.gate", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--python", help="the interpreter that runs modelport; gets an environment of its own")
    parser.add_argument(
        "--requests", type=int, default=instructions.default_requests(), help="fewer are faster and less exact"
    )
    parser.add_argument("--write", action="store_true", help="make what is counted the baseline of this Python")
    wanted = parser.parse_args()
    python = interpreters.prepared(wanted.python)
    facts = interpreters.described(python)
    build = interpreters.label(facts)
    price = instructions.price(python, wanted.requests)
    counted = price.server
    baselines: dict[str, int] = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    print(f"Python {facts['version']} ({facts['build']})")
    print(
        f"{counted:,} instructions per request, counted by {counters.mechanism()}: {price.loop:,} in the loop's thread,"
    )
    print(f"{price.server - price.loop:,} in other threads; {price.ledger:,} more in the ledger's process")
    faults = judged(counted, build, baselines)
    for fault in faults:
        print(f"gate: {fault}")
    if wanted.write:
        BASELINE.write_text(json.dumps(dict(sorted({**baselines, build: counted}.items())), indent=2) + "\n")
        print(f"gate: {build} is {counted:,} in bench/baseline.json from now on")
        sys.exit(0 if counted <= LIMIT else 1)
    sys.exit(1 if faults else 0)


def judged(counted: int, build: str, baselines: Mapping[str, int]) -> list[str]:
    """What is wrong with the figure."""
    faults = []
    if counted > LIMIT:
        faults.append(f"more than {LIMIT:,}")
    baseline = baselines.get(build)
    if baseline is None:
        print(f"gate: {build} has no baseline; --write makes one")
    elif counted > baseline * (1 + TOLERANCE):
        faults.append(f"{counted / baseline - 1:+.1%} against the baseline of {build}, {baseline:,}")
    return faults


if __name__ == "__main__":
    main()
