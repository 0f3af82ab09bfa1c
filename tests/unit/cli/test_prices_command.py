"""`modelport prices`, as an operator uses it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from modelport.cli.main import app
from modelport.cli.output import ExitCode

CONFIG = """
providers:
  azure: {type: openai_compatible, base_url: "https://contoso.openai.azure.com/openai/v1"}
  lab: {type: openai_compatible, base_url: "http://127.0.0.1:9000/v1"}
deployments:
  chat: {model: {format: OpenAI, name: gpt-5.5}, provider: azure}
  own: {model: {name: my-model}, provider: lab}
  worker: {model: {name: other}, provider: lab}
"""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MODELPORT_CONFIG", raising=False)
    (tmp_path / "modelport.yaml").write_text(CONFIG)
    return tmp_path


def run(*arguments: str, code: int = ExitCode.OK) -> Any:
    result = CliRunner().invoke(app, ["prices", *arguments])
    assert result.exit_code == code, result.output
    return result


def test_the_deployments_are_shown_with_their_tiers_and_what_is_unknown(directory: Path) -> None:
    (directory / "prices.yaml").write_text("prices: [{deployment: worker, per_hour: '1.5', places: 4}]")
    with (directory / "modelport.yaml").open("a") as file:
        file.write("prices: {file: prices.yaml}\n")
    said = json.loads(run("show", "--config", str(directory / "modelport.yaml"), "--json").stdout)
    assert (said["currency"], len(said["version"])) == ("USD", 12)
    usual, longer, unknown, worker = said["prices"]
    assert (usual["deployment"], usual["input"], usual["output"]) == ("chat", "5", "30")
    assert (longer["above"], longer["input"], longer["output"]) == (272_000, "10", "45")
    assert unknown == {"deployment": "own", "target": "lab/my-model", "service_tier": "standard", "source": "unpriced"}
    assert (worker["per_hour"], worker["places"], worker["source"]) == ("1.5", 4, "own list")


def test_a_table_names_every_deployment(directory: Path) -> None:
    lines = run("show", "--config", str(directory / "modelport.yaml")).stdout.splitlines()
    assert lines[0].split() == [
        "deployment",
        "target",
        "service_tier",
        "above",
        "input",
        "cached_input",
        "output",
        "source",
    ]
    assert lines[3].split() == ["own", "lab/my-model", "standard", "unpriced"]


def test_a_model_is_found_wherever_a_list_knows_it(directory: Path) -> None:
    rows = json.loads(run("show", "llama-3.3-70b-instruct", "--json").stdout)["prices"]
    assert [(row["host"], row["input"], row["output"]) for row in rows] == [("azure", "0.71", "0.71")]


def test_a_model_that_no_list_knows_is_not_found(directory: Path) -> None:
    result = run("show", "no-such-model", code=ExitCode.NOT_FOUND)
    assert "no price list knows a model like 'no-such-model'" in result.stderr


def test_a_list_is_checked_and_its_faults_have_lines(directory: Path) -> None:
    file = directory / "p.yaml"
    file.write_text("prices:\n  - {model: m, input: 2.5}\n")
    assert "p.yaml:2: prices[0].input: 2.5 is a number" in run("check", str(file), code=ExitCode.CONFIG_INVALID).stderr
    (fault,) = json.loads(run("check", str(file), "--json", code=ExitCode.CONFIG_INVALID).stdout)["faults"]
    assert (fault["line"], fault["key"]) == (2, "prices[0].input")
    file.write_text("currency: EUR\nprices:\n  - {model: m, input: '1', cached_input: '2'}\n")
    checked = run("check", str(file))
    assert checked.stdout.endswith("valid, 1 price in EUR\n")
    assert checked.stderr.startswith("warning: ")
    assert "currency: EUR is not" in run("check", str(file), "--currency", "USD", code=ExitCode.CONFIG_INVALID).stderr
