"""Content filters over the API: what is changed counts for the next call, and policies demand a strictness."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from served import Answer, Served

OFF = dict.fromkeys(("hate", "sexual", "violence", "self_harm"), "off")
SIDE: dict[str, Any] = {"prompt": {**OFF, "jailbreak": "off", "blocklists": ["house"]}, "completion": OFF}
FILTER = {**SIDE, "filters": ["rules"]}
DEPLOYED = {"model": {"name": "x"}, "provider": {"type": "scripted"}}


@pytest.fixture(scope="module")
def server(serve_module: Callable[..., Served]) -> Served:
    return serve_module({"deployments": {"spare": DEPLOYED}})


@pytest.fixture
def served(server: Served) -> Iterator[Served]:
    yield server
    for path in ("policies/strict", "deployments/careful", "content_filters/own", "blocklists/house"):
        server.call("DELETE", f"/admin/v1/{path}")


def put(served: Served, path: str, settings: dict[str, Any]) -> Answer:
    return served.call("PUT", f"/admin/v1/{path}", {"settings": settings})


def chat(served: Served, text: str) -> Answer:
    body = {"model": "careful", "messages": [{"role": "user", "content": text}]}
    return served.call("POST", "/v1/chat/completions", body)


def put_all(served: Served) -> None:
    assert put(served, "blocklists/house", {"items": [{"exact": "chopping tomatoes"}]}).status == 201
    assert put(served, "content_filters/own", FILTER).status == 201
    assert put(served, "deployments/careful", {**DEPLOYED, "content_filter": "OWN"}).status == 201


@pytest.mark.check(25, 108, 112)
def test_a_stored_filter_counts_for_the_next_call(served: Served) -> None:
    put_all(served)
    assert chat(served, "Chopping tomatoes is great.").json["error"]["code"] == "content_filter"
    assert chat(served, "Slicing onions is great.").status == 200
    put(served, "blocklists/house", {"items": [{"exact": "slicing onions"}]})
    assert chat(served, "Chopping tomatoes is great.").status == 200
    assert chat(served, "Slicing onions is great.").status == 400
    put(served, "deployments/careful", {**DEPLOYED, "content_filter": "Microsoft.Nill"})
    assert chat(served, "Slicing onions is great.").status == 200


def test_what_is_in_use_stays(served: Served) -> None:
    put_all(served)
    for path in ("content_filters/own", "blocklists/house"):
        assert served.call("DELETE", f"/admin/v1/{path}").status == 409
    endless = {"items": [{"regex": "a.*b"}]}
    assert put(served, "blocklists/house", endless).status == 200  # it is for prompts alone
    refused = put(served, "content_filters/own", {**FILTER, "completion": {**OFF, "blocklists": ["house"]}})
    assert refused.status == 400
    assert "window_chars" in refused.json["error"]["message"]
    whole = {**FILTER, "completion": {**OFF, "blocklists": ["house"]}, "window_chars": "whole"}
    assert put(served, "content_filters/own", whole).status == 200


def test_a_policy_demands_a_strictness_and_keeps_it(served: Served) -> None:
    put_all(served)
    assert put(served, "policies/strict", {"content_filter_at_least": "own"}).status == 201
    refused = put(served, "deployments/careful", {**DEPLOYED, "content_filter": "Microsoft.Nill"})
    assert (refused.status, refused.json["error"]["code"]) == (403, "RequestDisallowedByPolicy")
    assert (
        "Microsoft.Nill is less strict than own: prompt lacks the blocklist house" in refused.json["error"]["message"]
    )
    assert put(served, "content_filters/other", {**FILTER, "prompt": {**FILTER["prompt"], "hate": "low"}}).status == 201
    assert put(served, "deployments/careful", {**DEPLOYED, "content_filter": "other"}).status == 200
    weaker = put(served, "content_filters/other", {**FILTER, "prompt": {**OFF, "jailbreak": "off"}})
    assert (weaker.status, weaker.json["error"]["code"]) == (403, "RequestDisallowedByPolicy")
    served.call("DELETE", "/admin/v1/deployments/careful")
    assert served.call("DELETE", "/admin/v1/content_filters/other").status in (200, 204)


def test_readiness_names_the_default(served: Served) -> None:
    assert served.call("GET", "/health/ready").json["default_content_filter"] == "Microsoft.Nill"


def test_a_record_says_what_was_found(served: Served) -> None:
    put_all(served)
    chat(served, "Chopping tomatoes is great.")
    record = served.journal()[-1]
    assert (record.content_filter, record.status, record.error_code) == (
        "prompt.custom_blocklists!",
        400,
        "content_filter",
    )
    assert not record.usage.total
    assert "omatoes" not in str(record)
