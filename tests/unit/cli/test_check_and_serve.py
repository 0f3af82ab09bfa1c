"""What keeps `modelport serve` from starting is found by `modelport check`, in the same words; slips are warnings."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests import warm_start
from typer.testing import CliRunner

from modelport.cli.main import app
from modelport.cli.output import ExitCode
from modelport.cli.serve import EXIT_CODES
from served import serve

MODEL = {"format": "Custom", "name": "m", "version": "1"}
SCRIPT = {"model": MODEL, "provider": {"type": "scripted"}}
SCRIPTED: dict[str, Any] = {"deployments": {"script": SCRIPT}}
ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Done:
    """How a command has ended."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def run(tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`modelport COMMAND` with this configuration and environment. `serve` is a process of its own."""
    for name in [name for name in os.environ if name.startswith("MODELPORT_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def done(command: str, config: Any, *options: str, **environment: str) -> Done:
        file = tmp_path / "modelport.yaml"
        file.write_text(config if isinstance(config, str) else yaml.safe_dump(config))
        given = {"MODELPORT_DATA_DIR": str(data_dir), "CANARY": "canary-secret-71", **environment}
        if command == "check":
            ended = CliRunner(env=given).invoke(app, ["check", str(file), *options])
            return Done(ended.exit_code, ended.stdout, ended.stderr)
        words = [command, "--config", str(file), "--port", "0", *options]
        process = warm_start.run(words, {**os.environ, **given})
        return Done(process.returncode, process.stdout, process.stderr)

    return done


def llama(weights: str) -> dict[str, Any]:
    return {"deployments": {"mine": {"model": MODEL, "provider": {"type": "llama_cpp", "weights": weights}}}}


def upstream(**options: Any) -> dict[str, Any]:
    provider = {"type": "openai_compatible", "base_url": "http://127.0.0.1:9/v1", **options}
    return {"providers": {"up": provider}, "deployments": {"d": {"model": MODEL, "provider": "up"}}}


CODER = {"model": {"format": "Alibaba", "name": "qwen2.5-coder-1.5b", "version": "1"}}
WEIGHTS, INVALID, UNSAFE = ExitCode.WEIGHTS_MISSING, ExitCode.CONFIG_INVALID, ExitCode.UNSAFE_LISTEN
REFUSED: dict[str, tuple[dict[str, Any], str, ExitCode]] = {
    "weights that are missing": (llama("none.gguf"), "deployments.mine.provider.weights: there is no file", WEIGHTS),
    "weights that are a folder": (llama("."), "is a folder; name the file in it", WEIGHTS),
    "weights that are a URL": (llama("https://host.example/m.gguf"), "is a URL", WEIGHTS),
    "weights of another kind": (llama("modelport.yaml"), "is no GGUF file", WEIGHTS),
    "embedded weights": ({"deployments": {"c": CODER}}, "modelport models pull qwen2.5-coder-1.5b", WEIGHTS),
    "a certificate that is missing": (
        {**SCRIPTED, "server": {"tls": {"cert": "no.pem", "key": "no-key.pem"}}},
        "server.tls.cert",
        INVALID,
    ),
    "anonymous for everybody": (
        {**SCRIPTED, "auth": {"anonymous": True}, "server": {"host": "0.0.0.0"}},
        "auth.anonymous",
        UNSAFE,
    ),
    "a generated key for everybody": ({**SCRIPTED, "server": {"host": "0.0.0.0"}}, "MODELPORT_API_KEY", UNSAFE),
    "a Redis without address": ({**SCRIPTED, "quota": {"store": "redis"}}, "redis needs a redis_url", INVALID),
    "an authority that is missing": (upstream(ca_file="none.pem"), "providers.up", INVALID),
    "a profile that means nothing": (
        {"deployments": {"script": {**SCRIPT, "profile": {"tols": "supported"}}}},
        "deployments.script.profile",
        INVALID,
    ),
    "a price list that is missing": (
        {**SCRIPTED, "prices": {"file": "none.yaml"}},
        "prices.file: there is no",
        INVALID,
    ),
    "an amount without quotes": (
        {**SCRIPTED, "projects": {"p": {"budget": {"amount": 10.1}}}},
        "10.1 is a number; put it in quotes",
        INVALID,
    ),
}


SERVED = {"weights that are missing", "a certificate that is missing", "anonymous for everybody"}
"""One of each kind is tried with a server, too."""


def refuse_alike(run: Run, config: Any, words: str, code: ExitCode, **environment: str) -> None:
    fault = refusal_of(run, config, words, **environment)
    served = run("serve", config, **environment)
    assert served.returncode == code, served.stderr
    assert served.stderr.splitlines() == [f"modelport: {fault}"]


def refusal_of(run: Run, config: Any, words: str, **environment: str) -> str:
    """The only fault that `check` finds."""
    checked = run("check", config, **environment)
    assert checked.returncode == INVALID, checked.stdout
    assert words in checked.stderr
    fault, count = checked.stderr.splitlines()
    assert count == "1 fault"
    return fault


@pytest.mark.parametrize("name", REFUSED)
def test_check_and_serve_refuse_the_same_in_the_same_words(run: Run, name: str) -> None:
    config, words, code = REFUSED[name]
    if name in SERVED:
        refuse_alike(run, config, words, code)
    else:
        refusal_of(run, config, words)


@pytest.mark.parametrize(
    ("variable", "key", "url"),
    [
        ("MODELPORT_DATABASE_URL", "database_url", "http://:canary-pw@db:5432/x"),
        ("MODELPORT_REDIS_URL", "redis_url", "postgres://:canary-pw@h/1"),
        ("MODELPORT_REDIS_URL", "redis_url", "http://:canary-pw@h/1"),
    ],
)
def test_a_store_address_of_another_kind_is_named_by_its_variable(run: Run, variable: str, key: str, url: str) -> None:
    refusal_of(run, SCRIPTED, f"{variable}: {key}: is no", **{variable: url})
    assert "canary-pw" not in run("check", SCRIPTED, **{variable: url}).stderr


def test_every_problem_is_told_at_once(run: Run) -> None:
    config = {**llama("none.gguf"), "server": {"tls": {"cert": "no.pem", "key": "no-key.pem"}}}
    assert run("check", config).stderr.endswith("2 faults\n")
    assert set(EXIT_CODES) < {"listen", "tls", "store", "provider", "profile", "extra", "weights"}


WARNED: dict[str, tuple[dict[str, Any], str]] = {
    "a key that has expired": ({"keys": {"a": {"key1": "env:CANARY", "expires": "2020-01-01"}}}, "keys.a.expires"),
    "two keys that are one": ({"keys": {"a": {"key1": "env:CANARY", "key2": "env:CANARY"}}}, "keys.a.key2"),
    "a pattern without deployment": (
        {"keys": {"a": {"key1": "env:CANARY", "deployments": ["scirpt"]}}},
        "did you mean 'script'?",
    ),
    "a whole endpoint": (
        {"providers": {"up": {"type": "openai_compatible", "base_url": "http://h/v1/chat/completions"}}},
        "providers.up.base_url: is the address of one operation",
    ),
}


@pytest.mark.parametrize("name", WARNED)
def test_a_slip_is_a_warning_with_its_line(run: Run, name: str) -> None:
    more, words = WARNED[name]
    checked = run("check", {**SCRIPTED, **more})
    assert checked.returncode == ExitCode.OK, checked.stderr
    (warning,) = checked.stderr.splitlines()
    assert re.match(r"warning: \S+modelport\.yaml:\d+: ", warning)
    assert words in warning
    assert "canary-secret-71" not in checked.stdout + checked.stderr


HELPED = {
    "model_list: [{model_name: a}]": "LiteLLM",
    "projects: {p: {budget: 100}}": 'for example {amount: "100.00", per: month}',
    "deployments: {d: {model: {name: m}, provider: {type: scripted}, tpm: 100}}": "tokens_per_minute",
    "providers: {up: {type: openai_compatible, base_url: 'http://h', headers: {X-A: \"env:BAD\"}}}": "cannot be sent",
}


@pytest.mark.parametrize("text", HELPED)
def test_a_message_says_what_to_write_instead(run: Run, text: str) -> None:
    checked = run("check", text, BAD="line\none")
    assert checked.returncode == INVALID
    assert HELPED[text] in checked.stderr
    assert "line\none" not in checked.stderr


def test_without_secrets_references_are_not_followed(run: Run) -> None:
    config = {
        **SCRIPTED,
        "auth": {"keys": ["env:NOWHERE", "file:/nowhere/key"]},
        "redis_url": "env:NO_REDIS",
        "database_url": "env:NO_DATABASE",
        "providers": {"up": {"type": "openai_compatible", "base_url": "env:NO_ADDRESS", "api_key": "env:NO_KEY"}},
    }
    assert run("check", config).returncode == INVALID
    checked = run("check", config, "--without-secrets")
    assert (checked.returncode, checked.stderr) == (ExitCode.OK, "")
    wrong = {**config, "auth": {"keys": ["hunter2"]}}
    assert "write env:NAME or file:PATH" in run("check", wrong, "--without-secrets").stderr


@pytest.fixture
def listener() -> Iterator[int]:
    """A port that accepts one connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: server.accept()[0].close(), daemon=True).start()
        yield server.getsockname()[1]


def test_connect_says_what_can_be_reached(run: Run, listener: int, free_port: int) -> None:
    here = upstream(base_url=f"http://127.0.0.1:{listener}/v1")
    reached = run("check", here, "--connect", "--json")
    assert reached.returncode == ExitCode.OK, reached.stderr
    (place,) = json.loads(reached.stdout)["connections"]
    assert place == {"key": "providers.up", "address": f"http://127.0.0.1:{listener}", "failure": None}
    token = {"type": "oauth", "token_url": f"http://127.0.0.1:{free_port}/token", "client_id": "a"}
    by_token = upstream(base_url=here["providers"]["up"]["base_url"], credential={**token, "client_secret": "env:S"})
    found = json.loads(run("check", by_token, "--connect", "--json", S="secret").stdout)["connections"]
    assert [(one["key"], one["failure"]) for one in found][1:] == [("providers.up.credential", "Connection refused")]
    issuer = {"issuer": f"http://127.0.0.1:{free_port}/", "audiences": ["a"]}
    found = json.loads(run("check", {**here, "auth": {"oidc": [issuer]}}, "--connect", "--json").stdout)["connections"]
    assert [(one["key"], one["failure"]) for one in found][1:] == [("auth.oidc[0]", "Connection refused")]
    gone = run("check", upstream(), "--connect", MODELPORT_REDIS_URL=f"redis://:canary-pw@127.0.0.1:{free_port}/0")
    assert gone.returncode == ExitCode.SERVER_UNREACHABLE
    assert len(re.findall("Connection refused", gone.stdout)) == 2
    assert "canary-pw" not in gone.stdout + gone.stderr


@pytest.mark.embedded
@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_is_checked_and_served(example: Path, tmp_path: Path, weights: Path) -> None:
    text = example.read_text()
    environment = {name: f"value-of-{name}" for name in re.findall(r"env:([A-Z_]*KEY)", text)}
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o700)
    (data_dir / "models").symlink_to(weights / "models")
    command = [sys.executable, "-m", "modelport", "check", str(example)]
    everything = {**os.environ, **environment, "MODELPORT_DATA_DIR": str(data_dir)}
    checked = subprocess.run(command, env=everything, capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")
    with serve(text, data_dir, **environment) as served:
        served.ready()
        listed = served.call("GET", "/openai/v1/models", key=environment["MODELPORT_API_KEY"]).json["data"]
        assert {item["id"] for item in listed} == set(yaml.safe_load(text)["deployments"])
