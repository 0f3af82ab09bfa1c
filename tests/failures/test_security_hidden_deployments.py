"""A caller sees what it may use. A deployment that its key may not use is answered as one that does not exist: every
route of the routers' own table, every place where a name may stand, byte for byte."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import Struct

from modelport.surfaces.app import all_routes
from modelport.surfaces.door import Inference, Route
from modelport.surfaces.options import Options
from served import KEY, Answer, Served

GUEST, NARROW = "key-of-a-guest-90c1", "key-of-one-operation-77"
MODEL = {"format": "Custom", "name": "script", "version": "1"}
LLAMA = {**MODEL, "name": "Meta-Llama-3-8B-Instruct"}
NOWHERE = {"type": "openai_compatible", "base_url": "http://127.0.0.1:9/v1"}
OPEN: dict[str, Any] = {
    "open-plans": {"model": MODEL, "provider": {"type": "scripted"}},
    "Open-Notes": {"model": MODEL, "provider": {"type": "scripted"}},
}
SECRET: dict[str, Any] = {
    "secret-plans": {"model": MODEL, "provider": {"type": "scripted"}, "default": True},
    "Secret-Llama": {"model": LLAMA, "provider": {"type": "scripted"}},
    "secret-broken": {"model": MODEL, "provider": NOWHERE},
    "secret-full": {"model": MODEL, "provider": {"type": "scripted"}, "limits": {"requests_per_minute": 1}},
}
HIDDEN = ["secret-plans", "SECRET-Llama", "secret-broken", "secret-full"]
KEYS = {
    "guest": {"key1": "env:GUEST_KEY", "deployments": ["open-*"]},
    "narrow": {"key1": "env:NARROW_KEY", "deployments": ["open-*"], "operations": ["embeddings"]},
}
CHANGING = ("x-request-id", "apim-request-id", "x-ms-client-request-id", "date", "content-length")
ROUTES = all_routes(Options())
every_call = pytest.mark.parametrize(
    "route", [route for route in ROUTES if isinstance(route.endpoint, Inference)], ids=lambda route: route.path
)
every_named_path = pytest.mark.parametrize(
    "path",
    sorted({route.path for route in ROUTES if "{deployment}" in route.path or "{name}" in route.path}),
)


class Servers(Struct):
    """One with deployments that the guest may not use, and one that has none of them."""

    full: Served
    bare: Served


@pytest.fixture(scope="module")
def servers(serve_module: Callable[..., Served]) -> Servers:
    environment = {"GUEST_KEY": GUEST, "NARROW_KEY": NARROW}
    config: dict[str, Any] = {"keys": KEYS}
    return Servers(
        serve_module({**config, "deployments": {**OPEN, **SECRET}}, **environment),
        serve_module({**config, "deployments": OPEN}, **environment),
    )


def normal(answer: Answer, name: str) -> tuple[int, dict[str, str], str]:
    """An answer without what differs from call to call, and without the name that was asked for."""
    headers = {field: value for field, value in answer.headers.items() if field not in CHANGING}
    body = re.sub(r'"created":\d+', '"created":0', answer.body.decode())
    return answer.status, headers, body.replace(name, "NAME")


def path_of(path: str, name: str) -> str:
    return path.replace("{deployment}", name).replace("{name}", name).replace("{project}", "p")


def body_of(route: Route, name: str | None, **more: Any) -> dict[str, Any]:
    """A good body for this route."""
    assert isinstance(route.endpoint, Inference)
    if route.path.endswith("/score"):
        return {"input_data": {"input_string": [{"role": "user", "content": "Hi"}], "parameters": {}}}
    fields: dict[str, dict[str, Any]] = {
        "chat_completions": {"messages": [{"role": "user", "content": "Hi"}]},
        "completions": {"prompt": "Hi"},
        "embeddings": {"input": ["Hi"]},
        "image_embeddings": {"input": [{"image": "data:image/png;base64,iVBORw0KGgo="}]},
    }
    named = {} if name is None else {"model": name}
    return {**named, **fields[route.endpoint.operation], **more}


PLACES = ["body", "azureml-model-deployment", "x-ms-model-mesh-model-name"]


def ask(served: Served, route: Route, name: str | None, place: str, key: str, **more: Any) -> Answer:
    """The call that names the deployment here, beside where the path names it."""
    headers = {} if place == "body" or name is None else {place: name}
    body = body_of(route, name if place == "body" else None, **more)
    return served.call("POST", path_of(route.path, name or "nothing-here"), body, headers=headers, key=key)


@every_call
def test_what_the_key_may_not_use_is_answered_as_what_does_not_exist(servers: Servers, route: Route) -> None:
    for place, hidden in [*((PLACES[0], name) for name in HIDDEN), *((place, HIDDEN[0]) for place in PLACES[1:])]:
        absent = "x" * len(hidden)
        answer = ask(servers.full, route, hidden, place, GUEST)
        assert normal(answer, hidden) == normal(ask(servers.full, route, absent, place, GUEST), absent)
        assert normal(answer, hidden) == normal(ask(servers.bare, route, hidden, place, GUEST), hidden)
        assert answer.status in (400, 404)
        assert hidden.encode() not in answer.body.replace(f"Unknown model: {hidden}".encode(), b"")
        assert "secret" not in json.dumps(dict(answer.headers)).lower()


@every_call
def test_no_body_tells_them_apart(servers: Servers, route: Route) -> None:
    hidden, absent = "secret-llama", "absent-llama"
    bodies: list[dict[str, Any]] = [
        {"stream": True},
        {"temperature": 9, "tools": [{"type": "function", "function": {"name": "f"}}]},
        {"unheard_of": 1},
        {"max_tokens": 10**12},
        {"model": 7},
        {"messages": "none", "prompt": {}, "input": {}},
    ]
    for more in bodies:
        for place in PLACES[:2]:
            answer = normal(ask(servers.full, route, hidden, place, GUEST, **more), hidden)
            assert answer == normal(ask(servers.full, route, absent, place, GUEST, **more), absent)


@every_call
@pytest.mark.parametrize("key", [GUEST, NARROW])
def test_a_default_that_the_key_may_not_use_is_no_default(servers: Servers, route: Route, key: str) -> None:
    answer = ask(servers.full, route, None, "body", key)
    assert normal(answer, "?") == normal(ask(servers.bare, route, None, "body", key), "?")
    assert answer.status in (400, 404)


@every_call
def test_what_the_key_may_use_is_answered(servers: Servers, route: Route) -> None:
    assert isinstance(route.endpoint, Inference)
    query = "?api-version=2024-10-21"
    named = path_of(route.path, "OPEN-plans") + query
    for place in PLACES:
        headers = {} if place == "body" else {place: "OPEN-plans"}
        body = body_of(route, "OPEN-plans" if place == "body" else None)
        mine = servers.full.call("POST", named, body, headers=headers, key=GUEST)
        assert mine.status == servers.bare.call("POST", named, body, headers=headers, key=GUEST).status
        assert b"secret" not in mine.body.lower()
    everywhere = {"azureml-model-deployment": "OPEN-plans", "x-ms-model-mesh-model-name": "OPEN-plans"}
    body = body_of(route, "OPEN-plans")
    assert servers.full.call("POST", named, body, headers=everywhere, key=GUEST).status == 200
    answer = servers.full.call("POST", named, body, headers=everywhere, key=NARROW)
    if route.endpoint.operation == "embeddings":
        assert answer.status == 200
    else:  # it sees the deployment, and may not ask it this
        assert (answer.status, answer.json["error"]["code"]) == (401, "PermissionDenied")


@every_named_path
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT"])
def test_no_method_tells_them_apart(servers: Servers, path: str, method: str) -> None:
    for key in (GUEST, None, "a-wrong-key"):
        answers = [
            normal(served.call(method, path_of(path, name), key=key), name)
            for served, name in (
                (servers.full, "Secret-Plans"),
                (servers.full, "absent-plans"),
                (servers.bare, "Secret-Plans"),
            )
        ]
        assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize(
    "path", ["/models/info?model={}", "/api/models/info?model={}", "/deployments/{}/info", "/info", "/models/info"]
)
def test_no_description_tells_them_apart(servers: Servers, path: str) -> None:
    hidden, absent = "Secret-llama", "absent-llama"
    for place in (None, "azureml-model-deployment", "x-ms-model-mesh-model-name"):
        answers = []
        for served, name in ((servers.full, hidden), (servers.full, absent), (servers.bare, hidden)):
            headers = {} if place is None else {place: name}
            answers.append(normal(served.call("GET", path.format(name), headers=headers, key=GUEST), name))
        assert answers[0] == answers[1] == answers[2]
        assert answers[0][0] in (400, 404)


@pytest.mark.parametrize("base", ["/models", "/openai/deployments/{}", "/v1", "/deployments/{}"])
def test_a_refused_call_leaves_one_record(servers: Servers, base: str) -> None:
    body = {"model": "secret-plans", "messages": [{"role": "user", "content": "Hi"}]}
    before = len(servers.full.journal())
    query = "?api-version=2024-10-21"
    path = base.format("secret-plans") + "/chat/completions" + query
    assert servers.full.call("POST", path, body, key=GUEST).status == 404
    records = servers.full.journal()[before:]
    assert [(r.principal, r.status, r.ending, r.requested_model, r.deployment) for r in records] == [
        ("guest", 404, "refused", "secret-plans", None)
    ]
    assert records[0].error_code == "DeploymentNotFound"


@pytest.mark.parametrize("key", [GUEST, NARROW])
def test_readiness_is_told_of_what_the_key_may_use(servers: Servers, key: str) -> None:
    guest = servers.full.call("GET", "/health/ready", key=key).json
    assert sorted(entry["name"] for entry in guest["deployments"]) == sorted(OPEN)
    assert "stores" not in guest
    operator = servers.full.call("GET", "/health/ready").json
    assert {entry["name"] for entry in operator["deployments"]} == {*OPEN, *SECRET}
    assert "stores" in operator


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready", "/", "/nothing", "/v1/nothing"])
@pytest.mark.parametrize("key", [None, "a-wrong-key", GUEST])
@pytest.mark.parametrize("accept", ["*/*", "text/html"])
def test_no_public_page_names_what_the_caller_may_not_use(
    servers: Servers, path: str, key: str | None, accept: str
) -> None:
    answer = servers.full.call("GET", path, headers={"accept": accept}, key=key)
    names = [name for name in (*OPEN, *SECRET) if name.lower() in answer.body.decode().lower()]
    assert all(name in OPEN for name in names)
    assert key == GUEST or not names


def test_the_page_shows_a_caller_its_deployments(servers: Servers) -> None:
    for key, count in ((KEY, 6), (GUEST, 2)):
        page = servers.full.call("GET", "/", headers={"accept": "text/html"}, key=key).body.decode()
        assert page.count('<th scope="row">') == count


@pytest.mark.parametrize("path", ["/metrics", "/admin/v1/usage", "/admin/v1/usage/records", "/admin/v1/usage?by=key"])
def test_what_tells_of_everybody_is_for_administrators(servers: Servers, path: str) -> None:
    for key in (GUEST, NARROW):
        answer = servers.full.call("GET", path, key=key)
        assert (answer.status, answer.json["error"]["code"]) == (401, "PermissionDenied")
        assert b"secret" not in answer.body
    assert servers.full.call("GET", path).status == 200


def test_a_call_does_not_spill_over_to_what_its_key_may_not_use(serve_module: Callable[..., Served]) -> None:
    full = {"model": MODEL, "provider": {"type": "scripted"}, "limits": {"requests_per_minute": 1}}
    config = {
        "keys": KEYS,
        "deployments": {"open-plans": {**full, "spillover": "Secret-plans"}, "Secret-plans": SECRET["secret-plans"]},
    }
    served = serve_module(config, GUEST_KEY=GUEST, NARROW_KEY=NARROW)
    body = {"model": "open-plans", "messages": [{"role": "user", "content": "Hi"}]}
    path = "/models/chat/completions"
    answers = [served.call("POST", path, body, key=GUEST) for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 429]
    assert "secret" not in json.dumps(dict(answers[1].headers)).lower() + answers[1].body.decode().lower()
    assert (served.journal()[-1].deployment, served.journal()[-1].spilled_from) == ("open-plans", None)
    allowed = served.call("POST", path, body)
    assert (allowed.status, allowed.headers["x-ms-deployment-name"]) == (200, "Secret-plans")
    assert served.journal()[-1].spilled_from == "open-plans"
