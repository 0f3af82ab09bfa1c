"""Role assignments and definitions over ARM, as `az role assignment` sends and reads them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest

from managed import ACCOUNT, CONFIG, GUEST, call
from served import Answer, Served

READER, USER = "bba48692-92b0-4667-a9ad-c31c7b334ac2", "5e0bd9bd-7b93-4f28-af87-19fc36ad61bd"
ALICE = "0a1b2c3d-0000-4000-8000-00000000000b"
SUBSCRIPTION = "/subscriptions/s"
ISSUER = "https://issuer.example/v2.0"


@pytest.fixture(scope="module")
def served(serve_module: Callable[..., Served]) -> Served:
    oidc = [{"issuer": ISSUER, "audiences": ["https://ai.azure.com"]}]
    config = {**CONFIG, "auth": {"oidc": oidc}, "projects": {"research": {}}}
    config["role_assignments"] = {
        "scoped": {
            "role": "Usage Reader",
            "group": "g-1",
            "project": "research",
        },
        "patterned": {"role": "Inference User", "key": "guest", "deployments": ["gpt-*"], "operations": ["embeddings"]},
    }
    return serve_module(config, MODELPORT_TLS_SELF_SIGNED="true", GUEST_KEY=GUEST)


@pytest.fixture(autouse=True)
def clean(served: Served) -> Iterator[None]:
    yield
    for found in call(served, "GET", "/admin/v1/role_assignments").json["value"]:
        if found["origin"] == "store":
            assert call(served, "DELETE", f"/admin/v1/role_assignments/{found['name']}").status == 204


def at(scope: str, what: str, query: str = "") -> str:
    text = f"&$filter={quote(query)}" if query else ""
    return f"{scope}/providers/Microsoft.Authorization/{what}?api-version=2022-04-01{text}"


def assign(served: Served, scope: str, name: str = "", **properties: Any) -> Answer:
    name = name or str(uuid.uuid4())
    definition = f"{SUBSCRIPTION}/providers/Microsoft.Authorization/roleDefinitions/{properties.pop('role', READER)}"
    body = {"properties": {"roleDefinitionId": definition, "principalId": ALICE, **properties}}
    return call(served, "PUT", at(scope, f"roleAssignments/{name}"), body)


def listed(served: Served, scope: str, query: str = "") -> list[dict[str, Any]]:
    answer = call(served, "GET", at(scope, "roleAssignments", query))
    assert answer.status == 200, answer.body
    return [found["properties"] for found in answer.json["value"]]


def made_here(served: Served) -> list[dict[str, Any]]:
    found = call(served, "GET", "/admin/v1/role_assignments").json["value"]
    return [one["settings"] for one in found if one["origin"] == "store"]


@pytest.mark.parametrize("scope", [SUBSCRIPTION, f"{SUBSCRIPTION}/resourceGroups/rg", ACCOUNT])
def test_the_life_of_an_assignment_at_a_scope_of_everything(served: Served, scope: str) -> None:
    made = assign(served, scope, principalType="User", description="dashboards")
    assert made.status == 201, made.body
    shown = made.json["properties"]
    assert (shown["scope"], shown["principalId"], shown["principalType"]) == (scope, ALICE, "User")
    assert shown["roleDefinitionId"] == f"{SUBSCRIPTION}/providers/Microsoft.Authorization/roleDefinitions/{READER}"
    expected = {"role": "Usage Reader", "user": ALICE, "principal_type": "User", "description": "dashboards"}
    assert made_here(served) == [expected]
    again = call(served, "GET", f"{made.json['id']}?api-version=2022-04-01")
    assert again.json == made.json
    assert ALICE in [found["principalId"] for found in listed(served, scope, "atScope()")]
    assert [found["principalId"] for found in listed(served, scope, f"principalId eq '{ALICE}'")] == [ALICE]
    exists = assign(served, scope)
    assert (exists.status, exists.json["error"]["code"]) == (409, "RoleAssignmentExists")
    assert call(served, "DELETE", made.json["id"]).json == made.json
    assert call(served, "DELETE", made.json["id"]).status == 204
    assert call(served, "GET", made.json["id"]).json["error"]["code"] == "RoleAssignmentNotFound"


def test_a_role_of_one_deployment(served: Served) -> None:
    scope = f"{ACCOUNT}/deployments/file"
    made = assign(served, scope, role=USER, principalType="Group", principalId="g-2")
    assert made.status == 201, made.body
    expected = {"role": "Cognitive Services OpenAI User", "group": "g-2", "deployments": ["file"]}
    assert made_here(served) == [expected]
    assert made.json["properties"]["scope"] == scope
    assert made.json["properties"]["roleDefinitionId"].endswith(USER)
    name = made.json["name"]
    assert "g-2" in [found["principalId"] for found in listed(served, scope, "atScope()")]
    assert "g-2" not in [found["principalId"] for found in listed(served, ACCOUNT, "atScope()")]
    assert "g-2" in [found["principalId"] for found in listed(served, ACCOUNT)]
    assert "g-2" not in [found["principalId"] for found in listed(served, f"{ACCOUNT}/deployments/other")]
    assert call(served, "DELETE", at(ACCOUNT, f"roleAssignments/{name}")).status == 204  # not its scope
    moved = assign(served, ACCOUNT, name)
    assert (moved.status, moved.json["error"]["code"]) == (400, "RoleAssignmentUpdateNotPermitted")
    assert made_here(served) == [expected]
    assert call(served, "DELETE", at(scope, f"roleAssignments/{name}")).status == 200


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("ServicePrincipal", "ServicePrincipal"),
        ("serviceprincipal", "ServicePrincipal"),
        ("User", "User"),
        (None, "User"),
    ],
)
def test_the_type_of_a_principal_is_kept(served: Served, given: str | None, shown: str) -> None:
    made = assign(served, ACCOUNT, **({"principalType": given} if given is not None else {}), principalId="typed-1")
    assert made.status == 201, made.body
    assert made.json["properties"]["principalType"] == shown
    again = call(served, "GET", f"{made.json['id']}?api-version=2022-04-01")
    assert again.json["properties"]["principalType"] == shown
    (found,) = [one for one in listed(served, ACCOUNT) if one["principalId"] == "typed-1"]
    assert found["principalType"] == shown
    other = assign(served, ACCOUNT, principalType="User", principalId="typed-1")  # the type makes it no other principal
    assert (other.status, other.json["error"]["code"]) == (409, "RoleAssignmentExists")
    assert call(served, "DELETE", made.json["id"]).status == 200


def test_what_azure_has_no_words_for_is_shown(served: Served) -> None:
    found = {one["principalId"]: one for one in listed(served, SUBSCRIPTION)}
    assert found["g-1"]["condition"] == "project: research"
    assert found["guest"]["condition"] == "operations: embeddings"
    assert found["guest"]["scope"].endswith("/deployments/gpt-*")
    guids = call(served, "GET", at(SUBSCRIPTION, "roleAssignments")).json["value"]
    for one in guids:
        assert uuid.UUID(one["name"])
        assert call(served, "GET", at(one["properties"]["scope"], f"roleAssignments/{one['name']}")).json["id"]
    refused = call(served, "DELETE", guids[0]["id"])
    assert refused.status == 409


@pytest.mark.parametrize(
    ("properties", "target"),
    [
        ({"role": str(uuid.uuid4())}, "properties.roleDefinitionId"),
        ({"principalType": "Device"}, "properties.principalType"),
        ({"principalId": None}, "properties.principalId"),
        ({"condition": "@Resource[x] StringEquals 'y'"}, "properties.condition"),
    ],
)
def test_what_cannot_hold_is_refused(served: Served, properties: dict[str, Any], target: str) -> None:
    answer = assign(served, ACCOUNT, **properties)
    assert (answer.status, answer.json["error"]["target"]) == (400, target), answer.body
    assert made_here(served) == []


def test_a_role_that_has_no_deployments_is_not_assigned_at_one(served: Served) -> None:
    answer = assign(served, f"{ACCOUNT}/deployments/file", role=READER)
    assert answer.status == 400
    assert "not limited to deployments" in answer.json["error"]["message"]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Cognitive Services User", ["Cognitive Services User"]),
        ("usage reader", ["Cognitive Services Usages Reader"]),
        ("Administrator", ["Owner"]),
        ("Contributor", []),
    ],
)
def test_a_definition_is_found_by_its_name(served: Served, name: str, found: list[str]) -> None:
    answer = call(served, "GET", at(ACCOUNT, "roleDefinitions", f"roleName eq '{name}'")).json["value"]
    assert [one["properties"]["roleName"] for one in answer] == found
    for one in answer:
        assert call(served, "GET", f"{one['id']}?api-version=2022-04-01").json == one


def test_filters_and_names_that_mean_nothing_are_refused(served: Served) -> None:
    for what in ("roleDefinitions", "roleAssignments"):
        assert call(served, "GET", at(ACCOUNT, what, "name eq 'x'")).json["error"]["target"] == "$filter"
    missing = call(served, "GET", at(SUBSCRIPTION, f"roleDefinitions/{uuid.uuid4()}"))
    assert missing.json["error"]["code"] == "RoleDefinitionDoesNotExist"
    assert len(call(served, "GET", at(SUBSCRIPTION, "roleDefinitions")).json["value"]) == 7
    assert call(served, "GET", at(SUBSCRIPTION, "roleAssignments"), key=GUEST).status == 403
