"""Content filters: policies that deployments name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from modelport.control.resources.rules import Everything, Rules, User, is_same
from modelport.core.roles import Permission


def users(name: str, body: Mapping[str, Any], everything: Everything) -> Iterator[User]:
    """Deployments and policies that name it."""
    for deployment, found in everything.get("deployments", {}).items():
        if is_same(found.get("content_filter"), name):
            yield "deployments", deployment
    for policy, found in everything.get("policies", {}).items():
        if is_same(found.get("content_filter_at_least"), name):
            yield "policies", policy


RULES: Final = Rules(
    kind="content_filters",
    singular="content filter",
    description="Content filter policies, by the name that deployments use.",
    users=users,
    reads=Permission.READ_CATALOGUE,
)
