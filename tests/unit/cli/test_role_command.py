"""`modelport role`: what is assigned holds at once, and is listed and taken away by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from typer.testing import Result

from modelport.cli.output import ExitCode
from served import Served

Run = Callable[..., Result]


@pytest.fixture
def key(run: Run, managed: Served) -> Iterator[str]:
    """The value of a key that has no role by itself, named `dashboards`."""
    run("project", "create", "research", "--budget", "5.00")
    yield run("keys", "new", "dashboards", "--set", "role=null").stdout.strip()
    for kind in ("role_assignments", "keys", "projects"):
        for found in managed.call("GET", f"/admin/v1/{kind}").json["value"]:
            assert managed.call("DELETE", f"/admin/v1/{kind}/{found['name']}").status == 204


def test_a_role_is_assigned_listed_and_removed(run: Run, managed: Served, key: str) -> None:
    def usage() -> int:
        return managed.call("GET", "/admin/v1/usage", key=key).status

    assert usage() == 401
    made = run("role", "assign", "cognitive services usages reader", "--key", "dashboards", "--project", "research")
    name = "usage-reader-dashboards"
    assert (made.exit_code, made.stdout) == (0, f"role_assignments/{name} created\n"), made.output
    assert usage() == 200
    again = run("role", "assign", "Cognitive Services Usages Reader", "--key", "dashboards")
    assert again.exit_code == ExitCode.REQUEST_REFUSED
    table = run("role", "list").stdout.splitlines()
    assert table[0].split() == ["name", "role", "assignee", "deployments", "operations", "project", "origin"]
    assert table[1].split()[1:] == ["Usage", "Reader", "key", "dashboards", "*", "all", "research", "store"]
    shown = json.loads(run("role", "show", name, "--json").stdout)
    assert shown["settings"]["key"] == "dashboards"
    assert run("role", "remove", name, "--yes").stdout == f"role_assignments/{name} removed\n"
    assert usage() == 401
    assert run("role", "remove", name, "--yes").exit_code == ExitCode.NOT_FOUND


def test_grants_of_a_key_and_its_assignments_add_up(run: Run, managed: Served, key: str) -> None:
    def listed() -> list[str]:
        return [found["id"] for found in managed.call("GET", "/v1/models", key=key).json["data"]]

    run("role", "assign", "Usage Reader", "-k", "dashboards", "-n", "first")
    run("role", "assign", "Inference User", "-k", "Dashboards", "-n", "second", "-d", "scr*", "-o", "embeddings")
    assert listed() == ["script"]
    assert managed.call("GET", "/admin/v1/usage", key=key).status == 200
    body: dict[str, Any] = {"model": "script", "messages": [{"role": "user", "content": "Hi"}]}
    assert managed.call("POST", "/v1/chat/completions", body, key=key).status == 401
    assert managed.call("POST", "/v1/embeddings", {"model": "script", "input": "Hi"}, key=key).status == 200
    used = run("keys", "revoke", "dashboards", "--yes")
    assert "first" in used.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("Usage Reader",), ExitCode.USAGE),
        (("Usage Reader", "--key", "dashboards", "--user", "u"), ExitCode.USAGE),
        (("Contributor", "--key", "dashboards"), ExitCode.REQUEST_REFUSED),
        (("Usage Reader", "--key", "absent"), ExitCode.REQUEST_REFUSED),
        (("Usage Reader", "--key", "dashboards", "--deployments", "a*"), ExitCode.REQUEST_REFUSED),
        (("Administrator", "--key", "dashboards", "--project", "research"), ExitCode.REQUEST_REFUSED),
        (("Usage Reader", "--key", "dashboards", "--project", "absent"), ExitCode.REQUEST_REFUSED),
        (("Inference User", "--group", "g", "--issuer", "https://absent.example"), ExitCode.REQUEST_REFUSED),
    ],
)
def test_what_cannot_be_meant_is_refused(run: Run, key: str, arguments: tuple[str, ...], code: ExitCode) -> None:
    ended = run("role", "assign", *arguments)
    assert ended.exit_code == code, ended.output
    assert json.loads(run("role", "list", "--json").stdout) == []


def test_a_key_of_a_role_does_only_what_it_gives(run: Run, managed: Served) -> None:
    made = run("keys", "new", "reader", "--role", "Usage Reader", "--json")
    value = json.loads(made.stdout)["secrets"]["key1"]
    body = {"model": "script", "messages": [{"role": "user", "content": "Hi"}]}
    refused = managed.call("POST", "/v1/chat/completions", body, key=value)
    assert (refused.status, refused.json["error"]["code"]) == (401, "PermissionDenied")
    assert managed.call("GET", "/admin/v1/usage", key=value).status == 200
    refused = managed.call("PUT", "/admin/v1/projects/mine", {"settings": {}}, key=value)
    assert (refused.status, refused.json["error"]["code"]) == (401, "PermissionDenied")
    entry = managed.call("GET", "/admin/v1/audit?kind=projects&name=mine").json["value"][-1]
    assert (entry["actor"], entry["key_id"], entry["action"]) == ("reader", "reader/key1", "change")
    assert (entry["result"], entry["source"], entry["after"]) == ("PermissionDenied", "127.0.0.1", None)
    assert ["reader", "key1", "Usage", "Reader"] in [
        line.split()[:4] for line in run("keys", "list").stdout.splitlines()
    ]
    assert run("keys", "revoke", "reader", "--yes").exit_code == 0
