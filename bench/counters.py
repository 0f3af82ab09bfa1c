"""User instructions: by the processor's own counters (`perf stat`) where it has any that we may use, else by callgrind.

The two differ by less than a per cent where both work; callgrind runs one thread at a time and some fifty times slower.
"""

from __future__ import annotations

import functools
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import machines, servers

EVENT = "instructions:u"
CALLGRIND = ("valgrind", "--tool=callgrind", "--separate-threads=yes")
ATTACH_SECONDS = 0.5
MISSING = "bench: nothing counts instructions here; on Debian: apt-get install valgrind (or linux-perf)"


@functools.cache
def mechanism() -> str:
    """`perf` or `callgrind`."""
    if shutil.which("perf") is not None:
        tried = subprocess.run(["perf", "stat", "-x,", "-e", EVENT, "true"], capture_output=True, text=True)
        if tried.returncode == 0 and perf_count(tried.stderr) > 0:
            return "perf"
    if shutil.which("valgrind") is None:
        raise SystemExit(MISSING)
    return "callgrind"


def of_command(command: Sequence[str], folder: Path, given: bytes = b"") -> int:
    """Of one command from its start to its end, with this for its input. Raises CalledProcessError."""
    silent: dict[str, Any] = {"input": given, "capture_output": True}
    if mechanism() == "perf":
        written = folder / "perf"
        subprocess.run(["perf", "stat", "-x,", "-e", EVENT, "-o", str(written), *command], check=True, **silent)
        return perf_count(written.read_text())
    output = f"--callgrind-out-file={folder}/of-command"
    subprocess.run([*CALLGRIND, output, *command], check=True, **silent)
    return sum(callgrind_totals(folder, "of-command"))


def serving(command: Sequence[str], folder: Path) -> list[str]:
    """The command, such that `between` can count it."""
    if mechanism() == "perf":
        return list(command)
    return [*CALLGRIND, "--instr-atstart=no", f"--callgrind-out-file={folder}/server", *command]


class Counted:
    """What was counted, once the block is over."""

    loop = 0
    """Of the thread that the process began with."""
    whole = 0
    """Of all threads; with `perf` also of all processes below."""


@contextmanager
def between(process_id: int, folder: Path) -> Iterator[Counted]:
    """Counts a server of `serving` from the block's beginning to its end."""
    counted = Counted()
    if mechanism() == "perf":
        below = ",".join(map(str, machines.tree(process_id)))
        with attached(("-t", str(process_id)), folder / "loop"), attached(("-p", below), folder / "whole"):
            yield counted
        counted.loop, counted.whole = (perf_count((folder / name).read_text()) for name in ("loop", "whole"))
        return
    for dump in folder.glob("server.[0-9]*"):
        dump.unlink()
    control(process_id, "-i", "on")
    try:
        yield counted
    finally:
        control(process_id, "-i", "off")
    control(process_id, "-d")
    totals = callgrind_totals(folder, "server")
    counted.loop, counted.whole = totals[0], sum(totals)


@contextmanager
def attached(where: tuple[str, str], output: Path) -> Iterator[None]:
    """perf, from outside."""
    process = subprocess.Popen(["perf", "stat", "-x,", "-e", EVENT, *where, "-o", str(output)])
    time.sleep(ATTACH_SECONDS)
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def perf_count(text: str) -> int:
    """From `perf stat -x,`; 0 where it could not count."""
    found = re.search(rf"^(\d+),[^,]*,{EVENT}", text, re.MULTILINE)
    return int(found[1]) if found is not None else 0


def control(process_id: int, *arguments: str) -> None:
    """Tells callgrind."""
    subprocess.run(["callgrind_control", *arguments, str(process_id)], check=True, capture_output=True)


def callgrind_totals(folder: Path, name: str) -> list[int]:
    """For each thread, the first one first. Waits until they are written."""
    deadline = time.monotonic() + servers.START_SECONDS
    while time.monotonic() < deadline:
        totals: Mapping[str, int] = {
            path.name: int(found[1])
            for path in sorted(folder.glob(f"{name}*"))
            if (found := re.search(r"^totals: (\d+)", path.read_text(errors="replace"), re.MULTILINE)) is not None
        }
        if any(totals.values()):
            return [count for count in totals.values() if count]
        time.sleep(0.2)
    raise SystemExit("bench: callgrind has written nothing")
