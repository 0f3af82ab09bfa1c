"""What each kind of object is, and the rules that no schema shows. One file each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from modelport.control.resources import (
    blocklists,
    content_filters,
    deployments,
    keys,
    models,
    policies,
    prices,
    projects,
    providers,
    role_assignments,
)
from modelport.control.resources.rules import Rules

RESOURCES: Final[Mapping[str, Rules]] = {
    rules.kind: rules
    for rules in (
        providers.RULES,
        models.RULES,
        deployments.RULES,
        projects.RULES,
        keys.RULES,
        prices.RULES,
        content_filters.RULES,
        blocklists.RULES,
        policies.RULES,
        role_assignments.RULES,
    )
}
"""By kind."""
