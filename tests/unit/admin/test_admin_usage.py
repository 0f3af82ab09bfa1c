"""`/admin/v1/usage`: for Administrators alone, on one process and on several, with refusals that say what is wrong."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from modelport.app.admin import admin_app
from modelport.config.settings import Settings
from modelport.core.clock import SystemClock
from modelport.core.roles import Permission
from modelport.core.usage_reports import RecordsPage, RecordsQuestion, UsageQuestion, UsageRow
from served import Served

MODEL = {"format": "Custom", "name": "script", "version": "1"}
CONFIG: dict[str, Any] = {
    "deployments": {
        "script": {"model": MODEL, "provider": {"type": "scripted"}, "default": True},
        "other": {"model": MODEL, "provider": {"type": "scripted"}},
    },
    "projects": {"research": {}},
    "keys": {"guest": {"key1": "env:GUEST_KEY", "project": "research"}},
}
GUEST = "key-of-a-guest-77"
USAGE, RECORDS = "/admin/v1/usage", "/admin/v1/usage/records"


class Silent:
    """A ledger without any call."""

    def running(self) -> Any: ...

    def states(self) -> list[Any]:
        return []

    async def report(self, question: UsageQuestion) -> list[UsageRow]:
        return []

    async def records(self, question: RecordsQuestion) -> RecordsPage:
        return RecordsPage((), None)


def test_every_endpoint_of_the_administration_demands_the_role() -> None:
    def current() -> Any:
        return SimpleNamespace(settings=Settings())

    endpoints = list(admin_app(Silent(), current, SystemClock(), None).endpoints)
    assert {endpoint.path for endpoint in endpoints} == {USAGE, RECORDS}
    assert {endpoint.permission for endpoint in endpoints} == {Permission.READ_USAGE}


@pytest.fixture(scope="module", params=["1", "2"])
def served(request: pytest.FixtureRequest, serve_module: Callable[..., Served]) -> Served:
    found = serve_module(CONFIG, GUEST_KEY=GUEST, MODELPORT_WORKERS=request.param)
    for model, key in (("script", found.key), ("other", GUEST), ("other", GUEST)):
        body = {"model": model, "messages": [{"role": "user", "content": "Hello!"}]}
        assert found.call("POST", "/v1/chat/completions", body, key=key).status == 200
    return found


@pytest.mark.parametrize("path", [USAGE, RECORDS])
@pytest.mark.parametrize(
    ("key", "code"), [(None, "Unauthorized"), ("a-wrong-key", "Unauthorized"), (GUEST, "PermissionDenied")]
)
def test_nobody_else_is_told_anything(served: Served, path: str, key: str | None, code: str) -> None:
    answer = served.call("GET", path, key=key)
    assert answer.status == 401
    assert answer.json["error"]["code"] == code
    assert b"script" not in answer.body


def test_what_has_just_been_answered_is_in_the_report(served: Served) -> None:
    before = {row["deployment"]: row for row in served.call("GET", USAGE).json}
    body = {"model": "script", "messages": [{"role": "user", "content": "Hello!"}]}
    used = served.call("POST", "/v1/chat/completions", body).json["usage"]
    after = {row["deployment"]: row for row in served.call("GET", USAGE).json}
    assert after["script"]["calls"] == before["script"]["calls"] + 1
    assert after["script"]["input_tokens"] == before["script"]["input_tokens"] + used["prompt_tokens"]
    assert after["script"]["output_tokens"] == before["script"]["output_tokens"] + used["completion_tokens"]
    assert after["script"]["unpriced_calls"] == after["script"]["calls"]
    assert after["script"]["cost"] is None
    assert after["other"] == before["other"]


def test_usage_is_divided_as_asked(served: Served) -> None:
    rows = served.call("GET", f"{USAGE}?by=key,project&since=24h").json
    guests = next(row for row in rows if row["key"] == "guest/key1")
    assert (guests["project"], guests["calls"]) == ("research", 2)
    assert served.call("GET", f"{USAGE}?by=day&until=2020-01-01").json == []


def test_usage_comes_as_csv_and_as_focus(served: Served) -> None:
    answer = served.call("GET", f"{USAGE}?by=deployment&format=csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert {line["deployment"] for line in csv.DictReader(io.StringIO(answer.body.decode()))} == {"script", "other"}
    charges = list(csv.DictReader(io.StringIO(served.call("GET", f"{USAGE}?format=focus").body.decode())))
    assert {charge["ResourceId"] for charge in charges} == {"script", "other"}


def test_records_come_in_pages(served: Served) -> None:
    first = served.call("GET", f"{RECORDS}?limit=2").json
    second = served.call("GET", f"{RECORDS}?limit=2&before={first['next']}").json
    found = first["records"] + second["records"]
    assert len(first["records"]) == 2
    assert len({one["id"] for one in found}) == len(found) >= 3
    assert {one["deployment"] for one in found} <= {"script", "other"}
    assert "Hello" not in str(found)


@pytest.mark.parametrize(
    ("path", "target"),
    [
        (f"{USAGE}?by=colour", "is no grouping"),
        (f"{USAGE}?sinse=1d", "There is no parameter of this name"),
        (f"{USAGE}?format=xml", "is no format"),
        (f"{USAGE}?since=soon", "is no time"),
        (f"{USAGE}?since=today&until=yesterday", "since is after until"),
        (f"{RECORDS}?limit=0", "limit is a number from 1 to 1000"),
        (f"{RECORDS}?limit=1001", "limit is a number from 1 to 1000"),
        (f"{RECORDS}?limit=many", "limit is a number from 1 to 1000"),
        (f"{RECORDS}?before=here", "`before` is not a place"),
        (f"{RECORDS}?by=day", "There is no parameter of this name"),
    ],
)
def test_a_question_that_is_not_understood_is_refused(served: Served, path: str, target: str) -> None:
    answer = served.call("GET", path)
    assert answer.status == 400
    assert target in answer.json["error"]["message"]


def test_there_is_nothing_else(served: Served) -> None:
    assert served.call("GET", "/admin/v1/nothing").status == 404
    assert served.call("POST", USAGE, {}).status == 405
