"""Which of two content filters is stricter."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from modelport.core.safety import BUILT_IN, Category, ContentFilterPolicy, Rule, Severity, SidePolicy, shortfalls

DEFAULT = BUILT_IN["Microsoft.DefaultV2"]
LISTED = replace(DEFAULT, prompt=SidePolicy(DEFAULT.prompt.rules, {"house": "House"}))


def changed(category: Category, rule: Rule | None) -> ContentFilterPolicy:
    rules: dict[Category, Any] = {**DEFAULT.prompt.rules, category: rule}
    return replace(DEFAULT, prompt=SidePolicy({name: found for name, found in rules.items() if found is not None}))


@pytest.mark.parametrize(
    "stricter",
    [
        DEFAULT,
        LISTED,
        changed(Category.HATE, Rule(Severity.LOW)),
        changed(Category.INDIRECT_ATTACK, Rule()),
        replace(DEFAULT, refuses_on_outage=True, filters=(*DEFAULT.filters, "guard_model")),
    ],
)
def test_at_least_as_strict(stricter: ContentFilterPolicy) -> None:
    assert list(shortfalls(stricter, DEFAULT)) == []


@pytest.mark.parametrize(
    ("weaker", "base", "what"),
    [
        (changed(Category.HATE, None), DEFAULT, "prompt hate is off"),
        (changed(Category.HATE, Rule(Severity.HIGH)), DEFAULT, "prompt hate begins at high, not at medium"),
        (changed(Category.JAILBREAK, Rule(blocks=False)), DEFAULT, "prompt jailbreak is only annotated"),
        (DEFAULT, LISTED, "prompt lacks the blocklist House"),
        (replace(DEFAULT, filters=("rules",)), DEFAULT, "the filter classifier is missing"),
        (replace(DEFAULT, is_asynchronous=True), DEFAULT, "its mode is asynchronous"),
        (DEFAULT, replace(DEFAULT, refuses_on_outage=True), "an outage is only annotated"),
        (BUILT_IN["Microsoft.Default"], DEFAULT, "prompt jailbreak is off"),
        (BUILT_IN["Microsoft.Nill"], BUILT_IN["Microsoft.Default"], "completion violence is off"),
    ],
)
def test_what_is_missing(weaker: ContentFilterPolicy, base: ContentFilterPolicy, what: str) -> None:
    assert what in list(shortfalls(weaker, base))


def test_what_filters_nothing() -> None:
    assert [name for name, policy in BUILT_IN.items() if policy.is_neutral] == ["Microsoft.Nill"]
    assert replace(DEFAULT, filters=()).is_neutral
