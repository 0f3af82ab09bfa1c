"""A real worker process with real weights, for the tests that need one; started once and shared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from modelport.engine.local_http import LocalHttp
from modelport.engine.weights import locate

SECRET = "a-secret-of-the-tests"


def find_weights(name: str, pattern: str) -> Path:
    """The model's GGUF file, or a skip that says how to get it."""
    folder = os.environ.get("MODELPORT_TEST_WEIGHTS")
    if folder:
        found = next(iter(sorted(Path(folder).glob(pattern))), None)
    else:
        data_dir = os.environ.get("MODELPORT_DATA_DIR", "~/.local/share/modelport")
        found = locate(name, Path(data_dir).expanduser())
    if found is None:
        pytest.skip(f"no weights: `modelport models pull {name}`, or MODELPORT_TEST_WEIGHTS=FOLDER with {pattern}")
    return found


@contextmanager
def running_worker(weights: Path, **options: Any) -> Iterator[LocalHttp]:
    """A worker that is ready."""
    with tempfile.TemporaryDirectory() as folder:
        socket_path = Path(folder) / "worker.sock"
        # One thread: beside other tests, threads that wait for each other burn what they wait for.
        given = {
            "socket": str(socket_path),
            "secret": SECRET,
            "options": {"weights": str(weights), "threads": 1, **options},
        }
        command = [sys.executable, "-m", "modelport.engine.worker", "--backend", "llama_cpp"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(json.dumps(given).encode() + b"\n")
            process.stdin.flush()
            try:
                assert json.loads(process.stdout.readline())["state"] == "ready"
                yield LocalHttp(socket_path, SECRET)
            finally:
                process.terminate()
                process.wait(30)
