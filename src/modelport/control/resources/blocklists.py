"""Blocklists: texts and patterns that content filters name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from modelport.control.resources.rules import Everything, Rules, User, is_same, mapping


def users(name: str, body: Mapping[str, Any], everything: Everything) -> Iterator[User]:
    """Policies that name it for prompts or completions."""
    for policy, found in everything.get("content_filters", {}).items():
        named = [*(mapping(found.get(side)).get("blocklists") or () for side in ("prompt", "completion"))]
        if any(is_same(item, name) for items in named for item in items):
            yield "content_filters", policy


def item_name(name: str | None, exact: str | None, regex: str | None) -> str:
    """An entry's name; one without gets one that follows from its text."""
    return name or "item-" + hashlib.sha256(f"{exact}\0{regex}".encode()).hexdigest()[:12]


RULES: Final = Rules(
    kind="blocklists",
    singular="blocklist",
    description="Lists of texts and patterns, by the name that content filters use.",
    users=users,
)
