"""Hours of mixed load: whole answers, streams, new connections, callers that hang up, an upstream with faults.

python -m bench.soak [--minutes 10] [--python PATH]

Samples memory and file descriptors. Fails when memory grows by more than 2 MB after the first 40 % of the
run (by more than 1 MB an hour, where the run is two hours or longer), when descriptors do not come back to where they
were, or when an answer is not the one that its request had to get.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import contenders, interpreters, machines, report, scenarios, servers
from bench.contenders import Contender
from bench.scenarios import Scenario

RESULTS = Path(__file__).parent / "results" / "local"
CYCLE_SECONDS = 10.0
SAMPLE_SECONDS = 2.0
SETTLED_SHARE = 0.4
GROWTH_MB = 2.0
LONG_RUN_HOURS = 2.0
SLOPE_MB_PER_HOUR = 1.0
SPARE_DESCRIPTORS = 8
ALL = frozenset(range(100, 600))


@dataclass(frozen=True)
class Traffic:
    """One kind of caller, and which answers it may get."""

    scenario: Scenario
    statuses: frozenset[int] = frozenset({200})
    hang_up_share: float = 0.0
    may_break: bool = False
    """The upstream breaks its streams, so ours end early, too."""


def kind(name: str, connections: int, **fields: Any) -> Scenario:
    """A scenario for a soak: slow enough that all of them fit beside each other."""
    return Scenario(name, "soak", connections, warmup_seconds=0, **fields)


# A reply of the upstream that is no answer becomes a 502; one that does not come, a 408 or 504; its 429 stays one.
UPSTREAM_BROKE = frozenset({500, 502, 503, 504})
TRAFFIC = (
    Traffic(kind("whole answers", 8, rate=200)),
    Traffic(kind("large requests", 4, rate=20, turns=scenarios.LARGE_TURNS)),
    Traffic(kind("paced streams", 30, streamed=True, door="stream", habit="mock:every=10000")),
    Traffic(kind("streams without pauses", 2, streamed=True, door="stream")),
    Traffic(kind("new connections", 2, churn=True, rate=50)),
    Traffic(kind("hang-ups in streams", 8, streamed=True, door="stream", habit="mock:every=5000"), hang_up_share=0.5),
    Traffic(kind("hang-ups of whole answers", 2), hang_up_share=0.5),
    Traffic(kind("TLS upstream", 2, door="tls", rate=20)),
    Traffic(kind("wrong keys", 1, door="401", rate=20), frozenset({401})),
    Traffic(kind("unknown deployments", 1, door="404", rate=20), frozenset({404})),
    Traffic(kind("invalid parameters", 1, door="422", status=422, rate=20), frozenset({422})),
    Traffic(kind("quota used up", 1, door="429", rate=20), frozenset({200, 429})),  # one a minute
    Traffic(kind("upstream says 500", 2, habit="mock:500", rate=20), UPSTREAM_BROKE),
    Traffic(kind("upstream says 429", 2, habit="mock:429", rate=20), frozenset({429})),
    Traffic(kind("upstream resets", 2, habit="mock:reset", rate=20), UPSTREAM_BROKE),
    Traffic(kind("upstream cuts answers", 2, habit="mock:cut", rate=20), UPSTREAM_BROKE),
    Traffic(kind("upstream ends by closing", 2, habit="mock:eof", rate=20)),
    Traffic(kind("upstream sends garbage", 2, habit="mock:garbage", rate=20), UPSTREAM_BROKE),
    Traffic(
        kind("upstream cuts streams", 2, habit="mock:cut", streamed=True, door="stream", rate=10),
        UPSTREAM_BROKE | {200},
        may_break=True,
    ),
    Traffic(
        kind("upstream garbles streams", 2, habit="mock:garbage", streamed=True, door="stream", rate=10),
        UPSTREAM_BROKE | {200},
        may_break=True,
    ),
)


@dataclass
class Observed:
    """What has been seen so far."""

    begun: float
    samples: list[tuple[float, float, int]] = field(default_factory=list)
    """(seconds since the start, MB of memory, descriptors)"""
    answers: dict[str, Counter[str]] = field(default_factory=dict)
    unexplained: Counter[str] = field(default_factory=Counter)


def main() -> None:
    """Runs, judges, writes; the exit status is 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--python", help="the interpreter that runs modelport; gets an environment of its own")
    parser.add_argument("--name", default="soak", help="of the file of results")
    wanted = parser.parse_args()
    machines.allow_many_files()
    python = interpreters.prepared(wanted.python)
    core, load_core = machines.cores()
    with tempfile.TemporaryDirectory(prefix="modelport-soak-") as name:
        folder = Path(name)
        with (
            servers.upstream(folder / "upstream", load_core) as above,
            contenders.ours(above, folder / "modelport", core, python) as ours,
        ):
            observed = soaked(ours, folder, load_core, wanted.minutes * 60)
            log = (folder / "modelport" / "server.log").read_text(errors="replace")
    found = verdict(observed, wanted.minutes / 60, log)
    found = {
        "machine": machines.described(),
        "python": interpreters.described(python),
        "minutes": wanted.minutes,
    } | found
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{wanted.name}.json").write_text(json.dumps(found, indent=2) + "\n")
    print(told(found))
    sys.exit(0 if not found["faults"] else 1)


def soaked(ours: Contender, folder: Path, load_core: int, seconds: float) -> Observed:
    """Keeps every kind of traffic going for so long."""
    observed = Observed(time.monotonic())
    bodies = {traffic.scenario.name: folder / f"body-{number}.json" for number, traffic in enumerate(TRAFFIC)}
    over = threading.Event()
    watcher = threading.Thread(target=watched, args=(ours, observed, over))
    watcher.start()
    try:
        while (elapsed := time.monotonic() - observed.begun) < seconds:
            span = min(CYCLE_SECONDS, max(seconds - elapsed, 1.0))
            cycle(ours, bodies, load_core, span, observed)
            if ours.process is not None and ours.process.poll() is not None:
                observed.unexplained[f"the server ended with status {ours.process.returncode}"] += 1
                break
            rate = sum(sum(counts.values()) for counts in observed.answers.values()) / (
                time.monotonic() - observed.begun
            )
            sys.stderr.write(f"soak: {elapsed + span:.0f} s, {rate:.0f} answers/s, {tail(observed)}\n")
    finally:
        over.set()
        watcher.join()
    return observed


def tail(observed: Observed) -> str:
    """The newest sample, in words."""
    if not observed.samples:
        return ""
    _, megabytes, descriptors = observed.samples[-1]
    return f"{megabytes:.1f} MB, {descriptors} descriptors, {sum(observed.unexplained.values())} unexplained"


def watched(ours: Contender, observed: Observed, over: threading.Event) -> None:
    """Samples until it is over."""
    assert ours.process is not None
    while not over.wait(SAMPLE_SECONDS):
        pid = ours.process.pid
        moment = time.monotonic() - observed.begun
        observed.samples.append((moment, machines.own_megabytes(ours.pids), machines.open_files(pid)))


def cycle(ours: Contender, bodies: Mapping[str, Path], load_core: int, seconds: float, observed: Observed) -> None:
    """One stretch of all kinds of traffic at once."""
    running: list[tuple[Traffic, subprocess.Popen[bytes]]] = []
    with machines.on_core(load_core):
        for traffic in TRAFFIC:
            command = generator(traffic, ours, bodies[traffic.scenario.name], seconds)
            running.append((traffic, subprocess.Popen(command, stdout=subprocess.PIPE)))
    for traffic, process in running:
        text, _ = process.communicate()
        name = traffic.scenario.name
        if process.returncode:
            observed.unexplained[f"{name}: the load generator ended with status {process.returncode}"] += 1
            continue
        result = json.loads(text)
        observed.answers.setdefault(name, Counter()).update(result["statuses"])
        observed.unexplained.update({f"{name}: {what}": count for what, count in unexplained(traffic, result).items()})


def generator(traffic: Traffic, ours: Contender, body_file: Path, seconds: float) -> list[str]:
    """The load generator's command for one kind of traffic."""
    scenario = traffic.scenario
    door = ours.doors[scenario.door]
    body_file.write_bytes(scenarios.body(scenario, door.model))
    command = [str(servers.compiled() / "lg"), "-p", str(door.port), "-u", door.path, "-b", str(body_file)]
    for header in door.headers:
        command += ["-H", header]
    command += ["-c", str(scenario.connections), "-d", str(seconds), "-w", "0", "-g", "1000000"]
    command += ["-s"] if scenario.streamed else []
    command += ["-k"] if scenario.churn else []
    command += ["-r", str(scenario.rate)] if scenario.rate else []
    return [*command, *(["-x", str(traffic.hang_up_share)] if traffic.hang_up_share else [])]


def unexplained(traffic: Traffic, result: Mapping[str, Any]) -> Counter[str]:
    """What came of the traffic that its own doing and the upstream's do not explain."""
    found: Counter[str] = Counter()
    for status, count in result["statuses"].items():
        if int(status) not in traffic.statuses:
            found[f"answered {status}"] = count
    if not traffic.may_break:
        found["connections that broke"] = result["errors"]
        found["streams without an end"] = result["unfinished"]
    found["requests that hang"] = int(result["oldest_us"] > CYCLE_SECONDS * 1e6)
    return +found


def verdict(observed: Observed, hours: float, log: str) -> dict[str, Any]:
    """What was seen, and what of it must not be."""
    settled = [sample for sample in observed.samples if sample[0] >= hours * 3600 * SETTLED_SHARE]
    growth, slope = grown(settled)
    first = [descriptors for _, _, descriptors in settled[:5]]
    last = [descriptors for _, _, descriptors in settled[-5:]]
    faults = [f"{count} x {what}" for what, count in observed.unexplained.items()]
    if not settled:
        faults.append("no samples")
    elif hours >= LONG_RUN_HOURS and slope > SLOPE_MB_PER_HOUR:
        faults.append(f"memory grows by {slope:.2f} MB an hour")
    elif hours < LONG_RUN_HOURS and growth > GROWTH_MB:
        faults.append(f"memory grew by {growth:.2f} MB")
    if settled and min(last) > max(first) + SPARE_DESCRIPTORS:
        faults.append(f"file descriptors grew from {max(first)} to {min(last)}")
    tracebacks = log.count("Traceback")
    if tracebacks:
        faults.append(f"{tracebacks} tracebacks in the log")
    return {
        "growth_mb": round(growth, 2),
        "slope_mb_per_hour": round(slope, 2),
        "memory_mb": [round(megabytes, 1) for _, megabytes, _ in observed.samples],
        "descriptors": [descriptors for _, _, descriptors in observed.samples],
        "answers": {name: dict(counts) for name, counts in observed.answers.items()},
        "faults": faults,
    }


def grown(settled: Sequence[tuple[float, float, int]]) -> tuple[float, float]:
    """(MB between the first and the last tenth of the samples, the slope of all in MB an hour)."""
    if len(settled) < 2:
        return 0.0, 0.0
    tenth = max(len(settled) // 10, 1)
    megabytes = [sample[1] for sample in settled]
    growth = statistics.median(megabytes[-tenth:]) - statistics.median(megabytes[:tenth])
    moments = [sample[0] for sample in settled]
    return growth, statistics.linear_regression(moments, megabytes).slope * 3600


def told(found: Mapping[str, Any]) -> str:
    """The verdict in words."""
    lines = [f"{name:<28} {json.dumps(counts)}" for name, counts in found["answers"].items()]
    lines.append(
        f"memory {found['memory_mb'][0] if found['memory_mb'] else 0:.1f} MB at first, growth after the first part "
        f"{report.number(found['growth_mb'])} MB, slope {report.number(found['slope_mb_per_hour'])} MB/h"
    )
    lines += [f"fault: {fault}" for fault in found["faults"]] or ["nothing unexplained"]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
