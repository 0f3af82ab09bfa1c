"""`modelport check` says what is wrong and where, or what the configuration says, and never a secret."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from modelport.cli.check import check
from modelport.cli.output import ExitCode, fail, write_table

GOOD = """
server: {host: "::1", tls: {self_signed: true}}
auth: {keys: ["env:KEY"]}
providers:
  house: {type: llama_cpp, weights: x.gguf}
models:
  - {name: big, provider: house}
deployments:
  one: {model: {name: smollm2-135m-instruct}, default: true}
  two: {model: {name: my-model, version: "7"}, provider: {type: llama_cpp, weights: my.gguf}}
  three: {model: {name: big}}
  four: {model: {name: x}, targets: [{provider: house}]}
keys:
  team: {key2: "file:team-key"}
"""


@pytest.fixture
def invoke(tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("MODELPORT_CONFIG", "MODELPORT_API_KEY", "MODELPORT_PORT", "MODELPORT_HOST", "MODELPORT_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KEY", "hunter2")
    monkeypatch.setenv("MODELPORT_DATA_DIR", str(weights))
    for name in ("x.gguf", "my.gguf"):
        (tmp_path / name).write_bytes(b"GGUF and more")
    (tmp_path / "team-key").write_text("hunter3\n")
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(check)

    def run(text: str, *options: str) -> Result:
        (tmp_path / "c.yaml").write_text(text, "utf-8")
        return CliRunner().invoke(app, [str(tmp_path / "c.yaml"), *options])

    return run


def test_a_right_file_is_summed_up_without_secrets(invoke, tmp_path: Path) -> None:
    done = invoke(GOOD)
    assert done.exit_code == ExitCode.OK
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[0] == f"{tmp_path}/c.yaml: valid"
    assert "endpoint https://[::1]:8080" in lines
    assert "one (default) smollm2-135m-instruct (version 1) Custom (catalogue)" in lines
    assert "two my-model (version 7) Custom llama_cpp" in lines
    assert "three big (version 1) Custom house" in lines
    assert "auth.keys[0] env:KEY" in lines
    assert "keys.team.key2 file:team-key" in lines
    assert "others may read it" in done.stderr
    assert "hunter" not in done.output


def test_faults_go_to_standard_error_with_file_line_and_key(invoke, tmp_path: Path) -> None:
    done = invoke("server:\n  prot: 1\nauth: {keys: [hunter2]}\n")
    assert done.exit_code == ExitCode.CONFIG_INVALID == 3
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        f"{tmp_path}/c.yaml:2: server.prot: unknown key 'prot'; did you mean 'port'?",
        f"{tmp_path}/c.yaml:3: auth.keys[0]: a secret is not written here; write env:NAME or file:PATH",
        "2 faults",
    ]


def test_json_says_the_same_to_programs(invoke, tmp_path: Path) -> None:
    done = invoke("server:\n  prot: 1\n", "--json")
    assert done.exit_code == ExitCode.CONFIG_INVALID
    told = json.loads(done.stdout)
    assert told["valid"] is False
    what = "unknown key 'prot'; did you mean 'port'?"
    assert told["faults"] == [{"source": f"{tmp_path}/c.yaml", "line": 2, "key": "server.prot", "what": what}]

    done = invoke(GOOD, "--json")
    assert done.exit_code == ExitCode.OK
    told = json.loads(done.stdout)
    assert told["valid"] is True
    assert [item["name"] for item in told["summary"]["deployments"]] == ["one", "two", "three", "four"]
    assert told["summary"]["deployments"][3]["providers"] == ["house"]
    assert told["summary"]["secrets"][0] == {"key": "auth.keys[0]", "from": "env:KEY"}
    assert "hunter" not in done.output


def test_an_empty_file_says_what_happens_without_settings(invoke) -> None:
    done = invoke("")
    assert done.exit_code == ExitCode.OK
    assert "No deployments: the embedded models are deployed under their own names." in done.stdout
    assert "a key is made at the first start" in done.stdout


def test_a_file_that_is_not_there_is_one_line(invoke) -> None:
    app = typer.Typer()
    app.command()(check)
    done = CliRunner().invoke(app, ["/nowhere/c.yaml"])
    assert done.exit_code == ExitCode.CONFIG_INVALID
    assert done.stderr.splitlines() == ["/nowhere/c.yaml: cannot be read: No such file or directory", "1 fault"]


def test_every_exit_code_has_its_own_number() -> None:
    assert len({code.value for code in ExitCode}) == len(ExitCode.__members__)


def test_failing_is_one_line_with_the_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as caught:
        fail(ExitCode.PORT_IN_USE, "port 8080 is taken", "use --port")
    assert caught.value.exit_code == 4
    assert capsys.readouterr().err == "modelport: port 8080 is taken (use --port)\n"


def test_a_piped_table_is_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    write_table(("name", "path"), [("a", "/" + "x" * 300), ("[b]", None)])
    out = capsys.readouterr().out.splitlines()
    assert out[1] == "a     /" + "x" * 300
    assert out[2] == "[b]"
