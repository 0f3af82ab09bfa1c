"""Runs of the load generator, in rounds that go through the contenders forwards and backwards in turn."""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench import contenders, machines, scenarios, servers
from bench.contenders import Contender
from bench.scenarios import Scenario

FOREIGN_SHARE = 0.15
"""Of a core: more work of others than this disturbs a run."""
TIMED = ("rps", "p50_us", "p90_us", "p99_us", "ttfb_p50_us", "ttfb_p99_us", "chunk_p50_us", "chunk_p99_us")
"""Figures that a disturbed run cannot give. Processor time it can."""
SUMMED = ("rps", "total", "chunks", "total_chunks", "errors", "unfinished", "failures")
"""Figures of loads that ran at the same time."""


@dataclass(frozen=True)
class Range:
    """Where measuring happens: the upstream, the cores, and how long."""

    above: servers.Upstream
    folder: Path
    measured_core: int
    load_core: int
    seconds: float
    rounds: int
    tell: Callable[[str], None] = print


class Load:
    """One run of the generator against one contender."""

    def __init__(self, where: Range, scenario: Scenario, contender: Contender) -> None:
        self.where = where
        self.scenario = scenario
        self.contender = contender
        door = contender.doors[scenario.door]
        body_file = where.folder / "body.json"
        body_file.write_bytes(scenario.body(door.model))
        self.seconds = max(where.seconds, scenario.least_seconds)
        self.command = [str(servers.compiled() / "lg"), "-p", str(door.port), "-u", door.path, "-b", str(body_file)]
        for header in door.headers:
            self.command += ["-H", header]
        self.command += ["-c", str(scenario.connections), "-d", str(self.seconds)]
        self.command += ["-w", str(scenario.warmup_seconds), "-g", str(int(scenario.spread_seconds * 1e6))]
        self.command += ["-s"] if scenario.streamed else []
        self.command += ["-k"] if scenario.churn else []
        self.command += ["-r", str(scenario.rate)] if scenario.rate else []

    def run(self, others: Sequence[int] = (), beside: Sequence[Load] = ()) -> dict[str, Any]:
        """The generator's figures, with the processor time that the contender took, and whose time else there was.
        `others`: processes that stand still meanwhile. `beside`: loads that run at the same time, counted with this
        one; the latencies are this one's alone."""
        where, ours = self.where, [pid for load in (self, *beside) for pid in load.contender.pids]
        upstream = [pid for process in where.above.processes for pid in machines.tree(process.pid)]
        with machines.resting(others):
            before = self._times(upstream, ours)
            with machines.on_core(where.load_core):
                running = [subprocess.Popen(load.command, stdout=subprocess.PIPE) for load in (self, *beside)]
            result, *more = [answered(process) for process in running]
            after = self._times(upstream, ours)
            machines.await_idle(ours)  # what the generator has given up is not left for its next turn
        for one in (result, *more):
            one["failures"] = self._failures(one)
        for one in more:
            for figure in SUMMED:
                result[figure] += one[figure]
        spent, measured_busy, load_busy, elapsed = (b - a for a, b in zip(before, after, strict=True))
        foreign = max(measured_busy, load_busy) / elapsed
        result["foreign_share"] = round(max(foreign, 0.0), 3)
        result["cpu_us"] = spent / max(result["total"], 1) * 1e6
        if self.scenario.streamed:
            result["cpu_us_per_event"] = spent / max(result["total_chunks"], 1) * 1e6
            result["events_per_second"] = result["chunks"] / result["seconds"]
        return result

    def _times(self, on_load: Sequence[int], ours: Sequence[int]) -> tuple[float, float, float, float]:
        """(the contender's processor time, what else each core did, the clock)."""
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        generator = usage.ru_utime + usage.ru_stime
        return (
            machines.cpu_seconds(ours),
            machines.busy_seconds(self.where.measured_core) - machines.cpu_seconds(ours),
            machines.busy_seconds(self.where.load_core) - machines.cpu_seconds(on_load) - generator,
            time.monotonic(),
        )

    def _failures(self, result: dict[str, Any]) -> int:
        wrong = sum(count for status, count in result["statuses"].items() if int(status) != self.scenario.status)
        return int(result["errors"] + result["unfinished"] + wrong)


def answered(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """What a generator says when it has ended. Raises CalledProcessError."""
    said, _ = process.communicate()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    figures: dict[str, Any] = json.loads(said)
    return figures


def measured(where: Range, scenario: Scenario, all_contenders: Sequence[Contender]) -> dict[str, Any] | None:
    """One scenario: every round, then medians. None where nobody has that door."""
    entered = [one for one in all_contenders if scenario.door in one.doors]
    if not scenario.with_direct:
        entered = [one for one in entered if one.process is not None]
    if not any(one.process is not None for one in entered):
        return None
    for one in entered:  # fills pools and caches
        Load(replace(where, seconds=0.2), replace(scenario, least_seconds=0, rate=0), one).run()
    rounds: list[dict[str, dict[str, Any]]] = []
    for number in range(where.rounds):
        results: dict[str, dict[str, Any]] = {}
        for one in entered if number % 2 == 0 else reversed(entered):
            others = [pid for other in all_contenders if other is not one for pid in other.pids]
            results[one.name] = Load(where, scenario, one).run(others)
        rounds.append(results)
    return summary(scenario, [one.name for one in entered], rounds)


def prices(where: Range, scenario: Scenario, variants: Sequence[Contender]) -> dict[str, Any]:
    """The same load on the same program with a part of it off; the first variant has everything on."""
    result = measured(where, scenario, variants)
    assert result is not None
    rows = result["contenders"]
    whole = rows[variants[0].name]
    for row in rows.values():
        row["rps_x_all"] = round(row["rps"] / whole["rps"], 3)
        row["cpu_us_saved"] = round(whole["cpu_us"] - row["cpu_us"], 1)
    return result


def summary(scenario: Scenario, names: Sequence[str], rounds: Sequence[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Medians over the rounds, and ratios to the floor within the round. Times come from undisturbed runs alone,
    unless there are fewer than two of them: then from all, and `disturbed` says so."""
    rows = {}
    for name in names:
        runs = [results[name] for results in rounds]
        calm = [run for run in runs if run["foreign_share"] <= FOREIGN_SHARE]
        disturbed = len(calm) < min(2, len(runs))
        row: dict[str, Any] = {
            "runs": len(runs),
            "calm_runs": len(calm),
            "disturbed": disturbed,
            "failures": sum(run["failures"] for run in runs),
        }
        for figure in TIMED:
            row[figure] = middle(run[figure] for run in (runs if disturbed else calm))
        for figure in ("cpu_us", "cpu_us_per_event", "events_per_second"):
            if figure in runs[0]:
                row[figure] = middle(run[figure] for run in runs)
        row |= ratios(name, contenders.FLOOR, rounds, "x_nginx")
        if name == contenders.OURS:
            row["rps_x"] = {
                other: found["rps_x"]
                for other in names
                if other not in (name, contenders.DIRECT) and not any(r[other]["failures"] for r in rounds)
                if (found := ratios(name, other, rounds, "x"))
            }
        if contenders.DIRECT in names and name != contenders.DIRECT:
            for figure in ("p50_us", "ttfb_p50_us", "chunk_p50_us"):
                added = [results[name][figure] - results[contenders.DIRECT][figure] for results in rounds]
                row[f"added_{figure}"] = round(statistics.median(added), 1)
        rows[name] = row
    return {
        "name": scenario.name,
        "group": scenario.group,
        "connections": scenario.connections,
        "rounds": len(rounds),
        "contenders": rows,
    }


def ratios(name: str, floor: str, rounds: Sequence[dict[str, dict[str, Any]]], suffix: str) -> dict[str, float]:
    """Within the round, then the median: rps from rounds where neither was disturbed, processor time from all. Where
    the other has answered nothing there is no ratio."""
    pairs = [(results[name], results[floor]) for results in rounds if floor in results and results[floor]["rps"]]
    if not pairs or name in (floor, contenders.DIRECT):
        return {}
    calm = [(one, other) for one, other in pairs if max(one["foreign_share"], other["foreign_share"]) <= FOREIGN_SHARE]
    found = {f"rps_{suffix}": quotient("rps", calm if len(calm) > 1 else pairs)}
    for figure in ("cpu_us", "cpu_us_per_event", "events_per_second"):
        if figure in pairs[0][0] and pairs[0][1][figure]:
            found[f"{figure}_{suffix}"] = quotient(figure, pairs)
    return found


def quotient(figure: str, pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> float:
    """The median of the quotients."""
    return round(float(statistics.median(one[figure] / other[figure] for one, other in pairs if other[figure])), 4)


def middle(values: Any) -> float:
    """The median, to a tenth."""
    return round(float(statistics.median(values)), 1)


def idle_streams(where: Range, all_contenders: Sequence[Contender]) -> dict[str, Any]:
    """Memory of each contender before and while a thousand streams are open and silent."""
    scenario = scenarios.IDLE
    rows = {}
    for one in all_contenders:
        if one.process is None or scenario.door not in one.doors:
            continue
        base = machines.resident_megabytes(one.pids)
        load = Load(replace(where, seconds=4), scenario, one)
        with machines.on_core(where.load_core), subprocess.Popen(load.command, stdout=subprocess.PIPE) as generator:
            time.sleep(3.5)
            held = machines.resident_megabytes(one.pids)
            assert generator.stdout is not None
            result = json.loads(generator.stdout.read())
        opened = result["total_chunks"]
        row: dict[str, Any] = {"base_mb": round(base, 1), "streams": opened, "failures": scenario.connections - opened}
        row["kb_per_stream"] = round((held - base) * 1000 / opened, 1) if opened else None
        rows[one.name] = row
    return {"name": f"{scenario.connections} {scenario.name}", "group": scenario.group, "contenders": rows}
