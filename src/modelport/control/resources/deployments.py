"""Deployments: the names that callers use as `model`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from modelport.control.resources.rules import Everything, Rules, User, is_same
from modelport.core.roles import Permission


def users(name: str, body: Mapping[str, Any], everything: Everything) -> Iterator[User]:
    """Deployments that spill over to it."""
    for other, found in everything.get("deployments", {}).items():
        if is_same(found.get("spillover"), name) and not is_same(other, name):
            yield "deployments", other


RULES: Final = Rules(
    kind="deployments",
    singular="deployment",
    description="The names that callers use as `model`, with model, capacity, limits and targets.",
    users=users,
    has_secrets=True,
    reads=Permission.READ_DEPLOYMENTS,
    writes=Permission.WRITE_DEPLOYMENTS,
)
