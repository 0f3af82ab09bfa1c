"""Roles, routes and scopes: every route of every table, asked with real calls by callers of every role and scope. What
is expected follows from `route_permissions.yaml` and from the roles below; neither is read from the source."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml
from msgspec import Struct

from modelport.app.admin import admin_app
from modelport.config.settings import Settings
from modelport.core.clock import SystemClock
from modelport.core.roles import PERMISSIONS, Permission, Role
from modelport.surfaces.app import all_routes
from modelport.surfaces.door import Inference, Recorded
from modelport.surfaces.options import Options
from served import KEY, Answer, Served

ACCOUNT = (
    "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.CognitiveServices/accounts/{account}"
)
LOCATION = "/subscriptions/{subscription}/providers/Microsoft.CognitiveServices/locations/{location}"
ARM = ("/subscriptions", "/metadata")

GIVEN = {
    "Inference User": {"infer", "list models", "read account"},
    "Deployment Contributor": {
        "list models",
        "read account",
        "read deployments",
        "write deployments",
        "read catalogue",
    },
    "Usage Reader": {"read account", "read usage", "read metrics"},
    "Administrator": set(map(str, Permission)),
}

MODEL = {"format": "Custom", "name": "script", "version": "1"}
CONFIG: dict[str, Any] = {
    "auth": {"failures_per_minute": None},
    "providers": {"house": {"type": "scripted"}},
    "models": [{**MODEL, "provider": "house"}],
    "deployments": {
        "team-chat": {"model": MODEL, "provider": "house"},
        "other-chat": {"model": MODEL, "provider": "house", "default": True},
    },
    "projects": {"research": {}, "sales": {}},
}


class Caller(Struct, frozen=True):
    """A key of the configuration and what it opens."""

    role: str | None
    scope: dict[str, Any] = {}
    is_valid: bool = True

    def may(self, permission: str, operation: str | None = None) -> bool:
        """What the roles above say, whatever the deployment."""
        if permission == "public":
            return True
        if not self.is_valid or self.role is None or permission not in GIVEN[self.role]:
            return False
        if permission == "read metrics" and "project" in self.scope:
            return False
        return operation is None or operation in self.scope.get("operations", [operation])

    @property
    def is_of_team(self) -> bool:
        """Whether `team-chat` is in its scope, and `other-chat` is not."""
        return "deployments" in self.scope


TEAM = {"deployments": ["TEAM-*"]}
CALLERS = {
    "inference": Caller("Inference User"),
    "inference-team": Caller("Inference User", TEAM),
    "inference-embeddings": Caller("Inference User", {"operations": ["embeddings"]}),
    "contributor": Caller("Deployment Contributor"),
    "contributor-team": Caller("Deployment Contributor", TEAM),
    "reader": Caller("Usage Reader"),
    "reader-research": Caller("Usage Reader", {"project": "research"}),
    "administrator": Caller("Administrator"),
    "nothing": Caller(None),
    "expired": Caller("Administrator", {"expires": "2020-01-01"}, is_valid=False),
}
STRANGERS = {"no key": None, "a wrong key": "key-of-nothing-at-all"}


class Entry(Struct, frozen=True):
    """One method of one path."""

    method: str
    path: str
    declared: str
    operation: str | None = None

    def __str__(self) -> str:
        return f"{self.method} {self.path.replace(ACCOUNT, 'ACCOUNT').replace(LOCATION, 'LOCATION')}"

    @property
    def is_about_a_deployment(self) -> bool:
        """Whether a path, or a call, names one."""
        if "Microsoft.Authorization" in self.path or self.path.startswith("/contentsafety"):
            return False
        named = "{deployment}" in self.path or self.path.endswith(("/models/{name}", "/deployments/{name}"))
        return (named and not self.path.startswith("/admin/v1/models")) or self.operation is not None


def table() -> Iterator[Entry]:
    """Every route there is: the surfaces', `/admin/v1` and ARM."""
    for route in all_routes(Options()):
        is_call = isinstance(route.endpoint, Inference)
        operation = str(cast(Inference, route.endpoint).operation) if is_call else None
        operation = "info" if route.path.endswith("/info") else operation
        operation = "content_safety" if isinstance(route.endpoint, Recorded) else operation
        yield Entry(route.method, route.path, str(route.permission), operation)
    current = SimpleNamespace(settings=Settings())
    control = SimpleNamespace(plane=SimpleNamespace(note_refusal=None), key_uses=None)
    app = admin_app(cast(Any, None), lambda: cast(Any, current), SystemClock(), cast(Any, control))
    for endpoint in app.endpoints:
        yield Entry(endpoint.method, endpoint.path, str(endpoint.permission))


def expectations() -> dict[str, str]:
    """By `METHOD path`."""
    found: dict[str, str] = {}
    for permission, lines in yaml.safe_load((Path(__file__).parent / "route_permissions.yaml").read_text()).items():
        for line in lines:
            methods, _, path = line.partition(" ")
            found |= {f"{method} {path}": permission for method in methods.split("|")}
    return found


ROUTES = list(table())
EXPECTED = expectations()
every_route = pytest.mark.parametrize("route", ROUTES, ids=str)


@pytest.fixture(scope="module")
def served(serve_module: Callable[..., Served]) -> Served:
    return serve_module(*configured(CONFIG))


@pytest.fixture(scope="module")
def anonymous(serve_module: Callable[..., Served]) -> Served:
    return serve_module(*configured({**CONFIG, "auth": {**CONFIG["auth"], "anonymous": True}}))


def configured(config: dict[str, Any]) -> tuple[dict[str, Any]]:
    """With a key for each caller."""
    keys = {
        name: {"key1": f"env:{variable(name)}", "role": caller.role, **caller.scope} for name, caller in CALLERS.items()
    }
    return ({**config, "keys": keys},)


def variable(name: str) -> str:
    return name.upper().replace("-", "_") + "_KEY"


def key_of(name: str) -> str:
    return f"key-of-{name}-5d1c"


@pytest.fixture(scope="module", autouse=True)
def keys() -> Iterator[None]:
    """The callers' keys in the environment of the servers."""
    with pytest.MonkeyPatch.context() as patch:
        for name in CALLERS:
            patch.setenv(variable(name), key_of(name))
        yield


def call(served: Served, route: Entry, key: str | None, deployment: str = "team-chat") -> Answer:
    """A request that changes nothing, whoever sends it: bodies are incomplete, and what is deleted does not exist."""
    path = route.path
    for place in ("deployment", "name") if route.is_about_a_deployment else ("deployment",):
        path = path.replace(f"{{{place}}}", deployment)
    for segment in route.path.split("/"):
        if segment.startswith("{"):
            path = path.replace(segment, "absent")
    headers = {"azureml-model-deployment": deployment, "x-ms-model-mesh-model-name": deployment}
    body: Any = None
    if route.path.endswith("/info"):
        path += f"?model={deployment}"
    elif route.path.endswith("/score"):
        body = {"input_data": {"input_string": [{"role": "user", "content": "Hi"}], "parameters": {}}}
    elif route.operation is not None:
        fields: dict[str, Any] = {
            "chat_completions": {"messages": [{"role": "user", "content": "Hi"}]},
            "completions": {"prompt": "Hi"},
            "embeddings": {"input": ["Hi"]},
            "content_safety": {"text": "Hi"},
            "image_embeddings": {"input": [{"image": "data:image/png;base64,iVBORw0KGgo="}]},
        }
        body = {"model": deployment, **fields[route.operation]}
    elif route.declared == "write deployments":  # of the file, so that it cannot be changed
        settings = {"tags": {"a": "b"}} if route.method == "PATCH" else {"model": MODEL, "provider": "house"}
        body = {"settings": settings} if route.path.startswith("/admin") else {"properties": {"model": MODEL}}
    elif route.method in ("POST", "PUT", "PATCH"):
        body = {"neither": "settings nor properties"}
    return served.call(route.method, path, body, headers=headers, key=key)


def outcome(answer: Answer) -> str:
    """`stranger`, `denied`, or `open`: whatever comes after the permission was checked."""
    if answer.status not in (401, 403):
        return "open"
    code = answer.json["error"]["code"]
    if code in ("PermissionDenied", "AuthorizationFailed"):
        return "denied"
    return "stranger" if answer.status == 401 else "open"


def test_every_route_has_an_expectation_and_demands_it() -> None:
    declared = {str(route): route.declared for route in ROUTES}
    assert declared == EXPECTED, "add the route to tests/failures/route_permissions.yaml"
    assert len(ROUTES) == len(declared)


def test_the_roles_give_what_is_written_here() -> None:
    assert {str(role): set(map(str, given)) for role, given in PERMISSIONS.items()} == GIVEN
    assert set(Role) == set(GIVEN)


@every_route
def test_a_caller_may_what_its_role_gives(served: Served, route: Entry) -> None:
    expected = EXPECTED[str(route)]
    for name, caller in CALLERS.items():
        if caller.is_of_team and route.is_about_a_deployment:
            continue  # below
        answer = call(served, route, key_of(name))
        allowed = "open" if caller.may(expected, route.operation) else "denied" if caller.is_valid else "stranger"
        assert outcome(answer) == allowed, (name, answer.status, answer.body)
        assert key_of(name).encode() not in answer.body
    assert outcome(call(served, route, KEY)) == "open"


@every_route
def test_without_a_valid_key_only_what_is_public_is_answered(served: Served, route: Entry) -> None:
    for name, key in STRANGERS.items():
        expected = "open" if EXPECTED[str(route)] == "public" else "stranger"
        assert outcome(call(served, route, key)) == expected, name


@every_route
def test_an_anonymous_caller_is_an_inference_user_and_a_wrong_key_is_refused(anonymous: Served, route: Entry) -> None:
    permission = EXPECTED[str(route)]
    user = CALLERS["inference"]
    assert outcome(call(anonymous, route, None)) == ("open" if user.may(permission, route.operation) else "denied")
    expected = "open" if permission == "public" else "stranger"
    for key in ("key-of-nothing-at-all", key_of("expired"), "eyJhbGciOiJub25lIn0.e30."):
        assert outcome(call(anonymous, route, key)) == expected, key


@pytest.mark.parametrize("route", [route for route in ROUTES if route.is_about_a_deployment], ids=str)
@pytest.mark.parametrize("name", [name for name, caller in CALLERS.items() if caller.is_of_team])
def test_a_deployment_out_of_scope_looks_like_one_that_does_not_exist(served: Served, route: Entry, name: str) -> None:
    expected = CALLERS[name].may(EXPECTED[str(route)], route.operation)
    own, hidden, absent = (call(served, route, key_of(name), one) for one in ("team-chat", "other-chat", "absent-one"))
    assert outcome(own) == ("open" if expected else "denied")
    if expected and route.method == "PUT":  # which would create it
        assert (outcome(hidden), outcome(absent)) == ("denied", "denied")
    elif expected:
        assert hidden.status in ((200,) if route.path.endswith("/models") else (204, 404))  # lists are the caller's own
    assert hidden.status == absent.status
    assert hidden.body.lower().replace(b"other-chat", b"absent-one") == absent.body.lower()


# --- scopes of the administration -----------------------------------------------------------------------------------


def test_a_contributor_makes_what_is_in_its_scope_and_no_more(served: Served) -> None:
    team, settings = key_of("contributor-team"), {"model": MODEL, "provider": "house"}

    def put(name: str, key: str = team, **more: Any) -> Answer:
        return served.call("PUT", f"/admin/v1/deployments/{name}", {"settings": {**settings, **more}}, key=key)

    made = put("Team-new")
    assert made.status == 201, made.body
    for refused in (
        put("elsewhere"),
        put("team-inline", provider={"type": "openai_compatible", "base_url": "http://169.254.169.254/v1"}),
        *(put("team-default", default=yes) for yes in (True, 1, 1.0, "true", "yes", "on", "1", "T", [True])),
        put("team-spill", spillover="other-chat"),
        put("team-spill", spillover="absent-one"),
        put("any-inline", key_of("contributor"), provider={"type": "scripted"}),
    ):
        assert outcome(refused) == "denied", refused.body
    assert put("team-spill", spillover="team-chat").status == 201
    listed = served.call("GET", "/admin/v1/deployments", key=team).json["value"]
    assert {found["name"] for found in listed} == {"team-chat", "Team-new", "team-spill"}
    path = f"{ACCOUNT}/deployments"
    for place in ("subscription", "group", "account"):
        path = path.replace(f"{{{place}}}", place)
    arm = served.call("GET", path, key=team).json["value"]
    assert {found["name"] for found in arm} == {"team-chat", "Team-new", "team-spill"}
    for name in ("team-spill", "Team-new"):
        assert served.call("DELETE", f"/admin/v1/deployments/{name}", key=team).status == 204


def test_a_deployment_keeps_a_provider_that_an_administrator_has_written_in_it(served: Served) -> None:
    path, contributor = "/admin/v1/deployments/inline", key_of("contributor")
    provider = {"type": "openai_compatible", "base_url": "http://127.0.0.1:9/v1", "api_key": "of-the-upstream-1"}
    made = served.call("PUT", path, {"settings": {"model": MODEL, "provider": provider}})
    assert made.status == 201, made.body
    seen = served.call("GET", path, key=contributor).json["settings"]
    assert served.call("PUT", path, {"settings": {**seen, "tags": {"a": "b"}}}, key=contributor).status == 200
    moved = {**seen, "provider": {**seen["provider"], "base_url": "http://127.0.0.1:10/v1"}}
    assert outcome(served.call("PUT", path, {"settings": moved}, key=contributor)) == "denied"
    part = {"provider": {"base_url": "http://127.0.0.1:10/v1"}}
    assert outcome(served.call("PATCH", path, {"settings": part}, key=contributor)) == "denied"
    assert served.call("DELETE", path, key=contributor).status == 204


def test_what_uses_a_deployment_is_not_named_to_who_may_not_see_it(served: Served) -> None:
    settings = {"model": MODEL, "provider": "house"}
    for name, more in (("team-used", {}), ("other-user", {"spillover": "team-used"})):
        made = served.call("PUT", f"/admin/v1/deployments/{name}", {"settings": {**settings, **more}})
        assert made.status == 201, made.body
    path = "/admin/v1/deployments/team-used"
    scoped, unscoped = (served.call("DELETE", path, key=key_of(name)) for name in ("contributor-team", "contributor"))
    assert (scoped.status, unscoped.status) == (409, 409)
    assert b"other-user" not in scoped.body
    assert b"other-user" in unscoped.body
    for name in ("other-user", "team-used"):
        assert served.call("DELETE", f"/admin/v1/deployments/{name}").status == 204


@pytest.fixture(scope="module", params=["1", "2"])
def used(request: pytest.FixtureRequest, serve_module: Callable[..., Served]) -> Served:
    """Two projects have called, and a key without one."""
    config = configured(CONFIG)[0]
    for name in ("research", "sales"):
        config["keys"][name] = {"key1": f"env:{variable(name)}", "project": name}
    keys = {variable(name): key_of(name) for name in ("research", "sales")}
    found = serve_module(config, MODELPORT_WORKERS=request.param, **keys)
    for key, calls in ((key_of("research"), 1), (key_of("sales"), 2), (KEY, 3)):
        for _ in range(calls):
            body = {"model": "team-chat", "messages": [{"role": "user", "content": "Hi"}]}
            assert found.call("POST", "/v1/chat/completions", body, key=key).status == 200
    return found


@pytest.mark.parametrize("by", ["", "project", "key", "principal,day", "deployment", "model,operation"])
def test_the_usage_reader_of_a_project_sees_the_usage_of_that_project(used: Served, by: str) -> None:
    def calls(key: str) -> int:
        rows = used.call("GET", f"/admin/v1/usage?by={by}", key=key).json
        return sum(row["calls"] for row in rows)

    assert (calls(key_of("reader-research")), calls(key_of("reader")), calls(KEY)) == (1, 6, 6)


def test_the_usage_reader_of_a_project_sees_the_calls_of_that_project(used: Served) -> None:
    def seen(path: str, key: str) -> Answer:
        return used.call("GET", f"/admin/v1/usage{path}", key=key)

    own = seen("/records", key_of("reader-research")).json["records"]
    assert [(record["project"], record["principal"]) for record in own] == [("research", "research")]
    assert len(seen("/records", key_of("reader")).json["records"]) == 6
    for form in ("csv", "focus"):
        text = seen(f"?by=project&format={form}", key_of("reader-research")).body
        assert b"research" in text
        assert b"sales" not in text
