"""A server that can record no call answers none: then it is not ready, says why, and is ready again by itself."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from served import Served, eventually, serve
from worker_processes import workers_of

CONFIG: dict[str, Any] = {
    "deployments": {"script": {"model": {"name": "script"}, "provider": {"type": "scripted"}, "default": True}},
    "keys": {"team": {"key1": "env:TEAM_KEY"}},
}
TEAM = "teams-key-7c1e02"


def readiness(served: Served, key: str | None = None) -> tuple[int, list[dict[str, Any]]]:
    answer = served.call("GET", "/health/ready", key=key or served.key)
    return answer.status, [s for s in answer.json.get("stores", ()) if s["name"].startswith("journal")]


def all_say(served: Served, status: int) -> bool:
    """Each connection may be another worker's."""
    return all(readiness(served)[0] == status for _ in range(8))


def limited(process_id: int, bytes: int) -> None:
    resource.prlimit(process_id, resource.RLIMIT_FSIZE, (bytes, resource.RLIM_INFINITY))


def test_a_write_that_fails_makes_the_server_unready_until_writes_succeed(data_dir: Path) -> None:
    with serve(CONFIG, data_dir, TEAM_KEY=TEAM) as served:
        served.ready()
        assert served.chat().status == 200
        limited(served.process.pid, 1)
        assert served.chat().status == 503
        status, (journal,) = readiness(served)
        assert (status, journal["state"]) == (503, "gone")
        assert "calls are refused" in journal["reason"]
        assert "File too large" in journal["reason"]
        assert readiness(served, TEAM) == (503, [])
        assert served.call("GET", "/health/ready", key=None).json == {"status": "not_ready"}
        assert served.call("GET", "/health/live").status == 200
        assert served.call("GET", "/health").status == 200
        limited(served.process.pid, resource.RLIM_INFINITY)
        status, (journal,) = readiness(served)  # no call was needed
        assert (status, journal["state"]) == (200, "ready")
        assert served.chat().status == 200
        served.terminate()
        assert served.ended() == 0
        assert [record.status for record in served.journal()] == [200, 503, 200]


def test_one_worker_that_cannot_write_is_seen_in_all_of_them(data_dir: Path) -> None:
    with serve({**CONFIG, "server": {"workers": 3}}, data_dir, TEAM_KEY=TEAM) as served:
        served.ready()
        victim = workers_of(served)[0]
        limited(victim, 1)
        eventually(lambda: any(served.chat().status == 503 for _ in range(12)), "the worker refuses a call")
        eventually(lambda: all_say(served, 503), "every worker says that one is not ready")
        assert readiness(served)[1][0]["reason"] or readiness(served)[1][1]["reason"]
        limited(victim, resource.RLIM_INFINITY)
        eventually(lambda: all_say(served, 200), "every worker says that all are ready")
        assert all(served.chat().status == 200 for _ in range(8))


def test_a_journal_that_was_removed_refuses_calls_and_says_so(data_dir: Path) -> None:
    with serve(CONFIG, data_dir, TEAM_KEY=TEAM) as served:
        served.ready()
        assert served.chat().status == 200
        shutil.rmtree(data_dir / "journal")
        status, (journal,) = readiness(served)
        assert (status, journal["state"]) == (503, "gone")
        assert "its file was removed" in journal["reason"]
        eventually(lambda: served.chat().status == 503, "calls that nobody records are refused")
        assert served.call("GET", "/health/live").status == 200


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte. Skips where none can be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", "-l", place], check=False)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_noticed_before_any_call(small_disk: Path, workers: int) -> None:
    with serve({**CONFIG, "server": {"workers": workers}}, small_disk / "data", TEAM_KEY=TEAM) as served:
        served.ready()
        fill = small_disk / "fill"
        with fill.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
            while file.write(b"x" * 4096):
                pass
        eventually(lambda: all_say(served, 503), "every worker is not ready")
        assert "No space left on device" in readiness(served)[1][0]["reason"]
        fill.unlink()
        eventually(lambda: all_say(served, 200), "every worker is ready")
        assert served.chat().status == 200
        os.kill(served.process.pid, signal.SIGTERM)
        assert served.ended() == 0
