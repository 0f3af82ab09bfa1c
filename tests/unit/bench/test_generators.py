"""The load generator and the mock upstream, built from their sources and set upon each other."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench import servers

pytestmark = pytest.mark.skipif(shutil.which("cc") is None and shutil.which("gcc") is None, reason="no C compiler")


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    command = [str(servers.compiled() / "mock"), "-p", "0", "-n", "20"]
    with servers.running(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())


def load(port: int, folder: Path, text: str, *options: str) -> dict[str, Any]:
    body = folder / "body.json"
    body.write_text(json.dumps({"text": text, "stream": "-s" in options}, separators=(",", ":")))
    command = [str(servers.compiled() / "lg"), "-p", str(port), "-b", str(body), "-c", "4", "-d", "20", "-w", "0"]
    done = subprocess.run([*command, *options], capture_output=True, check=True, timeout=60)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_whole_answers_are_counted(port: int, tmp_path: Path) -> None:
    found = load(port, tmp_path, "hello", "-n", "500")
    assert found["total"] >= 500
    assert found["statuses"] == {"200": found["requests"]}
    assert (found["errors"], found["unfinished"], found["dials"]) == (0, 0, 4)
    assert 0 < found["p50_us"] <= found["p99_us"]


def test_every_event_of_a_stream_is_found(port: int, tmp_path: Path) -> None:
    found = load(port, tmp_path, "hello", "-n", "100", "-s")
    assert (found["errors"], found["unfinished"]) == (0, 0)
    assert 20 * found["total"] <= found["total_chunks"] <= 20 * (found["total"] + 4)


def test_churn_dials_for_each_request(port: int, tmp_path: Path) -> None:
    found = load(port, tmp_path, "hello", "-n", "200", "-k")
    assert found["errors"] == 0
    assert found["dials"] >= 200


def test_an_open_loop_keeps_its_rate_whatever_comes_back(port: int, tmp_path: Path) -> None:
    found = load(port, tmp_path, "hello", "-n", "50", "-r", "2000")
    assert found["total"] >= 50
    assert found["errors"] == 0


def test_hang_ups_are_no_errors(port: int, tmp_path: Path) -> None:
    found = load(port, tmp_path, "hello", "-n", "100", "-s", "-x", "0.5")
    assert found["hang_ups"] > 0
    assert found["errors"] == 0


@pytest.mark.parametrize("status", ["429", "500"])
def test_the_mock_refuses_when_told(port: int, tmp_path: Path, status: str) -> None:
    assert set(load(port, tmp_path, f"mock:{status}", "-n", "20")["statuses"]) == {status}


def test_an_answer_that_ends_with_its_connection_is_whole(port: int, tmp_path: Path) -> None:
    found = load(port, tmp_path, "mock:eof", "-n", "20")
    assert (set(found["statuses"]), found["errors"]) == ({"200"}, 0)


@pytest.mark.parametrize("habit", ["reset", "cut"])
@pytest.mark.parametrize("kind", [[], ["-s"]])
def test_answers_that_break_off_are_errors(port: int, tmp_path: Path, habit: str, kind: list[str]) -> None:
    found = load(port, tmp_path, f"mock:{habit}", "-d", "0.2", *kind)
    assert found["errors"] > 0
    assert found["statuses"] == {}
