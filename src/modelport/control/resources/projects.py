"""Projects: whose keys, budgets and costs belong together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from modelport.control.resources.rules import Everything, Rules, User


def users(name: str, body: Mapping[str, Any], everything: Everything) -> Iterator[User]:
    """Keys of the project."""
    for key, found in everything.get("keys", {}).items():
        if found.get("project") == name:
            yield "keys", key


RULES: Final = Rules(
    kind="projects",
    singular="project",
    description="Whose keys, budgets and costs belong together.",
    users=users,
)
