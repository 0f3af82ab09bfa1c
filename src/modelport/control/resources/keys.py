"""Keys: callers' pairs, made here, shown once, and kept as hashes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from modelport.control.resources.rules import Everything, Rules, User, is_same
from modelport.core.roles import Permission

SLOTS: Final = ("key1", "key2")


def users(name: str, body: Mapping[str, Any], everything: Everything) -> Iterator[User]:
    """Roles that are assigned to it."""
    for assignment, found in everything.get("role_assignments", {}).items():
        if is_same(found.get("key"), name):
            yield "role_assignments", assignment


RULES: Final = Rules(
    kind="keys",
    singular="key",
    users=users,
    description="Keys, each with a role, limited to deployments and operations. The values are made by the server.",
    has_secrets=True,
    reads=Permission.MANAGE_KEYS,
    writes=Permission.MANAGE_KEYS,
)
