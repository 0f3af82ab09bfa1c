"""One process that serves against several: processor time for a request with all of them on one core, requests a second
where there are cores enough, memory of each process. Beside them, as the floor of the first figure, as many servers
that know nothing of each other: what they take more than one is the price of sharing a core and its caches. Prints;
nothing is asserted.

python -m bench.processes [WORKERS] [ROUNDS] [SECONDS]
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench import contenders, machines, scenarios, servers
from bench.contenders import Contender
from bench.rounds import FOREIGN_SHARE, Load, Range

CONNECTIONS = 64
SCENARIO = scenarios.whole(CONNECTIONS)


def main(workers: int, rounds: int, seconds: float) -> None:
    """Interleaved rounds, medians."""
    print(", ".join(f"{key} {value}" for key, value in machines.described().items()))
    measured_core, load_core = machines.cores()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        above = stack.enter_context(servers.upstream(folder, load_core))
        where = Range(above, folder, measured_core, load_core, seconds, rounds)
        one, several = (stack.enter_context(modelport(where, count, f"{count}-workers")) for count in (1, workers))
        others = [stack.enter_context(modelport(where, 1, f"other-{number}")) for number in range(1, workers)]
        sides = [[one], [several], [one, *others]]
        for side in sides:
            figures(where, side, ())
        cpu = medians(where, sides, "cpu_us")
        print(f"\n{SCENARIO.name}, all on one core, microseconds of processor time for a request:")
        print(f"  1 process {cpu[0]:.1f}")
        print(f"  {workers} workers of one server {cpu[1]:.1f}, ratio {cpu[1] / cpu[0]:.3f}")
        print(f"  {workers} servers of one process {cpu[2]:.1f}, ratio {cpu[2] / cpu[0]:.3f}")
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) >= workers + 2:
            free = [core for core in cores if core != load_core]
            for side in sides[:2]:
                spread(side[0].pids, free)
            rps = medians(where, sides[:2], "rps")
            print(f"{SCENARIO.name}, on {len(free)} cores, requests a second:")
            print(f"  1 process {rps[0]:.0f}, {workers} workers {rps[1]:.0f}, ratio {rps[1] / rps[0]:.2f}")
        for contender in (one, several):
            sizes = [f"{machines.resident_megabytes([pid]):.1f}" for pid in contender.pids]
            print(f"memory of {contender.name} (PSS of each process, MB): {', '.join(sizes)}")


@contextmanager
def modelport(where: Range, workers: int, folder: str) -> Iterator[Contender]:
    """With so many processes, all on the measured core."""
    name = f"{workers} process" + ("es" if workers > 1 else "")
    os.environ["MODELPORT_WORKERS"] = str(workers)
    with contenders.ours(
        where.above, where.folder / folder, where.measured_core, Path(sys.executable), name
    ) as contender:
        yield contender


def medians(where: Range, sides: Sequence[Sequence[Contender]], figure: str) -> list[float]:
    """One figure of each side, over all rounds but those that somebody else's work has disturbed."""
    found: list[list[float]] = [[] for _ in sides]
    everybody = {pid for side in sides for contender in side for pid in contender.pids}
    disturbed = 0
    for number in range(where.rounds):
        results: list[dict[str, Any]] = [{} for _ in sides]
        for index in range(len(sides)) if number % 2 == 0 else reversed(range(len(sides))):
            own = {pid for contender in sides[index] for pid in contender.pids}
            results[index] = figures(where, sides[index], list(everybody - own))
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


def figures(where: Range, side: Sequence[Contender], others: Sequence[int]) -> dict[str, Any]:
    """One run of all servers of a side at once, with equal shares of the connections."""
    scenario = scenarios.whole(CONNECTIONS // len(side))
    result = Load(where, scenario, side[0]).run(others, beside=[Load(where, scenario, one) for one in side[1:]])
    assert result["failures"] == 0, result
    return result


def spread(pids: Sequence[int], cores: Sequence[int]) -> None:
    """Lets processes, with all their threads, use these cores."""
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").glob("*"):
            os.sched_setaffinity(int(thread.name), cores)


if __name__ == "__main__":
    given = sys.argv[1:]
    main(
        int(given[0]) if given else 2,
        int(given[1]) if len(given) > 1 else 5,
        float(given[2]) if len(given) > 2 else 2.0,
    )
