"""What the figures are held against, and by how much each is met or missed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bench.contenders import DIRECT, FLOOR, OURS, RELAY

LEAST_TIMES = {RELAY: 4.0, "rolter": 3.0, "smg": 3.0, "envoy": 1.3, "portkey": 30.0, "litellm": 100.0}
"""Requests per second of ours, as a multiple of each other's, at 1 KB."""
COMPARED = ("1 KB, 16 connections", "1 KB, 64 connections", "1 KB, 256 connections")
LARGE = "30 KB, 64 connections"


@dataclass(frozen=True)
class Height:
    """One figure and its bar. `is_least`: more is better."""

    what: str
    value: float
    bar: float
    is_least: bool

    @property
    def is_met(self) -> bool:
        return self.value >= self.bar if self.is_least else self.value <= self.bar

    def __str__(self) -> str:
        sign = "at least" if self.is_least else "at most"
        missed = abs(self.value - self.bar) / self.bar * 100 if self.bar else 100.0
        verdict = "met" if self.is_met else f"MISSED by {missed:.0f} %"
        return f"{self.what}: {self.value:.3g}, {sign} {self.bar:g}: {verdict}"


def against_nginx(processor: str) -> tuple[float, float]:
    """(1 KB, 30 KB): beside the kernel, interpreted code is dearer on the one kind of processor than on the other."""
    return (0.36, 0.25) if "Intel" in processor else (0.55, 0.35)


def heights(report: Mapping[str, Any]) -> Iterator[Height]:
    """Every bar that this report has the figure for."""
    rows = {scenario["name"]: scenario["contenders"] for scenario in report["scenarios"]}
    small, large = against_nginx(report["machine"]["processor"])
    compared = [rows[name][OURS] for name in COMPARED if name in rows and OURS in rows[name]]
    if compared:
        yield Height("1 KB, x nginx", min(row["rps_x_nginx"] for row in compared), small, True)
    for other, times in LEAST_TIMES.items():
        found = [row["rps_x"][other] for row in compared if other in row["rps_x"]]
        if found:
            yield Height(f"1 KB, x {other}", min(found), times, True)
    if LARGE in rows:
        yield Height("30 KB, x nginx", rows[LARGE][OURS]["rps_x_nginx"], large, True)
    for scenario in report["scenarios"]:
        ours = scenario["contenders"].get(OURS)
        if ours is not None:
            yield from _of(scenario, ours)
    if speed := report.get("tokens"):
        yield Height("tokens/s, x its worker alone", speed["ratio"], 0.97, True)
        crowd = speed["crowd"]
        yield Height("embedded streams that finished", crowd["finished"], crowd["streams"], True)
        yield Height("tokens/s among them, fastest x slowest", crowd["fastest_to_slowest"] or float("inf"), 1.5, False)


def _of(scenario: Mapping[str, Any], ours: Mapping[str, Any]) -> Iterator[Height]:
    rows = scenario["contenders"]
    if scenario["group"] == "latency" and FLOOR in rows and DIRECT in rows:
        times = ours["added_p50_us"] / max(rows[FLOOR]["added_p50_us"], 1.0)
        yield Height("added p50 at 500/s, x nginx", times, 2.0, False)
    if scenario["group"] == "streams" and scenario["name"].startswith("50 "):
        yield Height("CPU per event, x nginx", ours["cpu_us_per_event_x_nginx"], 1.7, False)
        yield Height("delay of an event p50, us", ours["chunk_p50_us"], 200, False)
        yield Height("added to the first event p50, us", ours["added_ttfb_p50_us"], 1500, False)
    if scenario["group"] == "memory":
        yield Height("KB for a silent stream", ours["kb_per_stream"], 20, False)
        yield Height("MB of one process", ours["base_mb"], 130, False)
