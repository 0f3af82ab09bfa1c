"""Instructions per request of four forms of chat, against a limit and the baselines of this Python.

All threads of the server count, with its key, quota, journal and metrics on. The requests come in fixed batches
(`bench.batches`), so other load on the machine changes a figure by up to 4 %.

python -m bench.gate [--python PATH] [--write]

Exit status 1 if the plain form is above the limit, a form is more than 15 % above its baseline, or a call with a token
costs more than 15 % more than the plain one, which has a key. `--write` makes what was counted the new baselines.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from bench import batched, counters, interpreters
from bench.mix_forms import GATED, PLAIN, TOKEN

BASELINE = Path(__file__).parent / "baseline.json"
LIMIT = 250_000
TOLERANCE = 0.15

Baselines = Mapping[str, Mapping[str, int]]
"""Of each build of Python: the figure of each form."""


def main() -> None:
    """Counts, compares, and prints the verdict."""
    parser = argparse.ArgumentParser(prog="python -m bench.gate", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--python", help="the interpreter that runs modelport; gets an environment of its own")
    parser.add_argument("--batches", type=int, default=batched.BATCHES, help="fewer are faster and less exact")
    parser.add_argument("--write", action="store_true", help="make what is counted the baselines of this Python")
    wanted = parser.parse_args()
    python = interpreters.prepared(wanted.python)
    facts = interpreters.described(python)
    build = interpreters.label(facts)
    print(f"Python {facts['version']} ({facts['build']}), instructions per request by {counters.mechanism()}:")
    counted = count(python, wanted.batches)
    baselines: Baselines = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    faults = judge(counted, build, baselines)
    for fault in faults:
        print(f"gate: {fault}")
    if wanted.write:
        BASELINE.write_text(json.dumps(dict(sorted({**baselines, build: counted}.items())), indent=2) + "\n")
        print(f"gate: these are the baselines of {build} in bench/baseline.json from now on")
        sys.exit(0 if counted[PLAIN.name] <= LIMIT else 1)
    sys.exit(1 if faults else 0)


def count(python: Path, batch_count: int) -> dict[str, int]:
    """The figure of each form, all from one server."""
    with (
        tempfile.TemporaryDirectory(prefix="modelport-gate-") as name,
        batched.driven(python, Path(name)) as server,
    ):
        found: dict[str, int] = {}
        for form in GATED:
            found[form.name] = server.count(form, batch_count=batch_count)
            print(f"  {form.name}: {found[form.name]:,}", flush=True)
        return found


def judge(counted: Mapping[str, int], build: str, baselines: Baselines) -> list[str]:
    """What is wrong with the figures."""
    faults = []
    if counted[PLAIN.name] > LIMIT:
        faults.append(f"{PLAIN.name}: more than {LIMIT:,}")
    if TOKEN.name in counted:
        times = counted[TOKEN.name] / counted[PLAIN.name]
        print(f"gate: a token costs {times:.3f} times what a key costs")
        if times > 1 + TOLERANCE:
            faults.append(f"{TOKEN.name}: {times:.3f} times {PLAIN.name}")
    known = baselines.get(build)
    if known is None:
        print(f"gate: {build} has no baselines; --write makes them")
        return faults
    for name, figure in counted.items():
        if name in known and figure > known[name] * (1 + TOLERANCE):
            faults.append(f"{name}: {figure / known[name] - 1:+.1%} against the baseline of {build}, {known[name]:,}")
    return faults


if __name__ == "__main__":
    main()
