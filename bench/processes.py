"""One process that serves against several: processor time for a request with all of them on one core, requests a second
where there are cores enough, memory of each process. Prints; nothing is asserted.

python -m bench.processes [WORKERS] [ROUNDS] [SECONDS]
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import contenders, machines, scenarios, servers
from bench.contenders import Contender
from bench.rounds import FOREIGN_SHARE, Load, Range

SCENARIO = scenarios.whole(64)


def main(workers: int, rounds: int, seconds: float) -> None:
    """Interleaved rounds, medians."""
    print(", ".join(f"{key} {value}" for key, value in machines.described().items()))
    measured_core, load_core = machines.cores()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with servers.upstream(folder, load_core) as above:
            where = Range(above, folder, measured_core, load_core, seconds, rounds)
            with modelport(where, 1) as one, modelport(where, workers) as several:
                both = [one, several]
                for contender in both:
                    Load(where, SCENARIO, contender).run()
                cpu = medians(where, both, "cpu_us")
                print(f"\n{SCENARIO.name}, all on one core, microseconds of processor time for a request:")
                print(f"  1 process {cpu[0]:.1f}, {workers} processes {cpu[1]:.1f}, ratio {cpu[1] / cpu[0]:.3f}")
                cores = sorted(os.sched_getaffinity(0))
                if len(cores) >= workers + 2:
                    free = [core for core in cores if core != load_core]
                    for contender in both:
                        spread(contender.pids, free)
                    rps = medians(where, both, "rps")
                    print(f"{SCENARIO.name}, on {len(free)} cores, requests a second:")
                    print(f"  1 process {rps[0]:.0f}, {workers} processes {rps[1]:.0f}, ratio {rps[1] / rps[0]:.2f}")
                for contender in both:
                    sizes = [f"{own_megabytes(pid):.1f}" for pid in contender.pids]
                    print(f"memory of {contender.name} (PSS of each process, MB): {', '.join(sizes)}")


@contextmanager
def modelport(where: Range, workers: int) -> Iterator[Contender]:
    """With so many processes, all on the measured core."""
    name = f"{workers} process" + ("es" if workers > 1 else "")
    os.environ["MODELPORT_WORKERS"] = str(workers)
    folder = where.folder / str(workers)
    with contenders.ours(where.above, folder, where.measured_core, Path(sys.executable), name) as contender:
        yield contender


def medians(where: Range, both: Sequence[Contender], figure: str) -> list[float]:
    """One figure of each, over all rounds but those that somebody else's work has disturbed."""
    found: list[list[float]] = [[] for _ in both]
    disturbed = 0
    for number in range(where.rounds):
        results: list[dict[str, Any]] = [{}, {}]
        for index in range(len(both)) if number % 2 == 0 else reversed(range(len(both))):
            results[index] = Load(where, SCENARIO, both[index]).run(both[1 - index].pids)
            assert results[index]["failures"] == 0, results[index]
        if max(result["foreign_share"] for result in results) > FOREIGN_SHARE:
            disturbed += 1
            continue
        for values, result in zip(found, results, strict=True):
            values.append(result[figure])
    if disturbed:
        print(f"{disturbed} of {where.rounds} rounds were disturbed and are left out")
    if disturbed == where.rounds:
        raise SystemExit("the machine is too busy to measure anything")
    return [statistics.median(values) for values in found]


def spread(pids: Sequence[int], cores: Sequence[int]) -> None:
    """Lets processes, with all their threads, use these cores."""
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").glob("*"):
            os.sched_setaffinity(int(thread.name), cores)


def own_megabytes(pid: int) -> float:
    """Proportional set size of one process."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1000


if __name__ == "__main__":
    given = sys.argv[1:]
    main(
        int(given[0]) if given else 2,
        int(given[1]) if len(given) > 1 else 5,
        float(given[2]) if len(given) > 2 else 2.0,
    )
