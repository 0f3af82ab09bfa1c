"""What operators get who configure nothing: the embedded models behind the default content filter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from served import DEFAULT_FILTER, Answer, Served, serve

VIOLENT = "I will stab you and watch you bleed to death."
TOMATOES = "Chopping tomatoes and cutting them into cubes or wedges are great ways to practice your knife skills."
"""The documents' sample."""

pytestmark = pytest.mark.embedded


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Iterator[Served]:
    data_dir = tmp_path_factory.mktemp("default") / "data"
    data_dir.mkdir(mode=0o700)
    (data_dir / "models").symlink_to((weights / "models").resolve())
    with serve("{}", data_dir, **{DEFAULT_FILTER: ""}) as found:
        found.ready()
        yield found


def asked(served: Served, surface: str, text: str, **fields: Any) -> Answer:
    body = {"model": "smollm2-135m-instruct", "max_tokens": 8, "temperature": 0, **fields}
    return served.call("POST", f"{surface}/chat/completions", {**body, "messages": [{"role": "user", "content": text}]})


def test_readiness_names_it(served: Served) -> None:
    assert served.call("GET", "/health/ready").json["default_content_filter"] == "Microsoft.DefaultV2"


@pytest.mark.parametrize("fields", [{}, {"stream": True}], ids=["whole", "stream"])
@pytest.mark.parametrize("surface", ["/models", "/openai/v1"])
@pytest.mark.check(25)
def test_a_violent_prompt_is_blocked_and_tomatoes_are_not(served: Served, surface: str, fields: dict[str, Any]) -> None:
    blocked = asked(served, surface, VIOLENT, **fields)
    assert blocked.status == 400
    assert blocked.json["error"]["code"] == "content_filter"
    assert blocked.json["error"]["param"] == "prompt"

    passed = asked(served, surface, TOMATOES, **fields)
    assert passed.status == 200
    answers = passed.chunks if fields else [passed.json]
    reasons = [choice["finish_reason"] for answer in answers for choice in answer["choices"]]
    assert [reason for reason in reasons if reason is not None] == ["length"]
    assert any("prompt_filter_results" in answer for answer in answers) == (surface == "/openai/v1")


def test_no_filter_is_a_decision_of_the_operator(tmp_path: Path) -> None:
    """The same server where `server.default_content_filter` says so."""
    config = {
        "server": {"default_content_filter": "Microsoft.Nill"},
        "deployments": {"echo": {"model": {"name": "x"}, "provider": {"type": "scripted"}, "default": True}},
    }
    with serve(config, tmp_path / "data") as found:
        assert found.call("GET", "/health/ready").json["default_content_filter"] == "Microsoft.Nill"
        assert found.chat(VIOLENT).status == 200
