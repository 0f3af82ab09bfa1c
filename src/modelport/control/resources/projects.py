"""Projects: whose keys, budgets and costs belong together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from modelport.control.resources.rules import Everything, Rules, User


def users(name: str, body: Mapping[str, Any], everything: Everything) -> Iterator[User]:
    """Keys and role assignments of the project."""
    for kind in ("keys", "role_assignments"):
        for user, found in everything.get(kind, {}).items():
            if found.get("project") == name:
                yield kind, user


RULES: Final = Rules(
    kind="projects",
    singular="project",
    description="Whose keys, budgets and costs belong together.",
    users=users,
)
