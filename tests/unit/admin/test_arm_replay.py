"""The requests that Azure's command line sends, as recorded from az 2.91.0: each is answered with the status that made
`az` work, and with a body in which it finds what it reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from managed import CONFIG, GUEST, call
from served import Answer, Served

RECORDED = [
    json.loads(line)
    for line in (Path(__file__).parents[2] / "golden/az_requests.jsonl").read_text("utf-8").splitlines()
]
TEXT, NUMBER, THING, LIST = str, (int, float), dict, list
DEPLOYMENT = {
    "id": TEXT,
    "name": TEXT,
    "type": TEXT,
    "etag": TEXT,
    "tags": THING,
    "systemData": {"createdAt": TEXT, "lastModifiedAt": TEXT},
    "sku": {"name": TEXT, "capacity": NUMBER},
    "properties": {
        "model": {"format": TEXT, "name": TEXT, "version": TEXT, "publisher": (str, type(None))},
        "provisioningState": TEXT,
        "versionUpgradeOption": TEXT,
        "raiPolicyName": TEXT,
        "capabilities": {"chatCompletion": TEXT},
        "currentCapacity": NUMBER,
        "dynamicThrottlingEnabled": bool,
        "callRateLimit": {"count": NUMBER, "renewalPeriod": NUMBER, "rules": LIST},
        "rateLimits": [{"key": TEXT, "renewalPeriod": NUMBER, "count": NUMBER}],
    },
}
MODEL = {
    "format": TEXT,
    "name": TEXT,
    "version": TEXT,
    "isDefaultVersion": bool,
    "lifecycleStatus": TEXT,
    "maxCapacity": NUMBER,
    "capabilities": THING,
    "deprecation": THING,
    "skus": [{"name": TEXT, "usageName": TEXT, "capacity": {"minimum": NUMBER, "default": NUMBER}, "rateLimits": LIST}],
}
NO_LINK = type(None)
USAGE = {"name": {"value": TEXT, "localizedValue": TEXT}, "currentValue": NUMBER, "limit": NUMBER, "unit": TEXT}
KEYS = {"key1": TEXT, "key2": TEXT}
SHAPES: dict[str, Any] = {
    "GET endpoints": {
        "name": TEXT,
        "portal": TEXT,
        "authentication": {"loginEndpoint": TEXT, "audiences": [TEXT], "tenant": TEXT, "identityProvider": TEXT},
        **dict.fromkeys(("resourceManager", "graphAudience", "media", "batch", "gallery", "sqlManagement"), TEXT),
        **dict.fromkeys(("vmImageAliasDoc", "microsoftGraphResourceId", "activeDirectoryDataLake"), TEXT),
        "suffixes": THING,
    },
    "GET subscriptions": {
        "value": [{"id": TEXT, "subscriptionId": TEXT, "tenantId": TEXT, "displayName": TEXT, "state": TEXT}]
    },
    "PUT d1": DEPLOYMENT,
    "GET deployments": {"value": [THING], "nextLink": NO_LINK},
    "GET d1": DEPLOYMENT,
    "DELETE d1": None,
    "POST listKeys": KEYS,
    "POST regenerateKey": KEYS,
    "GET models": {"value": [MODEL], "nextLink": NO_LINK},
    "GET usages": {"value": [USAGE], "nextLink": NO_LINK},
    "GET acct": {
        "id": TEXT,
        "name": TEXT,
        "kind": TEXT,
        "location": TEXT,
        "sku": {"name": TEXT},
        "properties": {
            "provisioningState": TEXT,
            "endpoint": TEXT,
            "endpoints": {"Azure AI Model Inference API": TEXT},
        },
    },
}
DONE_AT_ONCE = {"DELETE d1": 200}
"""Recorded with 202 and a link to an operation, which `az` then asked for."""


def name_of(recorded: dict[str, Any]) -> str:
    return f"{recorded['method']} {recorded['path'].rpartition('/')[2]}"


def misfits(value: Any, shape: Any, place: str = "") -> list[str]:
    """Where a body is not of this shape; members that the shape does not name are let through."""
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return [place]
        missing = [f"{place}.{name}" for name in shape if name not in value]
        return missing + [
            f for name in shape if name in value for f in misfits(value[name], shape[name], f"{place}.{name}")
        ]
    if isinstance(shape, list):
        if not isinstance(value, list) or not value:
            return [place]
        return [found for index, item in enumerate(value) for found in misfits(item, shape[0], f"{place}[{index}]")]
    return [] if isinstance(value, shape) else [place]


def replay(served: Served, recorded: dict[str, Any], path: str) -> Answer:
    sent = {name: value for name, value in recorded["headers"].items() if name != "authorization"}
    body = recorded["body"].encode() if "body" in recorded else None
    is_signed = "authorization" in recorded["headers"]
    more = {} if is_signed else {"key": None}
    return call(served, recorded["method"], f"{path}?{recorded['query']}", body, headers=sent, **more)


@pytest.fixture(scope="module", params=["1", "2"])
def served(request: pytest.FixtureRequest, serve_module: Callable[..., Served]) -> Served:
    return serve_module(CONFIG, GUEST_KEY=GUEST, MODELPORT_WORKERS=request.param, MODELPORT_TLS_SELF_SIGNED="true")


@pytest.mark.check(126)
@pytest.mark.parametrize("spelled", [str, str.lower, str.upper], ids=["as recorded", "lower", "upper"])
def test_what_az_sends_is_answered_as_it_needs(served: Served, spelled: Callable[[str], str]) -> None:
    replayed = [name_of(recorded) for recorded in RECORDED if "/operations/" not in recorded["path"]]
    assert replayed == ["GET endpoints", *(name for name in SHAPES if name != "GET endpoints")]
    for recorded in RECORDED:
        name = name_of(recorded)
        if "/operations/" in recorded["path"]:
            continue  # DELETE gives no link to one
        answer = replay(served, recorded, spelled(recorded["path"]))
        assert answer.status == DONE_AT_ONCE.get(name, recorded["answered"]), (name, answer.body)
        if SHAPES[name] is None:
            assert answer.body == b""
        else:
            assert misfits(answer.json, SHAPES[name], name) == []


def test_a_capacity_in_text_is_a_number(served: Served) -> None:
    put = next(recorded for recorded in RECORDED if recorded["method"] == "PUT")
    assert '"capacity": "1"' in put["body"]
    assert replay(served, put, put["path"]).json["sku"]["capacity"] == 1
    assert call(served, "DELETE", put["path"]).status == 200
    assert call(served, "DELETE", put["path"]).status == 204


def test_keys_need_a_credential_and_the_description_of_the_cloud_does_not(served: Served) -> None:
    for recorded in RECORDED:
        is_public = "authorization" not in recorded["headers"]
        assert is_public == recorded["path"].startswith("/metadata")
        answer = call(served, recorded["method"], recorded["path"], key=None)
        assert (answer.status == 200) == is_public, recorded["path"]
