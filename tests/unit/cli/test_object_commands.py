"""`modelport deployment`, `provider` and the other kinds against a running server."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from modelport.cli.output import ExitCode
from served import KEY, Served

Run = Callable[..., Result]


def document(ended: Result) -> Any:
    assert ended.exit_code == 0, ended.output
    return json.loads(ended.stdout)


@pytest.mark.check(127)
def test_a_deployment_lives_by_azs_option_names(run: Run, managed: Served) -> None:
    assert run("provider", "create", "house", "--type", "scripted").stdout == "providers/house created\n"
    made = run(
        *("deployment", "create", "--deployment-name", "gpt-4o", "--model-name", "gpt-4o", "--model-version", "2024"),
        *("--model-format", "OpenAI", "--sku-name", "Standard", "--sku-capacity", "50", "--provider", "house"),
        *("--tags", "team=search"),
    )
    assert (made.exit_code, made.stdout) == (0, "deployments/gpt-4o created\n"), made.output
    shown = document(run("deployment", "show", "gpt-4o", "--json"))
    assert shown["settings"] == {
        "model": {"name": "gpt-4o", "version": "2024", "format": "OpenAI"},
        "sku": {"name": "Standard", "capacity": 50},
        "provider": "house",
        "tags": {"team": "search"},
    }
    assert managed.chat(model="gpt-4o").status == 200
    changed = run("deployment", "update", "-n", "gpt-4o", "-c", "80", "--set", "limits.requests_per_minute=500")
    assert changed.stdout == "deployments/gpt-4o changed\n"
    settings = document(run("deployment", "show", "--name", "gpt-4o", "--json"))["settings"]
    assert settings["sku"] == {"name": "Standard", "capacity": 80}
    assert settings["limits"] == {"requests_per_minute": 500}
    table = run("deployment", "list").stdout.splitlines()
    assert table[0].split() == ["name", "model", "version", "sku", "capacity", "provider", "origin"]
    assert [line.split() for line in table[1:]] == [
        ["gpt-4o", "gpt-4o", "2024", "Standard", "80", "house", "store"],
        ["script", "script", "1", "GlobalStandard", "1", "scripted", "file"],
    ]
    text = run("deployment", "show", "gpt-4o").stdout
    assert "limits.requests_per_minute  500\n" in text
    again = run("deployment", "create", "gpt-4o", "-m", "gpt-4o", "-p", "house")
    assert again.stdout == "deployments/gpt-4o replaced\n"
    used = run("provider", "delete", "house", "--yes")
    assert used.exit_code == ExitCode.REQUEST_REFUSED
    assert "is used by deployments 'gpt-4o'" in used.stderr
    asked = run("deployment", "delete", "gpt-4o")
    assert asked.exit_code == ExitCode.USAGE
    assert "--yes" in asked.stderr
    assert document(run("deployment", "delete", "gpt-4o", "--yes", "--json"))["result"] == "deleted"
    assert run("provider", "delete", "house", "-y").stdout == "providers/house deleted\n"
    assert run("deployment", "show", "gpt-4o").exit_code == ExitCode.NOT_FOUND


def test_a_providers_secret_is_read_here_and_is_never_typed(run: Run, tmp_path: Path) -> None:
    secret = tmp_path / "key"
    secret.write_text("sk-of-the-file\n")
    secret.chmod(0o600)
    create = ("provider", "create", "far", "-t", "openai_compatible", "-u", "https://llm.example/v1")
    made = document(run(*create, "--api-key", "env:UPSTREAM", "--json", UPSTREAM="sk-of-the-environment"))
    assert made["settings"]["api_key"] == "***"
    assert document(run("provider", "update", "far", "-k", f"file:{secret}", "--json"))["etag"] != made["etag"]
    assert run(*create, "--api-key", "sk-typed").exit_code == ExitCode.USAGE
    absent = run(*create, "--api-key", "env:ABSENT_HERE")
    assert absent.exit_code == ExitCode.CONFIG_INVALID
    assert "ABSENT_HERE is not set" in absent.stderr
    table = run("provider", "list").stdout
    assert "far   openai_compatible  https://llm.example/v1  store" in table
    assert run("provider", "delete", "far", "-y").exit_code == 0


def test_projects_filters_and_blocklists(run: Run, tmp_path: Path) -> None:
    assert run("project", "create", "research", "--budget", "100.00", "--per", "month").exit_code == 0
    assert run("project", "update", "research", "-b", "250.00").exit_code == 0
    project = document(run("project", "show", "research", "--json"))["settings"]
    assert project == {"budget": {"amount": "250.00", "per": "month"}}
    items = tmp_path / "items.yaml"
    items.write_text("items: [{exact: chopping tomatoes}]\n")
    assert run("blocklist", "create", "house", "-f", str(items), "--regex", "project.x").exit_code == 0
    assert run("blocklist", "update", "house", "--exact", "a third").exit_code == 0
    found = document(run("blocklist", "show", "house", "--json"))["settings"]["items"]
    assert found == [{"exact": "chopping tomatoes"}, {"regex": "project.x"}, {"exact": "a third"}]
    made = run("filter", "create", "strict", "--harm", "hate=low", "--jailbreak", "annotate", "--mode", "asynchronous")
    assert made.exit_code == 0, made.output
    filters = document(run("filter", "list", "--json"))
    assert filters[0]["settings"] == {
        "mode": "asynchronous",
        "prompt": {"jailbreak": "annotate", "hate": "low"},
        "completion": {"hate": "low"},
    }
    assert "strict  asynchronous  hate=low  hate=low    store" in run("filter", "list").stdout
    assert run("filter", "create", "other", "--harm", "fear=low").exit_code == ExitCode.USAGE
    for group, name in (("filter", "strict"), ("blocklist", "house"), ("project", "research")):
        assert run(group, "delete", name, "--yes").exit_code == 0


@pytest.mark.check(127)
def test_a_callers_key_is_shown_once_replaced_and_revoked(run: Run, managed: Served) -> None:
    made = run("keys", "new", "team", "-d", "script", "-o", "chat_completions", "--expires", "2100-01-01")
    value = made.stdout.strip()
    assert value.startswith("mp-")
    assert "not shown again" in made.stderr
    body = {"model": "script", "messages": [{"role": "user", "content": "x"}]}

    def status(key: str) -> int:
        return managed.call("POST", "/models/chat/completions", body, key=key).status

    assert status(value) == 200
    taken = run("keys", "new", "team")
    assert taken.exit_code == ExitCode.REQUEST_REFUSED
    assert "it exists" in taken.stderr
    second = document(run("keys", "regenerate", "team", "--key", "key2", "--json"))["secrets"]["key2"]
    assert [status(value), status(second)] == [200, 200]
    assert run("keys", "regenerate", "team", "--key", "key1").exit_code == ExitCode.USAGE  # one that works: it asks
    assert run("keys", "revoke", "team", "--key", "key1", "--yes").stdout == "keys/team/key1 revoked\n"
    assert [status(value), status(second)] == [401, 200]
    table = [line.split() for line in run("keys", "list").stdout.splitlines()]
    assert table[1][:7] == ["team", "key2", "Inference", "User", "script", "chat_completions", "2100-01-01"]
    assert (table[1][7], len(table[1][7:-1]), table[1][-1]) == ("key2", 3, "store")  # and when it was used
    assert value not in run("keys", "list", "--json").stdout
    assert run("keys", "revoke", "team", "-y").stdout == "keys/team revoked\n"
    assert status(second) == 401
    assert run("keys", "regenerate", "team", "--key", "third").exit_code == ExitCode.USAGE


def test_what_goes_wrong_ends_with_its_own_code(run: Run) -> None:
    nowhere = run("deployment", "list", "--endpoint", "http://127.0.0.1:9")
    assert nowhere.exit_code == ExitCode.SERVER_UNREACHABLE
    assert "modelport serve" in nowhere.stderr
    assert run("deployment", "list", key="wrong").exit_code == ExitCode.NOT_AUTHORISED
    value = run("keys", "new", "limited").stdout.strip()
    assert run("deployment", "list", key=value).exit_code == ExitCode.NOT_AUTHORISED
    assert run("keys", "revoke", "limited", "-y").exit_code == 0
    files = run("deployment", "update", "script", "--sku-capacity", "2")
    assert files.exit_code == ExitCode.REQUEST_REFUSED
    assert "is in the configuration file" in files.stderr
    invalid = run("deployment", "create", "bad", "-m", "x", "-p", "absent")
    assert invalid.exit_code == ExitCode.REQUEST_REFUSED
    assert "there is no provider 'absent'" in invalid.stderr
    for wrong in (
        ("show",),
        ("show", "a", "--name", "b"),
        ("create", "a", "--set", "x"),
        ("create", "a", "--tags", "x"),
    ):
        assert run("deployment", *wrong).exit_code == ExitCode.USAGE


@pytest.mark.parametrize(("answer", "code"), [("n", ExitCode.DECLINED), ("y", ExitCode.OK)])
def test_a_terminal_is_asked(run: Run, managed: Served, answer: str, code: ExitCode) -> None:
    assert run("project", "create", "asked", "--budget", "1.00").exit_code == 0
    here, there = pty.openpty()
    variables = {
        "MODELPORT_ENDPOINT": managed.url,
        "MODELPORT_API_KEY": KEY,
        "MODELPORT_DATA_DIR": str(managed.data_dir),
    }
    command = [sys.executable, "-m", "modelport", "project", "delete", "asked"]
    environ = {"PATH": os.environ["PATH"], **variables}
    with subprocess.Popen(command, stdin=there, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ) as process:
        os.close(there)
        os.write(here, f"{answer}\n".encode())
        out, error = process.communicate(timeout=60)
    os.close(here)
    assert process.returncode == code
    assert b"Delete projects/asked? [y/N]" in error
    assert out == (b"projects/asked deleted\n" if code is ExitCode.OK else b"")
    assert run("project", "show", "asked").exit_code == (ExitCode.NOT_FOUND if out else ExitCode.OK)


def test_what_is_shown_on_a_terminal_is_folded_and_not_cut(run: Run, managed: Served) -> None:
    address = f"https://llm.example/{'long-' * 20}/v1"
    assert run("provider", "create", "far", "-t", "openai_compatible", "-u", address).exit_code == 0
    text = "words of a description " * 8
    assert run("deployment", "create", "told", "-m", "x", "-p", "far", "--tag", f"about={text}").exit_code == 0
    here, there = pty.openpty()
    termios.tcsetwinsize(there, (24, 80))
    variables = {
        "MODELPORT_ENDPOINT": managed.url,
        "MODELPORT_API_KEY": KEY,
        "MODELPORT_DATA_DIR": str(managed.data_dir),
    }
    environ = {"PATH": os.environ["PATH"], **variables}
    shown = ""
    for group, name in (("deployment", "told"), ("provider", "far")):
        command = [sys.executable, "-m", "modelport", group, "show", name]
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=there, env=environ, check=True, timeout=60)
        shown += os.read(here, 65536).decode()
    os.close(there)
    os.close(here)
    assert address in shown
    assert "…" not in shown
    assert all(len(line) <= 80 for line in shown.splitlines() if address not in line)
    assert " ".join(text.split()) in " ".join(shown.split())
    for group, name in (("deployment", "told"), ("provider", "far")):
        assert run(group, "delete", name, "-y").exit_code == 0


def test_names_are_completed_from_the_server(managed: Served) -> None:
    words = {"_MODELPORT_COMPLETE": "complete_bash", "COMP_WORDS": "modelport deployment show sc", "COMP_CWORD": "3"}
    server = {"MODELPORT_ENDPOINT": managed.url, "MODELPORT_API_KEY": KEY, "MODELPORT_DATA_DIR": str(managed.data_dir)}
    script = Path(sys.executable).parent / "modelport"
    for environment, told in (
        ({**words, **server}, ["script"]),
        ({**words, "MODELPORT_ENDPOINT": "http://127.0.0.1:9"}, []),
    ):
        environ = {"PATH": os.environ["PATH"], "HOME": str(managed.data_dir), **environment}
        ended = subprocess.run([script], capture_output=True, text=True, env=environ)
        assert (ended.stdout.split(), ended.stderr) == (told, "")
