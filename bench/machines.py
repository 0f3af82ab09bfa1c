"""The machine: what it is, whose processor time is whose, and which core a process may use."""

from __future__ import annotations

import os
import platform
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

GLANCE_SECONDS = 0.03
IDLE_SHARE = 0.1
PATIENCE_SECONDS = 5.0
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
BUSY_FIELDS = (0, 1, 2, 5, 6, 7)
"""Of a line of /proc/stat: user, nice, system, irq, softirq, steal."""


def described() -> dict[str, Any]:
    """What a reader needs to compare two reports. No name of this machine and no path on it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    memory = Path("/proc/meminfo").read_text().split("MemTotal:")[1].split()[0]
    return {
        "processor": fields.get("model name") or platform.processor() or platform.machine(),
        "family_model": f"{fields.get('cpu family', '?')}/{fields.get('model', '?')}",
        "cores": len(os.sched_getaffinity(0)),
        "virtual": "hypervisor" in fields.get("flags", "").split(),
        "memory_gb": round(int(memory) / 1e6, 1),
        "kernel": platform.release(),
        "libc": " ".join(platform.libc_ver()),
    }


def cores() -> tuple[int, int]:
    """(the core of what is measured, the core of the load): not two threads of one core, where there is a choice."""
    allowed = sorted(os.sched_getaffinity(0))
    measured = allowed[0]
    siblings = _siblings(measured)
    others = [core for core in allowed[1:] if core not in siblings] or allowed[1:] or allowed
    return measured, others[0]


def _siblings(core: int) -> set[int]:
    try:
        text = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list").read_text().strip()
    except OSError:
        return {core}
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Processes started within the block live on this core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def resting(pids: Sequence[int]) -> Iterator[None]:
    """These processes stand still within the block: what an idle one does now and then is nobody's disturbance."""
    try:
        told(pids, signal.SIGSTOP)
        yield
    finally:
        told(pids, signal.SIGCONT)


def await_idle(pids: Sequence[int]) -> None:
    """Until they have done what was asked of them, or as good as, or will not within seconds."""
    deadline, before = time.monotonic() + PATIENCE_SECONDS, cpu_seconds(pids)
    while time.monotonic() < deadline:
        time.sleep(GLANCE_SECONDS)
        after = cpu_seconds(pids)
        if after - before < IDLE_SHARE * GLANCE_SECONDS:
            return
        before = after


def told(pids: Sequence[int], number: signal.Signals) -> None:
    """Sends it to all that are still there."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def allow_many_files() -> None:
    """As many open files as the machine lets us have; children inherit it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def end_with_children() -> None:
    """Who is told to end (SIGTERM) ends what it has started, unless it has its own way."""
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


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


def cpu_seconds(pids: Iterable[int]) -> float:
    """Processor time so far of these processes, user and system."""
    total = 0
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").glob("*"):
            try:
                total += int((thread / "schedstat").read_text().split()[0])
            except OSError:
                continue
    return total / 1e9


def busy_seconds(core: int) -> float:
    """How long a core has been at work, for whomever; time stolen by the host counts."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name == f"cpu{core}":
            return sum(int(fields[index]) for index in BUSY_FIELDS) / TICKS_PER_SECOND
    return 0.0


def resident_megabytes(pids: Iterable[int]) -> float:
    """Proportional set size of these processes together."""
    return megabytes(pids, "Pss:")


def own_megabytes(pids: Iterable[int]) -> float:
    """What these processes have written to memory. Their proportional set size grows, too, when somebody ends who has
    used the same libraries."""
    return megabytes(pids, "Anonymous:")


def megabytes(pids: Iterable[int], what: str) -> float:
    """One line of smaps_rollup, of all that are still there."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith(what))
    return total / 1000


def open_files(pid: int) -> int:
    """File descriptors of a process tree."""
    total = 0
    for member in tree(pid):
        try:
            total += sum(1 for _ in Path(f"/proc/{member}/fd").iterdir())
        except OSError:
            continue
    return total
