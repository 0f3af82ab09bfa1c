"""Role assignments: what users, groups, applications and keys may do."""

from __future__ import annotations

from typing import Final

from modelport.control.resources.rules import Rules
from modelport.core.roles import Permission

RULES: Final = Rules(
    kind="role_assignments",
    singular="role assignment",
    description="Roles of users, groups, applications and keys, limited to deployments, operations and a project.",
    reads=Permission.MANAGE_KEYS,
    writes=Permission.MANAGE_KEYS,
)
