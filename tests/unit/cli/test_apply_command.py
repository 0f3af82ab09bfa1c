"""`modelport apply` and `modelport export` against a running server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from typer.testing import Result

from modelport.cli.declaration import Declared, changes, declared
from modelport.cli.output import ExitCode

Run = Callable[..., Result]

OBJECTS = """\
server: {port: 4711}
providers:
  house: {type: openai_compatible, base_url: "https://llm.example/v1", api_key: "env:UPSTREAM"}
  demo: {type: scripted}
models:
- {format: OpenAI, name: gpt-4o, version: "2", provider: demo}
policies: {watched: {max_capacity: 2, effect: audit}}
projects: {research: {budget: {amount: "100.00", per: month}}}
blocklists: {list: [{exact: chopping tomatoes}]}
content_filters: {strict: {prompt: {hate: low, blocklists: [list]}}}
prices: {own: {model: gpt-4o, input: "2.50", output: "10.00"}}
deployments:
  first: {model: {name: x}, provider: demo, spillover: second}
  second: {model: {format: OpenAI, name: gpt-4o, version: "2"}, sku: {capacity: 5}}
keys:
  team: {key1: "env:IGNORED", project: research, deployments: ["f*"]}
"""


def document(ended: Result) -> Any:
    assert ended.exit_code == 0, ended.output
    return json.loads(ended.stdout)


def test_a_file_is_applied_exported_and_taken_back(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "objects.yaml"
    file.write_text(OBJECTS)
    known = run("export").stdout
    planned = run("apply", "-f", str(file), "--dry-run", UPSTREAM="sk-1")
    assert planned.exit_code == 0, planned.output
    assert "passed over, as the server's own: server" in planned.stderr
    assert "+ providers/house\n    type: openai_compatible\n" in planned.stdout
    assert "    api_key: ***\n" in planned.stdout
    assert run("export").stdout == known
    asked = run("apply", "-f", str(file), UPSTREAM="sk-1")
    assert asked.exit_code == ExitCode.USAGE
    assert run("export").stdout == known

    done = document(run("apply", "-f", str(file), "--yes", "--json", UPSTREAM="sk-1"))
    order = [f"{change['kind']}/{change['name']}" for change in done["changes"]]
    assert order.index("deployments/second") < order.index("deployments/first")
    assert len(order) == 11
    assert done["keys"]["team"]["key1"].startswith("mp-")
    assert "sk-1" not in json.dumps(done)

    exported = run("export")
    assert "masked" in exported.stderr
    assert "providers.house.api_key" in exported.stderr
    wanted = yaml.safe_load(OBJECTS)
    del wanted["server"], wanted["keys"]["team"]["key1"]
    wanted["providers"]["house"]["api_key"] = "***"
    assert yaml.safe_load(exported.stdout) == wanted
    assert document(run("export", "--json")) == wanted
    assert "script" in document(run("export", "--all", "--json"))["deployments"]

    again = tmp_path / "again.yaml"
    again.write_text(exported.stdout)
    assert run("apply", "-f", str(again)).stdout == "Nothing differs.\n"
    secrets = run("apply", "-f", str(file), UPSTREAM="sk-2")
    assert secrets.exit_code == 0
    assert "= providers/house\n" in secrets.stdout
    assert "providers/house secrets sent\n" in secrets.stdout
    absent = run("apply", "-f", str(file))
    assert absent.exit_code == ExitCode.CONFIG_INVALID
    assert "UPSTREAM is not set" in absent.stderr

    wanted["deployments"]["second"]["sku"]["capacity"] = 8
    del wanted["deployments"]["first"]
    again.write_text(yaml.safe_dump(wanted))
    kept = run("apply", "-f", str(again), "--yes")
    assert kept.stdout == ("~ deployments/second\n    sku.capacity: 5 → 8\ndeployments/second changed\n")
    pruned = run("apply", "-f", str(again), "--prune", "--yes")
    assert pruned.stdout == "- deployments/first\ndeployments/first deleted\n"

    again.write_text(yaml.safe_dump({kind: ([] if kind == "models" else {}) for kind in wanted}))
    assert "Nothing differs." in run("apply", "-f", str(again), "--prune").stdout  # it declares no kind
    for group, name in (
        ("deployment", "second"),
        ("keys", "team"),
        ("project", "research"),
        ("filter", "strict"),
        ("policy", "watched"),
    ):
        verb = "revoke" if group == "keys" else "delete"
        assert run(group, verb, name, "--yes").exit_code == 0


def test_what_the_servers_file_has_is_left_alone_and_not_overruled(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "objects.yaml"
    same = {"model": {"format": "Custom", "name": "script", "version": "1"}, "provider": {"type": "scripted"}}
    file.write_text(yaml.safe_dump({"deployments": {"script": same}}))
    assert run("apply", "-f", str(file)).stdout == "Nothing differs.\n"
    file.write_text(yaml.safe_dump({"deployments": {"script": {**same, "sku": {"capacity": 9}}, "new": same}}))
    refused = run("apply", "-f", str(file), "--yes")
    assert refused.exit_code == ExitCode.REQUEST_REFUSED
    assert "deployments/script differs from the server's configuration file" in refused.stderr
    assert run("deployment", "show", "new").exit_code == ExitCode.NOT_FOUND


def test_a_refused_object_ends_it_with_the_servers_words(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "objects.yaml"
    file.write_text("providers: {early: {type: scripted}}\ndeployments: {bad: {model: {name: x}, provider: absent}}\n")
    ended = run("apply", "-f", str(file), "--yes")
    assert ended.exit_code == ExitCode.REQUEST_REFUSED
    assert "providers/early created" in ended.stdout
    assert "there is no provider 'absent'" in ended.stderr
    assert run("provider", "delete", "early", "--yes").exit_code == 0
    file.write_text("deployments: [")
    assert run("apply", "-f", str(file)).exit_code == ExitCode.CONFIG_INVALID


def test_a_model_of_the_catalogue_is_found_by_what_it_is() -> None:
    entry = {"format": "OpenAI", "name": "gpt-4o", "version": 2, "provider": "house"}
    there = [{"name": "other-name", "kind": "models", "origin": "store", "settings": {**entry, "provider": "old"}}]
    (change,) = changes([Declared("models", "gpt-4o", entry)], lambda kind: there, prune=True)
    assert (change.action, change.name) == ("change", "other-name")
    assert list(change.differences()) == [("provider", "old", "house")]


def test_the_default_is_moved_last() -> None:
    was = [{"name": "old", "kind": "deployments", "origin": "store", "settings": {"default": True}}]
    wanted, _ = declared({"deployments": {"new": {"default": True}, "old": {}}})
    assert [change.name for change in changes(wanted, lambda kind: was, prune=False)] == ["old", "new"]


def test_secrets_stand_only_where_a_provider_has_them(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "objects.yaml"
    model = {"name": "x"}
    far = {"type": "openai_compatible", "base_url": "https://llm.example/v1", "api_key": "sk-in-the-open"}
    token = {"type": "oauth", "token_url": "https://t.example", "client_id": "us", "client_secret": "sk-in-the-open"}
    by_token = {"type": "openai_compatible", "base_url": "https://llm.example/v1", "credential": token}
    inline = {"deployments": {"made": {"model": model, "provider": far}}}
    for objects in ({"providers": {"far": far}}, inline, {"providers": {"far": by_token}}):
        file.write_text(yaml.safe_dump(objects))
        ended = run("apply", "-f", str(file), "--dry-run")
        assert ended.exit_code == ExitCode.CONFIG_INVALID
        assert "write env:NAME or file:PATH" in ended.stderr
        assert "sk-in-the-open" not in ended.output
    assert run("provider", "create", "far", "--set", "type=scripted", "--set", "api_key=sk").exit_code == (
        ExitCode.CONFIG_INVALID
    )
    far["headers"] = {"x-team": "env:TEAM"}
    far["api_key"] = "env:UPSTREAM"
    deployment = {"model": model, "provider": far, "tags": {"stage": "env:prod"}}
    file.write_text(yaml.safe_dump({"deployments": {"made": deployment}}))
    assert run("apply", "-f", str(file), "--yes", UPSTREAM="sk-1", TEAM="t-1").exit_code == 0
    settings = document(run("deployment", "show", "made", "--json"))["settings"]
    assert settings["tags"] == {"stage": "env:prod"}
    assert settings["provider"]["api_key"] == "***"
    token["client_secret"] = "env:UPSTREAM"
    file.write_text(yaml.safe_dump({"providers": {"far": by_token}}))
    assert "sk-1" not in run("apply", "-f", str(file), "--yes", UPSTREAM="sk-1").output
    shown = document(run("provider", "show", "far", "--json"))["settings"]
    assert shown["credential"] == {**token, "client_secret": "***"}
    assert run("provider", "delete", "far", "--yes").exit_code == 0
    del far["api_key"], far["headers"]
    file.write_text(yaml.safe_dump({"deployments": {"made": deployment}}))
    ended = run("apply", "-f", str(file))  # what is left out stays
    assert "api_key" not in ended.stdout
    assert run("deployment", "delete", "made", "--yes").exit_code == 0
