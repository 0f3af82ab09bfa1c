"""`modelport safety explain`, and the route behind it, on a server with one process and with workers."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from modelport.cli.main import app
from modelport.cli.output import ExitCode
from served import KEY, Served

GUEST = "key-of-a-guest-77"
CONFIG: dict[str, Any] = {
    "server": {"default_content_filter": "Microsoft.Nill"},
    "providers": {"house": {"type": "scripted"}},
    "deployments": {"script": {"model": {"name": "script"}, "provider": "house", "content_filter": "strict"}},
    "keys": {"guest": {"key1": "env:GUEST_KEY"}},
    "blocklists": {"house": [{"name": "salad", "exact": "chopping tomatoes"}], "spare": [{"exact": "spare words"}]},
    "content_filters": {
        "strict": {
            "prompt": {"profanity": "annotate", "blocklists": ["house"]},
            "completion": {"profanity": "block"},
            "filters": ["rules"],
        },
        "unused": {"filters": ["classifier"]},
    },
}


@pytest.fixture(scope="module", params=["1", "2"])
def served(request: pytest.FixtureRequest, serve_module: Callable[..., Served]) -> Served:
    return serve_module(CONFIG, GUEST_KEY=GUEST, MODELPORT_WORKERS=request.param)


def run(served: Served, *arguments: str, given: str | None = None) -> Result:
    inherited: dict[str, str | None] = {name: None for name in os.environ if name.startswith("MODELPORT_")}
    environ = {**inherited, "MODELPORT_ENDPOINT": served.url, "MODELPORT_API_KEY": KEY}
    ended = CliRunner().invoke(app, ["safety", "explain", *arguments], env=environ, input=given)
    assert isinstance(ended.exception, SystemExit | None), ended.exception
    return ended


def test_a_policys_decision_is_explained(served: Served) -> None:
    shown = run(served, "--policy", "Strict", "Сhopping t0matoes, sh!t")
    assert shown.exit_code == 0, shown.output
    lines = shown.stdout.splitlines()
    assert lines[:3] == [
        "strict (prompt): blocked",
        "  profanity: filtered: no, detected: yes",
        "  custom_blocklists: filtered: yes",
    ]
    rows = [line.split() for line in lines[4:]]
    assert rows[0] == ["category", "severity", "score", "where", "match", "filter", "entry"]
    assert rows[1][:4] == ["custom_blocklists", "high", "0.90", "0-17"] and rows[1][-2:] == ["house", "salad"]
    assert rows[2][:5] == ["profanity", "high", "0.90", "19-23", "sh!t"]


def test_the_answer_as_json_names_every_verdict(served: Served) -> None:
    found = json.loads(run(served, "-", "--json", "-p", "strict", "-s", "completion", given="so shit").stdout)
    assert (found["policy"], found["source"], found["decision"]) == ("strict", "completion", "blocked")
    assert found["results"] == {"profanity": {"filtered": True, "detected": True}}
    assert found["verdicts"] == [
        {
            "category": "profanity",
            "severity": "high",
            "score": 1.0,
            "start": 3,
            "end": 7,
            "match": "shit",
            "filter": "rules",
            "version": "1",
            "blocklist": None,
            "entry": "shit",
        }
    ]


def test_without_a_policy_all_filters_judge_by_all_lists(served: Served) -> None:
    lines = run(served, "spare words").stdout.splitlines()
    assert lines[0] == "No policy: the filters judge, and nothing follows from it."
    assert lines[-1].split()[:2] == ["custom_blocklists", "high"]
    assert run(served, "fine words").stdout.splitlines()[-1] == "Nothing was found."


def test_a_filter_that_is_not_open_is_named(served: Served) -> None:
    shown = run(served, "--policy", "unused", "x").stdout
    assert "The filter classifier is not open: no deployment has a policy that uses it." in shown.splitlines()


def test_what_goes_wrong_ends_with_its_own_code(served: Served) -> None:
    absent = run(served, "--policy", "absent", "x")
    assert absent.exit_code == ExitCode.NOT_FOUND and "no content filter 'absent'" in absent.stderr
    wrong = run(served, "--source", "both", "x")
    assert wrong.exit_code == ExitCode.USAGE and "not 'both'" in wrong.stderr


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"text": "x", "polciy": "strict"}, 400, "polciy"),
        ({}, 400, "text"),
        ({"text": "x" * 1_000_001}, 400, "more than 1000000 characters"),
        (b"[" * 200_000, 400, "not"),
        (b'{"text": "\\udc00"}', 400, "not a JSON object"),
    ],
)
def test_a_body_that_is_wrong_is_refused(served: Served, body: Any, status: int, said: str) -> None:
    answer = served.call("POST", "/admin/v1/safety/explain", body)
    assert answer.status == status
    assert said in answer.json["error"]["message"]


def test_it_is_for_administrators_and_no_call(served: Served) -> None:
    body = {"text": "x"}
    assert served.call("POST", "/admin/v1/safety/explain", body, key=GUEST).status == 401
    assert served.call("POST", "/admin/v1/safety/explain", body, key=None).status == 401
    before = len(served.journal())
    assert served.call("POST", "/admin/v1/safety/explain", body).status == 200
    assert len(served.journal()) == before
