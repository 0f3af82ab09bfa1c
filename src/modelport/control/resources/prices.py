"""Prices: what a model or deployment costs."""

from __future__ import annotations

from typing import Final

from modelport.control.resources.rules import Rules

RULES: Final = Rules(
    kind="prices",
    singular="price",
    description="Prices of your own; they go before the list that the package carries.",
)
