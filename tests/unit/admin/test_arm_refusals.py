"""What Azure's management API refuses, and where its links lead."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from managed import ACCOUNT, CONFIG, GPT, GUEST, call, of_account, remove_all
from modelport.admin.arm import table
from modelport.admin.arm.operations import Operations
from modelport.admin.arm.scope import Arm
from modelport.admin.endpoint import Endpoint
from modelport.core.clock import SystemClock
from modelport.core.roles import Permission
from served import KEY, Answer, Served

NAMED = {**CONFIG, "control": {"arm": {"subscription": "Mine", "resource_group": "Group", "account": "Acct"}}}
MINE = "/subscriptions/mine/resourceGroups/group/providers/Microsoft.CognitiveServices/accounts/acct"
METADATA = "/metadata/endpoints?api-version=2022-09-01"
FORGED = {"host": "attacker.example"}


@pytest.fixture(scope="module")
def served(serve_module: Callable[..., Served]) -> Served:
    return serve_module(CONFIG, GUEST_KEY=GUEST, MODELPORT_TLS_SELF_SIGNED="true")


@pytest.fixture(autouse=True)
def _as_before(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "served" in request.fixturenames:
        remove_all(request.getfixturevalue("served"))


def put(served: Served, change: dict[str, Any], name: str = "d", **more: Any) -> Answer:
    return of_account(served, "PUT", f"deployments/{name}", {**GPT, **change}, **more)


def properties(**change: Any) -> dict[str, Any]:
    return {"properties": {**GPT["properties"], **change}}


def model(**change: Any) -> dict[str, Any]:
    return properties(model={**GPT["properties"]["model"], **change})


@pytest.mark.parametrize(
    ("change", "code", "target"),
    [
        (model(name="gpt-5"), "DeploymentModelNotSupported", "properties.model"),
        (model(version="9"), "DeploymentModelNotSupported", "properties.model"),
        (model(format="Meta"), "DeploymentModelNotSupported", "properties.model"),
        (properties(model={}), "BadRequest", "properties.model.name"),
        ({"properties": None}, "BadRequest", "properties.model.name"),
        (properties(raiPolicyName="none"), "InvalidResourceProperties", None),
        (properties(spilloverDeploymentName="nowhere"), "InvalidResourceProperties", None),
        (properties(scaleSettings={"scaleType": "Manual"}), "BadRequest", "properties.scaleSettings"),
        (properties(parentDeploymentName="x"), "BadRequest", "properties.parentDeploymentName"),
        (properties(dynamicThrottlingEnabled=True), "BadRequest", "properties.dynamicThrottlingEnabled"),
        (properties(versionUpgradeOption="Now"), "BadRequest", "properties.versionUpgradeOption"),
        ({"sku": {"name": "GlobalStandard", "capacity": "ten"}}, "InvalidCapacity", "sku.capacity"),
        ({"sku": {"name": "GlobalStandard", "capacity": "-1"}}, "InvalidCapacity", "sku.capacity"),
        ({"sku": {"name": "GlobalStandard", "capacity": 0}}, "InvalidResourceProperties", None),
        ({"sku": {"name": "Enormous", "capacity": 1}}, "InvalidResourceProperties", None),
        ({"tags": ["a"]}, "BadRequest", "tags"),
        ({"tags": {"a": 1}}, "BadRequest", "tags"),
    ],
)
def test_a_deployment_that_cannot_be_made(
    served: Served, change: dict[str, Any], code: str, target: str | None
) -> None:
    refused = put(served, change)
    assert refused.status == 400, refused.body
    error = refused.json["error"]
    assert set(error) == {"code", "message", "target", "details", "additionalInfo"}
    assert (error["code"], error["target"], error["additionalInfo"]) == (code, target, [])
    assert bool(error["details"]) == (code == "InvalidResourceProperties")
    assert refused.headers["x-ms-error-code"] == code
    assert of_account(served, "GET", "deployments/d").status == 404


def test_what_is_not_there_is_said_in_the_shape_of_an_error(served: Served) -> None:
    for method, path, status, code in (
        ("GET", "deployments/none", 404, "ResourceNotFound"),
        ("GET", "deployments/none/skus", 404, "ResourceNotFound"),
        ("PATCH", "deployments/none", 404, "ResourceNotFound"),
        ("GET", "raiPolicies/none", 404, "ResourceNotFound"),
        ("GET", "raiBlocklists/none", 404, "ResourceNotFound"),
        ("GET", "raiBlocklists/none/raiBlocklistItems", 404, "ResourceNotFound"),
        ("PUT", "raiPolicies/microsoft.nill", 409, "Conflict"),
        ("DELETE", "raiPolicies/Microsoft.Nill", 409, "Conflict"),
        ("GET", "projects", 404, "NotFound"),
        ("POST", "deployments/none", 405, "MethodNotAllowed"),
        ("PUT", "deployments/none", 400, "BadRequest"),
        ("POST", "regenerateKey", 400, "InvalidKeyName"),
    ):
        refused = of_account(served, method, path, None if method in ("GET", "DELETE") else {})
        assert (refused.status, refused.json["error"]["code"]) == (status, code), (method, path)
        assert set(refused.json["error"]) == {"code", "message", "target", "details", "additionalInfo"}
    assert of_account(served, "PUT", "deployments/d", b"[]").status == 400
    operation = "/subscriptions/s/providers/Microsoft.CognitiveServices/locations/local/operations/x"
    assert call(served, "GET", operation).json["error"]["code"] == "OperationNotFound"
    for method in ("raiPolicies/none", "raiBlocklists/none", "deployments/none"):
        assert of_account(served, "DELETE", method).status == 204


def test_a_policy_that_cannot_be_kept(served: Served) -> None:
    for change in (
        {"basePolicyName": "mine"},
        {"contentFilters": [{"name": "Jailbreak", "source": "Completion", "enabled": True}]},
        {"contentFilters": [{"name": "Hate", "source": "Prompt", "severityThreshold": "Extreme"}]},
        {"contentFilters": [{"name": "Hate", "source": "Both"}]},
        {"contentFilters": ["Hate"]},
        {"customBlocklists": [{"blocklistName": "x", "blocking": False, "source": "Prompt"}]},
        {"customTopics": [{"topicName": "x"}]},
        {"mode": "Sometimes"},
    ):
        refused = of_account(served, "PUT", "raiPolicies/p", {"properties": change})
        assert refused.status == 400, change
    assert of_account(served, "GET", "raiPolicies/p").status == 404


def test_an_item_without_a_name_has_one_that_follows_from_its_text(served: Served) -> None:
    items = {"settings": {"items": [{"exact": "apple"}, {"regex": "b.*n"}, {"name": "own", "exact": "pear"}]}}
    assert call(served, "PUT", "/admin/v1/blocklists/words", items).status == 201
    listed = of_account(served, "GET", "raiBlocklists/words/raiBlocklistItems").json["value"]
    assert [item["properties"]["pattern"] for item in listed] == ["apple", "b.*n", "pear"]
    assert listed[2]["name"] == "own"
    path = f"raiBlocklists/words/raiBlocklistItems/{listed[0]['name']}"
    assert of_account(served, "GET", path).json == listed[0]
    assert of_account(served, "PUT", path, {"properties": {"pattern": "apples"}}).status == 200
    assert of_account(served, "DELETE", f"raiBlocklists/words/raiBlocklistItems/{listed[1]['name']}").status == 204
    found = call(served, "GET", "/admin/v1/blocklists/words").json["settings"]["items"]
    assert found == [{"name": listed[0]["name"], "exact": "apples"}, {"name": "own", "exact": "pear"}]
    assert of_account(served, "GET", "raiBlocklists/words/raiBlocklistItems/none").status == 404
    assert of_account(served, "PUT", f"{path}-2", {"properties": {"isRegex": True}}).status == 400


def test_conditions_hold_here_too(served: Served) -> None:
    made = put(served, {})
    assert (made.status, made.headers["etag"]) == (201, made.json["etag"])
    assert put(served, {}, headers={"if-none-match": "*"}).status == 412
    sku = {"sku": {"capacity": 2}}
    changed = of_account(served, "PATCH", "deployments/d", sku, headers={"if-match": made.json["etag"]})
    assert (changed.status, changed.json["sku"]) == (200, {"name": "GlobalStandard", "capacity": 2})
    refused = of_account(served, "PATCH", "deployments/d", sku, headers={"if-match": made.json["etag"]})
    assert (refused.status, refused.json["error"]["code"]) == (412, "PreconditionFailed")
    assert put(served, sku).headers["etag"] == put(served, sku).headers["etag"]


def test_a_put_keeps_what_azure_has_no_word_for(served: Served) -> None:
    own = {"type": "scripted"}
    settings = {
        "model": {"format": "OpenAI", "name": "house-model", "version": "1"},
        "provider": own,
        "timeouts": {"whole": 30},
        "sku": {"name": "GlobalStandard", "capacity": 2},
    }
    assert call(served, "PUT", "/admin/v1/deployments/d", {"settings": settings}).status == 201

    def stored() -> dict[str, Any]:
        found: dict[str, Any] = call(served, "GET", "/admin/v1/deployments/d").json["settings"]
        return found

    assert put(served, model(name="House-Model")).status == 200
    assert stored() == {**settings, "sku": {"name": "GlobalStandard", "capacity": 1}}
    assert put(served, {}).status == 200
    assert stored() == {
        "model": GPT["properties"]["model"],
        "timeouts": {"whole": 30},
        "sku": {"name": "GlobalStandard", "capacity": 1},
    }
    assert put(served, model(name="house-model")).json["error"]["code"] == "DeploymentModelNotSupported"
    assert put(served, {"sku": None}).json["properties"]["rateLimits"][1]["count"] == 200_000
    assert "sku" not in stored()


def test_a_catalogue_entry_in_use_stays(served: Served) -> None:
    for version in ("3", "4"):
        entry = {"format": "OpenAI", "name": "gpt-4o", "version": version, "provider": "house"}
        assert call(served, "PUT", f"/admin/v1/models/gpt-4o-{version}", {"settings": entry}).status == 201
    twice = {"settings": {"format": "openai", "name": "GPT-4o", "version": "1", "provider": "house"}}
    assert call(served, "PUT", "/admin/v1/models/again", twice).status == 400
    assert put(served, model(version="3")).status == 201
    used = call(served, "DELETE", "/admin/v1/models/gpt-4o-3")
    assert (used.status, "deployments 'd'" in used.json["error"]["message"]) == (409, True)
    assert call(served, "DELETE", "/admin/v1/models/gpt-4o-4").status == 204


def test_only_an_operators_key_opens_it(served: Served) -> None:
    for key, status, code in ((None, 401, "AuthenticationFailed"), ("wrong", 401, "AuthenticationFailed")):
        refused = of_account(served, "GET", "deployments", key=key)
        assert (refused.status, refused.json["error"]["code"]) == (status, code)
        tenant = "00000000-0000-0000-0000-000000000000"
        expected = f'Bearer authorization_uri="{served.url}/{tenant}", error="invalid_token"'
        assert refused.headers["www-authenticate"] == expected
        assert call(served, "GET", "/subscriptions/s/nothing", key=key).status == 401
    denied = of_account(served, "GET", "deployments", key=GUEST)
    assert (denied.status, denied.json["error"]["code"]) == (403, "AuthorizationFailed")
    assert of_account(served, "POST", "listKeys", {}, key=None, headers={"api-key": KEY}).status == 200


def every_endpoint() -> list[Endpoint]:
    nothing: Any = None
    arm = Arm(plane=nothing, snapshot=nothing, names=nothing, profile_of=nothing, built_in=(), server=nothing)
    return list(table.endpoints(arm, Operations(SystemClock())))


def test_every_endpoint_but_one_demands_a_permission(served: Served) -> None:
    endpoints = every_endpoint()
    assert len({(endpoint.method, endpoint.path) for endpoint in endpoints}) == len(endpoints)
    assert [e.path for e in endpoints if e.permission == "public"] == ["/metadata/endpoints"]
    assert not any(endpoint.is_case_sensitive for endpoint in endpoints)
    for endpoint in endpoints:
        if endpoint.permission != "public":
            path = re.sub(r"\{\w+\}", "x", endpoint.path)
            asked = [call(served, endpoint.method, path, key=key).status for key in (None, "wrong", GUEST)]
            assert asked[:2] == [401, 401], (endpoint.method, path)
            assert (asked[2] == 403) is (endpoint.permission is not Permission.READ_ACCOUNT), (endpoint.method, path)


def test_links_lead_to_this_server_alone(served: Served) -> None:
    own = served.url.partition("://")[2]
    port = own.rpartition(":")[2]
    for host in (own, f"localhost:{port}", f"127.0.0.2:{port}", f"[::1]:{port}", "localhost"):
        found = call(served, "GET", METADATA, key=None, headers={"host": host}).json
        assert found["authentication"]["loginEndpoint"] == f"https://{host}"
        assert found["resourceManager"] == f"https://{host}/"
    for host in ("attacker.example", "localhost.attacker.example", "10.1.2.3", "localhost@attacker.example", "a b"):
        refused = call(served, "GET", METADATA, key=None, headers={"host": host})
        assert refused.status == 400
        assert b"loginEndpoint" not in refused.body
    assert call(served, "GET", ACCOUNT, headers=FORGED).json["error"]["target"] == "Host"
    refused = call(served, "GET", ACCOUNT, key=None, headers=FORGED)
    assert (refused.status, refused.headers["www-authenticate"]) == (401, 'Bearer error="invalid_token"')
    assert put(served, {}, headers=FORGED).status == 201


def test_links_lead_to_the_public_address(serve_module: Callable[..., Served]) -> None:
    config = {**CONFIG, "server": {"public_url": "https://ai.example"}}
    served = serve_module(config, GUEST_KEY=GUEST, MODELPORT_TLS_SELF_SIGNED="true")
    found = call(served, "GET", METADATA, key=None, headers=FORGED).json
    assert (found["authentication"]["loginEndpoint"], found["resourceManager"]) == (
        "https://ai.example",
        "https://ai.example/",
    )
    endpoints = call(served, "GET", ACCOUNT, headers=FORGED).json["properties"]["endpoints"]
    assert endpoints["Azure AI Model Inference API"] == "https://ai.example/"


def test_names_that_are_configured_are_the_only_ones(serve_module: Callable[..., Served]) -> None:
    served = serve_module(NAMED, GUEST_KEY=GUEST, MODELPORT_TLS_SELF_SIGNED="true")
    assert call(served, "GET", MINE).json["id"] == MINE
    assert call(served, "GET", "/subscriptions").json["value"][0]["subscriptionId"] == "Mine"
    for path, code in (
        (MINE.replace("/mine/", "/other/"), "SubscriptionNotFound"),
        (MINE.replace("/group/", "/other/"), "ResourceGroupNotFound"),
        (MINE.replace("/acct", "/other"), "ResourceNotFound"),
        (MINE.replace("/acct", "/other") + "/deployments", "ResourceNotFound"),
        ("/subscriptions/other", "SubscriptionNotFound"),
        ("/subscriptions/other/providers/Microsoft.CognitiveServices/locations/local/usages", "SubscriptionNotFound"),
    ):
        refused = call(served, "GET", path)
        assert (refused.status, refused.json["error"]["code"]) == (404, code), path
    (listed,) = call(served, "GET", MINE.rpartition("/")[0]).json["value"]
    assert listed["name"] == "Acct"


def test_keys_are_shown_over_tls_alone(serve_module: Callable[..., Served]) -> None:
    served = serve_module(CONFIG, GUEST_KEY=GUEST)
    for path in ("listKeys", "regenerateKey"):
        refused = served.call("POST", f"{ACCOUNT}/{path}", {"keyName": "Key1"})
        assert (refused.status, refused.json["error"]["code"]) == (403, "Forbidden")
