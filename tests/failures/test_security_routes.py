"""Who may do what, for every route there is: made from the routers' own table, so no route is forgotten."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from modelport.core.roles import Permission
from modelport.surfaces.app import all_routes
from modelport.surfaces.door import Inference, Recorded, Route
from modelport.surfaces.options import Options
from served import KEY, Answer, Served

SCOPED, NARROW = "key-of-one-deployment-1f", "key-of-one-operation-2e"
MODEL = {"format": "Custom", "name": "script", "version": "1"}
CONFIG: dict[str, Any] = {
    "deployments": {
        "secret-plans": {"model": MODEL, "provider": {"type": "scripted"}, "default": True},
        "secret-llama": {"model": {**MODEL, "name": "Meta-Llama-3-8B-Instruct"}, "provider": {"type": "scripted"}},
        "Open-Plans": {"model": MODEL, "provider": {"type": "scripted"}},
    },
    "keys": {
        "guest": {"key1": "env:SCOPED_KEY", "deployments": ["open-*"]},
        "indexer": {"key1": "env:NARROW_KEY", "operations": ["embeddings"]},
    },
}
PUBLIC = {("GET", "/"), ("GET", "/favicon.ico"), ("GET", "/health"), ("GET", "/health/live"), ("GET", "/health/ready")}

ROUTES = all_routes(Options())
every_route = pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
every_call = pytest.mark.parametrize(
    "route", [route for route in ROUTES if isinstance(route.endpoint, Inference)], ids=lambda route: route.path
)


@pytest.fixture(scope="module")
def served(serve_module: Callable[..., Served]) -> Served:
    return serve_module(CONFIG, SCOPED_KEY=SCOPED, NARROW_KEY=NARROW)


def call(served: Served, route: Route, key: str | None, deployment: str = "secret-plans") -> Answer:
    path = route.path.replace("{deployment}", deployment).replace("{name}", deployment).replace("{project}", "p")
    headers = {"azureml-model-deployment": deployment, "x-ms-model-mesh-model-name": deployment}
    body: dict[str, Any] | None = None
    if route.method == "POST":
        body = {"model": deployment, "messages": [{"role": "user", "content": "Hi"}], "input": ["Hi"], "prompt": "Hi"}
        if isinstance(route.endpoint, Inference):
            fields = {"chat_completions": "messages", "completions": "prompt"}
            wanted = fields.get(route.endpoint.operation, "input")
            body = {"model": deployment, wanted: body[wanted]}
        if "images" in route.path:
            body["input"] = [{"image": "data:image/png;base64,iVBORw0KGgo="}]
        if route.path.endswith("/text:analyze"):
            body = {"text": "Hi", "categories": []}
        if route.path.endswith("/score"):
            body = {"input_data": {"input_string": [{"role": "user", "content": "Hi"}], "parameters": {}}}
    elif "/info" in path:
        path += f"?model={deployment}"
    return served.call(route.method, path, body, headers=headers, key=key)


@every_route
def test_every_route_says_who_may_use_it(route: Route) -> None:
    assert route.permission in ("public", *Permission)
    assert (route.permission == "public") == ((route.method, route.path) in PUBLIC)
    assert (route.permission == Permission.INFER) == isinstance(route.endpoint, Inference | Recorded)


@every_route
@pytest.mark.parametrize("key", [None, "a-wrong-key", KEY[:-1], KEY + "x", KEY.upper()])
def test_a_stranger_sees_only_what_is_public(served: Served, route: Route, key: str | None) -> None:
    answer = call(served, route, key)
    if route.permission == "public":
        assert answer.status in (200, 204)
        return
    assert answer.status == 401
    assert answer.json["error"]["message"]
    assert answer.headers["x-ms-error-code"]
    assert "retry-after" not in answer.headers
    assert b"plans" not in answer.body.lower()


@every_route
def test_the_operator_may_do_everything(served: Served, route: Route) -> None:
    assert call(served, route, KEY).status in (200, 204)


@every_call
def test_a_scoped_key_reaches_its_own_deployments_and_no_other(served: Served, route: Route) -> None:
    assert call(served, route, SCOPED, "open-plans").status == 200
    assert call(served, route, SCOPED, "secret-plans").status == 404


@every_call
def test_a_key_for_one_operation_may_do_no_other(served: Served, route: Route) -> None:
    assert isinstance(route.endpoint, Inference)
    answer = call(served, route, NARROW)
    if route.endpoint.operation == "embeddings":
        assert answer.status == 200
    else:
        assert answer.json["error"]["code"] == "PermissionDenied"


@pytest.mark.parametrize("path", ["/openai/models", "/openai/v1/models", "/v1/models", "/models/openai/models"])
def test_a_scoped_key_is_told_of_its_own_deployments_only(served: Served, path: str) -> None:
    listed = served.call("GET", path, key=SCOPED).json["data"]
    assert [entry["id"] for entry in listed] == ["Open-Plans"]
    assert served.call("GET", f"{path}/Open-Plans", key=SCOPED).status == 200
    hidden = served.call("GET", f"{path}/secret-plans", key=SCOPED)
    absent = served.call("GET", f"{path}/no-such-thing", key=SCOPED)
    assert (hidden.status, hidden.body) == (absent.status, absent.body) == (404, hidden.body)


@pytest.mark.parametrize("path", ["/models/info?model=secret-plans", "/deployments/secret-plans/info", "/info"])
def test_a_scoped_key_is_not_told_what_another_deployment_is(served: Served, path: str) -> None:
    answer = served.call("GET", path, key=SCOPED)
    assert answer.status == 404
    assert b"model_name" not in answer.body


def test_a_scoped_key_is_not_told_what_another_deployments_model_cannot_do(served: Served) -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    body = {"model": "secret-llama", "messages": [{"role": "user", "content": "Hi"}], "temperature": 9, "tools": [tool]}
    own = served.call("POST", "/models/chat/completions", body)
    assert [entry["loc"] for entry in own.json["detail"]] == [["body", "temperature"], ["body", "tools"]]
    answer = served.call("POST", "/models/chat/completions", body, key=SCOPED)
    assert b"Llama" not in answer.body
    assert b"tools" not in answer.body


@every_route
@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "PROPFIND"])
def test_another_method_is_not_allowed_anywhere(served: Served, route: Route, method: str) -> None:
    path = route.path.replace("{deployment}", "x").replace("{name}", "x").replace("{project}", "p")
    answer = served.call(method, path)
    assert answer.status == 405
    assert route.method in answer.headers["allow"]
    assert answer.json["error"]["code"] == "405"
