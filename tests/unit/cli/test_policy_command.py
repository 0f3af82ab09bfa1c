"""Policies over deployments, by `modelport policy` and over `/admin/v1`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from modelport.cli.output import ExitCode
from served import Served

Run = Callable[..., Result]
BODY = {"model": {"format": "OpenAI", "name": "gpt-4o"}, "provider": {"type": "scripted"}}


def document(ended: Result) -> Any:
    assert ended.exit_code == 0, ended.output
    return json.loads(ended.stdout)


@pytest.fixture
def put(managed: Served) -> Iterator[Callable[..., Any]]:
    """Makes a deployment with these settings, over HTTP; removes it at the end."""
    made: set[str] = set()

    def put(name: str = "made", **settings: Any) -> Any:
        made.add(name)
        return managed.call("PUT", f"/admin/v1/deployments/{name}", {"settings": {**BODY, **settings}})

    yield put
    for name in made:
        managed.call("DELETE", f"/admin/v1/deployments/{name}")
    for policy in managed.call("GET", "/admin/v1/policies").json["value"]:
        assert managed.call("DELETE", f"/admin/v1/policies/{policy['name']}").status == 204


def test_a_deployment_that_keeps_no_policy_is_refused_as_azure_does(
    run: Run, put: Callable[..., Any], managed: Served
) -> None:
    options = ("--allow", "models=gpt-*", "--deny", "skus=*Provisioned*", "-c", "200", "-t", "team")
    assert run("policy", "create", "approved", *options).stdout == "policies/approved created\n"
    assert put(tags={"Team": "search"}, sku={"capacity": 200}).status == 201
    refused = put(model={"name": "llama"}, sku={"name": "ProvisionedManaged", "capacity": 201})
    assert refused.status == 403
    error = refused.json["error"]
    assert error["code"] == "RequestDisallowedByPolicy"
    assert error["target"] == "made"
    assert error["message"].startswith("Resource 'made' was disallowed by policy. Reasons: 'approved: allow.models: ")
    infos = [item["info"] for item in error["additionalInfo"] if item["type"] == "PolicyViolation"]
    assert {info["policyAssignmentName"] for info in infos} == {"approved"}
    assert {info["policyDefinitionEffect"] for info in infos} == {"deny"}
    rules = [info["evaluationDetails"]["evaluatedExpressions"][0]["path"] for info in infos]
    assert rules == ["allow.models", "deny.skus", "max_capacity", "required_tags"]
    assert document(run("deployment", "show", "made", "--json"))["settings"]["sku"] == {"capacity": 200}
    told = run("deployment", "update", "made", "--capacity", "300")
    assert told.exit_code == ExitCode.REQUEST_REFUSED
    assert "approved: max_capacity: 300 is more than 200" in told.stderr
    entries = managed.call("GET", "/admin/v1/audit?kind=deployments&name=made").json["value"]
    assert entries[-1]["result"] == "RequestDisallowedByPolicy"


def test_an_effect_of_audit_notes_and_lets_pass(run: Run, put: Callable[..., Any], managed: Served) -> None:
    run("policy", "create", "watched", "--deny", "models=*", "--effect", "audit")
    assert put(name="noted").status == 201
    entries = managed.call("GET", "/admin/v1/audit?kind=deployments&name=noted").json["value"]
    assert [(entry["action"], entry["result"]) for entry in entries] == [
        ("create", "done"),
        ("audit_policy", "watched: deny.models"),
    ]
    assert put(name="noted").status == 200  # the same once more is no change
    assert len(managed.call("GET", "/admin/v1/audit?kind=deployments&name=noted").json["value"]) == 2


@pytest.mark.parametrize(
    ("policy", "kept", "broken"),
    [
        ({"allow": {"formats": ["openai"]}}, {}, {"model": {"format": "Meta", "name": "x"}}),
        (
            {"allow": {"publishers": ["OpenAI", "house"]}},
            {"model": {"format": "Custom", "name": "x", "publisher": "House"}},
            {"model": {"format": "Custom", "name": "x"}},
        ),
        ({"allow": {"skus": ["Standard", "Global*"]}}, {}, {"sku": {"name": "DataZoneBatch"}}),
        ({"allow": {"providers": ["scripted"]}}, {}, {"provider": "far"}),
        (
            {"deny": {"providers": ["far"]}},
            {},
            {"provider": None, "targets": [{"provider": "near"}, {"provider": "far"}]},
        ),
        ({"allow": {"regions": ["west*"]}}, {"provider": "near"}, {"provider": "far"}),
        ({"deny": {"regions": ["*"]}}, {"provider": "far"}, {"provider": "near"}),
        ({"deny": {"providers": ["far"]}}, {}, {"provider": None, "model": {"name": "of-the-catalogue"}}),
        (
            {"required_tags": ["team", "cost"]},
            {"tags": {"team": "a", "cost": "b"}},
            {"tags": {"team": "a", "cost": ""}},
        ),
    ],
)
def test_each_rule(
    managed: Served, put: Callable[..., Any], policy: dict[str, Any], kept: dict[str, Any], broken: dict[str, Any]
) -> None:
    far = {"type": "openai_compatible", "base_url": "https://llm.example/v1"}
    for path, settings in (
        ("providers/far", far),
        ("providers/near", {"type": "scripted", "region": "westeurope"}),
        ("models/of-the-catalogue", {"name": "of-the-catalogue", "provider": "far"}),
        ("policies/one", policy),
    ):
        made = managed.call("PUT", f"/admin/v1/{path}", {"settings": settings})
        assert made.status in (200, 201), made.body
    assert put(**broken).status == 403
    assert put(**kept).status == 201, put(**kept).body


def test_a_policy_is_tested_before_it_is_there(run: Run, put: Callable[..., Any], tmp_path: Path) -> None:
    put(name="gpt", sku={"capacity": 50})
    file = tmp_path / "policy.yaml"
    file.write_text("allow: {models: [gpt-*]}\nmax_capacity: 20\n")
    ended = run("policy", "test", str(file))
    assert ended.exit_code == ExitCode.DISALLOWED
    assert [line.split()[:3] for line in ended.stdout.splitlines()[1:]] == [
        ["script", "policy", "allow.models"],
        ["gpt", "policy", "max_capacity"],
    ]
    file.write_text("policies:\n  small: {max_capacity: 20}\n  any: {effect: audit, allow: {models: ['*']}}\n")
    found = json.loads(run("policy", "test", str(file), "--json").stdout)
    assert [(violation["policy"], violation["deployment"]) for violation in found] == [("small", "gpt")]
    file.write_text("max_capacity: 100\n")
    assert run("policy", "test", str(file)).stdout == "Every deployment keeps it.\n"
    file.write_text("max_capacity: none\n")
    assert run("policy", "test", str(file)).exit_code == ExitCode.REQUEST_REFUSED
    assert document(run("policy", "list", "--json")) == []


def test_a_policy_without_a_rule_is_none(run: Run, put: Callable[..., Any]) -> None:
    for options in (("--effect", "audit"), ("--max-capacity", "0"), ("--allow", "models=x", "--effect", "maybe")):
        assert run("policy", "create", "empty", *options).exit_code == ExitCode.REQUEST_REFUSED
    for option in ("colours=red", "models", "models="):
        assert run("policy", "create", "empty", "--allow", option).exit_code == ExitCode.USAGE
    assert run("policy", "create", "some", "-a", "models=gpt-*", "-e", "audit").exit_code == 0
    table = run("policy", "list").stdout.splitlines()
    assert table[1].split() == ["some", "audit", "allow.models", "store"]
    assert run("policy", "delete", "some", "--yes").exit_code == 0


def test_a_policy_of_the_servers_file_holds_for_what_is_made_and_not_for_the_file(
    serve: Callable[..., AbstractContextManager[Served]],
) -> None:
    config: dict[str, Any] = {
        "deployments": {"llama": {**BODY, "model": {"name": "llama"}}},
        "policies": {"one": {"max_capacity": 5}},
    }
    config["policies"]["two"] = {"allow": {"models": ["gpt-*"]}}
    with serve(config) as served:
        assert served.chat(model="llama").status == 200
        path = "/admin/v1/deployments/made"
        assert served.call("PUT", path, {"settings": {**BODY, "sku": {"capacity": 6}}}).status == 403
        assert served.call("PUT", path, {"settings": {**BODY, "sku": {"capacity": 5}}}).status == 201
        found = served.call("GET", "/admin/v1/policies/one").json
        assert (found["origin"], found["settings"]) == ("file", {"max_capacity": 5})
        assert served.call("DELETE", "/admin/v1/policies/one").status == 409
