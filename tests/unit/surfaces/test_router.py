"""Paths and who may use them."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.core.roles import Permission
from modelport.dialects.error_body import ErrorBody
from modelport.surfaces.app import all_routes
from modelport.surfaces.asgi import Reply
from modelport.surfaces.door import Door, Inference, Route
from modelport.surfaces.exchange import Exchange
from modelport.surfaces.options import Options
from modelport.surfaces.router import Router, UnusableRoute, segments_of


def door(name: str) -> Door:
    return Door(surface=name, refuse=lambda error, head, operation: ErrorBody(status=404, code="404", body=b"{}"))


HERE = door("here")


def page(exchange: Exchange) -> Reply:
    return Reply(b"")


def get(path: str) -> Route:
    return Route(method="GET", path=path, permission="public", door=HERE, endpoint=page)


def test_a_route_without_a_permission_does_not_start() -> None:
    with pytest.raises(UnusableRoute, match="/open declares no permission"):
        Router([Route(method="GET", path="/open", door=HERE, endpoint=page)], [("", HERE)])


def test_a_page_cannot_claim_the_permission_of_an_inference_call() -> None:
    with pytest.raises(UnusableRoute, match="infer"):
        Router([Route(method="GET", path="/p", permission=Permission.INFER, door=HERE, endpoint=page)], [("", HERE)])


def test_an_inference_call_cannot_be_public() -> None:
    inference = next(route for route in all_routes(Options()) if isinstance(route.endpoint, Inference))
    public = Route(method="POST", path="/p", permission="public", door=HERE, endpoint=inference.endpoint)
    with pytest.raises(UnusableRoute, match="infer"):
        Router([public], [("", HERE)])


@pytest.mark.parametrize("path", ["/twice", "/twice/{name}"])
def test_a_route_that_is_there_twice_does_not_start(path: str) -> None:
    with pytest.raises(UnusableRoute, match="twice"):
        Router([get(path), get(path)], [("", HERE)])


def test_only_front_page_health_and_nothing_else_is_public() -> None:
    public = {route.path for route in all_routes(Options()) if route.permission == "public"}
    assert public == {"/", "/favicon.ico", "/health", "/health/live", "/health/ready"}
    public = {route.path for route in all_routes(Options(metrics_public=True)) if route.permission == "public"}
    assert public == {"/", "/health", "/health/live", "/health/ready", "/metrics", "/favicon.ico"}


@pytest.mark.parametrize("path", ["/a/b", "/a/b/", "/a//b", "//a/b", "/a//b/", "/%61/b"])
def test_a_slash_at_the_end_and_one_doubled_slash_make_no_difference(path: str) -> None:
    assert Router([get("/a/b")], [("", HERE)]).match(path).route("GET") is not None


@pytest.mark.parametrize("path", ["/a///b", "//a//b", "/A/b", "/a/b/c", "/a", "a/b", "*", "/a%2Fb"])
def test_other_paths_lead_nowhere(path: str) -> None:
    assert not Router([get("/a/b")], [("", HERE)]).match(path).routes


@given(st.text(min_size=1).filter(lambda text: "\x00" not in text and text.isprintable()))
def test_a_name_in_the_path_arrives_as_it_was_written(name: str) -> None:
    match = Router([get("/a/{name}/b")], [("", HERE)]).match(f"/a/{quote(name, safe='')}/b")
    assert match.parameters == {"name": name}


def test_a_fixed_path_goes_before_one_with_names() -> None:
    router = Router([get("/a/{name}"), get("/a/b")], [("", HERE)])
    assert router.match("/a/b").parameters == {}
    assert router.match("/a/c").parameters == {"name": "c"}


def test_the_longest_prefix_says_that_there_is_nothing() -> None:
    azure, v1 = door("azure"), door("v1")
    router = Router([], [("", HERE), ("/openai", azure), ("/openai/v1", v1)])
    for path, expected in (("/x", HERE), ("/openai/x", azure), ("/openai/v1/x", v1), ("/openai/v10", azure)):
        assert router.match(path).door is expected


def test_head_is_allowed_where_get_is() -> None:
    match = Router([get("/a")], [("", HERE)]).match("/a")
    assert match.route("HEAD") is match.route("GET")
    assert match.allow == ("GET", "HEAD")
    assert match.route("POST") is None


def test_every_path_of_every_base_form_is_there() -> None:
    paths = {(route.method, route.path) for route in all_routes(Options())}
    for base in ("/models", "/api/models", "", "/deployments/{deployment}"):
        for path in ("/chat/completions", "/completions", "/embeddings", "/images/embeddings"):
            assert ("POST", base + path) in paths
        assert ("GET", f"{base}/info") in paths
    for base in ("/openai", "/models/openai"):
        for path in ("/chat/completions", "/completions", "/embeddings"):
            assert ("POST", f"{base}/deployments/{{deployment}}{path}") in paths
    for base in ("/openai/v1", "/v1", "/openai/v1/deployments/{deployment}", "/deployments/{deployment}/v1"):
        for path in ("/chat/completions", "/completions", "/embeddings"):
            assert ("POST", base + path) in paths
    for base in ("/openai", "/openai/v1", "/v1"):
        assert {("GET", f"{base}/models"), ("GET", f"{base}/models/{{name}}")} <= paths
    assert {("POST", "/score"), ("POST", "/deployments/{deployment}/score"), ("GET", "/metrics")} <= paths


def test_the_root_has_no_segments() -> None:
    assert segments_of("/") == ()
    assert segments_of("") == ()
