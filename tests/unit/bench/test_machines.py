"""What a bench does to the processes of the machine."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from bench import machines


@pytest.fixture
def sleepers() -> Iterator[list[subprocess.Popen[bytes]]]:
    processes = [subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) for _ in range(2)]
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def is_stopped(process: subprocess.Popen[bytes]) -> bool:
    return "State:\tT" in Path(f"/proc/{process.pid}/status").read_text()


def comes(process: subprocess.Popen[bytes], stopped: bool) -> bool:
    """Whether it comes to that: signals are delivered a little later."""
    deadline = time.monotonic() + 10
    while is_stopped(process) is not stopped and time.monotonic() < deadline:
        time.sleep(0.01)
    return is_stopped(process) is stopped


def test_who_is_not_measured_stands_still_until_the_block_ends(sleepers: list[subprocess.Popen[bytes]]) -> None:
    with machines.resting([process.pid for process in sleepers]):
        assert all(comes(process, stopped=True) for process in sleepers)
    assert all(comes(process, stopped=False) for process in sleepers)


def test_they_go_on_however_it_ends_and_whoever_is_gone(sleepers: list[subprocess.Popen[bytes]]) -> None:
    first, second = sleepers
    with suppress(ZeroDivisionError), machines.resting([first.pid, second.pid]):
        first.send_signal(signal.SIGKILL)
        first.wait()
        assert comes(second, stopped=True)
        raise ZeroDivisionError
    assert comes(second, stopped=False)


def test_idle_is_who_has_nothing_left_to_do(sleepers: list[subprocess.Popen[bytes]]) -> None:
    code = "import time\nwhile time.process_time() < 0.5: pass\ntime.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code]) as busy:
        machines.await_idle([busy.pid, sleepers[0].pid])
        # On a machine with other work the processor may be somebody else's for as long as it takes to seem idle.
        assert machines.cpu_seconds([busy.pid]) > 0
        busy.kill()
