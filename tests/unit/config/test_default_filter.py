"""Which content filter is in force, and what keeps a server with one from starting."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelport.cli.startup import filter_line
from modelport.config import default_filter, preflight
from modelport.config.default_filter import default_content_filter, has_classifier
from modelport.config.load import load
from modelport.config.settings import Settings

ONE = "deployments: {a: {model: {name: x}, provider: {type: scripted}, content_filter: Microsoft.DefaultV2}}"


def settings_of(directory: Path, text: str) -> Settings:
    (directory / "modelport.yaml").write_text(text)
    return load(directory / "modelport.yaml", {"HOME": str(directory)})


def test_where_the_classifier_is_missing_nothing_is_filtered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(tmp_path, "{}")
    monkeypatch.setattr(default_filter, "WHERE_INSTALLED", "Microsoft.DefaultV2")
    for found, policy in ((False, "Microsoft.Nill"), (True, "Microsoft.DefaultV2")):
        monkeypatch.setattr(default_filter, "has_classifier", lambda _, found=found: found)
        assert default_content_filter(settings) == policy
    named = settings_of(tmp_path, "server: {default_content_filter: Microsoft.Default}")
    assert default_content_filter(named) == "Microsoft.Default"


def test_the_default_is_looked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(tmp_path, "{}")
    before = has_classifier(settings)
    monkeypatch.setattr(default_filter, "CLASSIFIER", ("modelport_has_no_such_module",))
    assert has_classifier(settings) == before


def test_the_start_says_what_is_in_force_and_why(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "{}")
    assert filter_line("Microsoft.DefaultV2", settings) == "  content filter: Microsoft.DefaultV2"
    nothing = "  content filter: Microsoft.Nill, which filters nothing"
    missing = "; the local classifier is not installed (pip install 'modelport[local]')"
    assert filter_line("Microsoft.Nill", settings) == nothing + missing
    assert filter_line("Microsoft.Nill", settings_of(tmp_path, "server: {default_content_filter: Microsoft.Nill}")) == (
        nothing
    )


def test_a_package_that_is_missing_is_no_classifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(default_filter, "CLASSIFIER", ("modelport_has_no_such_module",))
    assert not has_classifier(settings_of(tmp_path, "{}"))


def test_a_deployment_with_a_classifier_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "has_classifier", lambda _: False)
    (problem,) = [found for found in preflight.problems(settings_of(tmp_path, ONE)) if "content_filter" in found.path]
    assert problem.path == ("deployments", "a", "content_filter")
    assert problem.kind == "extra"
    assert problem.what == (
        "Microsoft.DefaultV2 needs the local classifier, image and prompt_attack: pip install 'modelport[local]'"
    )
    monkeypatch.setattr(preflight, "has_classifier", lambda _: True)
    assert not [found for found in preflight.problems(settings_of(tmp_path, ONE)) if "content_filter" in found.path]
