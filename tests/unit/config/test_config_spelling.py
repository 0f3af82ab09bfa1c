"""The nearest right spelling."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelport.config.settings import Settings
from modelport.config.spelling import did_you_mean, nearest
from modelport.config.vocabulary import keys_at, places_of

KEYS = ("tokens_per_minute", "requests_per_minute", "concurrent_requests", "wait_seconds")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("tokens-per-minute", "tokens_per_minute"),
        ("Tokens Per Minute", "tokens_per_minute"),
        ("token_per_minute", "tokens_per_minute"),
        ("wait", None),
        ("colour", None),
    ],
)
def test_a_near_word_is_found_and_a_far_one_is_not(word: str, meant: str | None) -> None:
    assert nearest(word, KEYS) == meant


def test_nothing_is_suggested_where_nothing_is_near() -> None:
    assert did_you_mean("colour", KEYS) == ""
    assert did_you_mean("wait_second", KEYS) == "; did you mean 'wait_seconds'?"


@given(st.sampled_from(sorted({*Settings.model_fields, *KEYS})), st.data())
@settings(deadline=None)
def test_one_letter_left_out_is_always_forgiven(word: str, data: st.DataObject) -> None:
    choices = sorted({*Settings.model_fields, *KEYS})
    at = data.draw(st.integers(0, len(word) - 1))
    assert nearest(word[:at] + word[at + 1 :], choices) == word


@given(st.text(max_size=300))
@settings(deadline=None)
def test_any_word_may_be_asked_about(word: str) -> None:
    assert nearest(word, KEYS) in (None, *KEYS)


def test_keys_are_found_behind_names_lists_and_unions() -> None:
    assert "capacity" in keys_at(Settings, ("deployments", "any", "sku"))
    assert "weight" in keys_at(Settings, ("deployments", "any", "targets", 0))
    assert keys_at(Settings, ("deployments", "any", "provider")) == ("type", "region", "model")
    assert keys_at(Settings, ("nothing", "here")) == ()


def test_a_key_in_the_wrong_section_is_found_in_the_right_one() -> None:
    assert list(places_of(Settings, "json_depth")) == [("server", "limits", "json_depth")]
    assert ("deployments", "NAME", "sku", "capacity") in list(places_of(Settings, "capacity"))
