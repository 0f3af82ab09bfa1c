"""Blocklists: texts and patterns that policies name. Stored, and not applied in this version."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from modelport.control.resources.rules import Everything, Rules, User, is_same, mapping


def users(name: str, body: Mapping[str, Any], everything: Everything) -> Iterator[User]:
    """Policies that name it for prompts or completions."""
    for policy, found in everything.get("content_filters", {}).items():
        named = [*(mapping(found.get(side)).get("blocklists") or () for side in ("prompt", "completion"))]
        if any(is_same(item, name) for items in named for item in items):
            yield "content_filters", policy


RULES: Final = Rules(
    kind="blocklists",
    singular="blocklist",
    description="Lists of texts and patterns, by the name that content filters use.",
    users=users,
)
