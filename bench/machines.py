"""The machine: what it is, whose processor time is whose, and which core a process may use."""

from __future__ import annotations

import os
import platform
import sys
import sysconfig
from pathlib import Path
from typing import Any

TICKS = os.sysconf("SC_CLK_TCK")


def described() -> dict[str, Any]:
    """What a reader needs to compare two reports."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": sys.version.split()[0],
        "python_pgo": "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or ""),
    }


def tree(pid: int) -> list[int]:
    """A process and everything below it."""
    found = [pid]
    for thread in Path(f"/proc/{pid}/task").glob("*"):
        try:
            children = (thread / "children").read_text().split()
        except OSError:
            continue
        for child in children:
            found += tree(int(child))
    return found


def cpu_seconds(pid: int) -> float:
    """Processor time of a process tree so far, user and system."""
    total = 0.0
    for member in tree(pid):
        try:
            total += sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{member}/task").glob("*/schedstat"))
        except OSError:
            continue
    return total / 1e9


def resident_megabytes(pid: int) -> float:
    """Proportional set size of a process tree."""
    total = 0
    for member in tree(pid):
        try:
            lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1000


def pin(pid: int, core: int) -> None:
    """Keeps a process tree on one core, where there is more than one."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        for member in tree(pid):
            for thread in Path(f"/proc/{member}/task").glob("*"):
                os.sched_setaffinity(int(thread.name), {cores[core % len(cores)]})
