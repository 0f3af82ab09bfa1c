"""Weights that the engine cannot load: the worker says why."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from running_worker import SECRET, find_weights

pytestmark = pytest.mark.embedded


def reason(weights: Path, folder: Path) -> str:
    """What the worker reports of these weights."""
    given = {"socket": str(folder / "worker.sock"), "secret": SECRET, "options": {"weights": str(weights)}}
    command = [sys.executable, "-m", "modelport.engine.worker", "--backend", "llama_cpp"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(given).encode() + b"\n")
        process.stdin.flush()  # and left open: a worker ends with its owner
        report = json.loads(process.stdout.readline())
    assert report["state"] == "failed"
    return str(report["reason"])


def test_a_chat_template_that_is_broken_is_named(tmp_path: Path) -> None:
    whole = find_weights("smollm2-135m-instruct", "*[sS]mol[lL][mM]2*.gguf").read_bytes()
    at = whole.index(b"endfor", whole.index(b"tokenizer.chat_template"))
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(whole[:at] + b"endfoo" + whole[at + 6 :])
    said = reason(broken, tmp_path)
    assert "chat_template" in said
    assert "endfoo" in said
