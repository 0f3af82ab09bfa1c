"""Which safety filters stay open when the configuration changes: those whose own parts are the same."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from modelport.app import filters
from modelport.app.filters import SafetyFilters, no_filters, open_content_filters
from modelport.config.document import Document
from modelport.config.load import parse

NAMES = ("rules", "classifier", "prompt_attack", "guard_model", "azure_content_safety")
DEPLOYMENT = {"model": {"format": "Custom", "name": "any"}, "provider": "house", "content_filter": "all"}


def opened(before: SafetyFilters, **sections: Any) -> SafetyFilters:
    config = {
        "providers": {"house": {"type": "scripted"}},
        "deployments": {"a": DEPLOYMENT},
        "content_filters": {"all": {"filters": [*NAMES], "prompt": {"blocklists": ["house"]}}},
        "blocklists": {"house": [{"exact": "one"}]},
        "content_safety": {
            "azure": {"endpoint": "https://a.example", "key": "env:AZURE"},
            "guard": {"deployment": "a"},
        },
    }
    settings = parse(Document({**config, **sections}), None, {"HOME": "/h", "AZURE": "k"}).settings
    return open_content_filters(settings, before)


def changed(found: SafetyFilters, before: SafetyFilters) -> set[str]:
    return {name for name in NAMES if found.opened[name] is not before.opened[name]}


@pytest.fixture
def first(monkeypatch: pytest.MonkeyPatch) -> SafetyFilters:
    monkeypatch.setattr(filters, "minilm_options", lambda data_dir: {"weights": "/w"})
    return opened(no_filters())


def test_nothing_is_opened_again_for_the_same_parts(first: SafetyFilters) -> None:
    assert changed(opened(first), first) == set()


def test_a_blocklist_is_the_rules_alone(first: SafetyFilters) -> None:
    found = opened(first, blocklists={"house": [{"exact": "two"}]})
    assert changed(found, first) == {"rules"}
    assert found.parts.adapters["classify"] is first.parts.adapters["classify"]  # what it has judged, it remembers


def test_what_runs_elsewhere_is_its_own_filters_alone(first: SafetyFilters) -> None:
    azure = {"endpoint": "https://a.example", "key": "env:AZURE"}
    guard = {"deployment": "a", "form": "llama_guard"}
    found = opened(first, content_safety={"azure": azure, "guard": guard})
    assert changed(found, first) == {"guard_model"}
    found = opened(first, content_safety={"azure": {**azure, "timeout_seconds": 1}, "guard": {"deployment": "a"}})
    assert changed(found, first) == {"azure_content_safety"}


def test_a_filter_that_does_not_say_what_it_uses_gets_every_part(
    first: SafetyFilters, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    known = filters.filter_module

    def open_filter(parts: Any) -> Any:
        given.append(parts)
        return known("rules").open_filter(parts)

    def module(name: str) -> Any:
        return SimpleNamespace(open_filter=open_filter) if name == "classifier" else known(name)

    monkeypatch.setattr(filters, "filter_module", module)
    found = opened(first, blocklists={"house": [{"exact": "two"}]})
    assert changed(found, first) == {"rules", "classifier"}
    assert given == [found.parts]
