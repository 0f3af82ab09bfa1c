"""Entries of blocklists that are refused when the configuration is read."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from modelport.config.document import read_document
from modelport.config.faults import ConfigError
from modelport.config.load import parse

SPACES = {"regex": r"project\s+x"}


def faults(lists: dict[str, Any], **policies: dict[str, Any]) -> list[tuple[str, str]]:
    text = yaml.safe_dump({"content_filters": policies, "blocklists": lists}).encode()
    try:
        parse(read_document(text, "m.yaml"), None, {"HOME": "/h"})
    except ConfigError as error:
        return [(fault.key, fault.what) for fault in error.faults]
    return []


def policy(window: Any = 1000, *lists: str) -> dict[str, Any]:
    return {"completion": {"blocklists": list(lists)}, "window_chars": window}


@pytest.mark.parametrize(
    ("entry", "place", "said"),
    [
        ({"regex": "(?=a)b"}, "regex", "look-around and backreferences are not linear"),
        ({"regex": "a*"}, "regex", "matches an empty text"),
        ({"regex": r"\pL{1000}"}, "regex", "too large"),
        ({"exact": "\u200b\u2060"}, "exact", "nothing but invisible characters"),
        ({"exact": " "}, "exact", "nothing but invisible characters"),
    ],
)
def test_an_entry_that_cannot_be_looked_for(entry: dict[str, Any], place: str, said: str) -> None:
    ((key, what),) = faults({"house": [{"exact": "fine"}, entry]})
    assert key == f"blocklists.house[1].{place}"
    assert said in what


def test_a_match_that_is_longer_than_what_is_held_back() -> None:
    ((key, what),) = faults({"House": [SPACES]}, strict=policy(1000, "house"))
    assert key == "blocklists.House[0].regex"
    assert "can match more than the 1000 characters (window_chars)" in what
    assert r"; write project\s{1,9}x, or let the content filter have `window_chars: whole`" in what
    bounded = {"regex": "a{90}b{90}"}
    assert faults({"house": [bounded]}, wide=policy(1000, "house")) == []
    ((_, what),) = faults({"house": [bounded]}, wide=policy(1000, "house"), narrow=policy(100, "house"))
    assert "the 100 characters" in what


def test_where_nothing_is_held_back_a_match_may_be_long() -> None:
    assert faults({"house": [SPACES]}) == []
    assert faults({"house": [SPACES]}, whole=policy("whole", "house")) == []
    assert faults({"house": [SPACES], "other": []}, strict=policy(1000, "other")) == []
    assert faults({"house": [SPACES]}, prompts={"prompt": {"blocklists": ["house"]}}) == []
