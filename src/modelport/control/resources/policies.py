"""Policies: which deployments may be made."""

from __future__ import annotations

from typing import Final

from modelport.control.resources.rules import Rules
from modelport.core.roles import Permission

RULES: Final = Rules(
    kind="policies",
    singular="policy",
    description="Rules over deployments, evaluated when one is created or changed.",
    reads=Permission.READ_CATALOGUE,
)
