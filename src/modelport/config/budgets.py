"""The part of the vocabulary that says how much may be spent."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field, model_validator

from modelport.config.section import Count, Section, Url, refuse

Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]


class BudgetSettings(Section):
    """Money, tokens or both per UTC day or month."""

    amount: Annotated[Decimal, Field(gt=0, max_digits=18, decimal_places=6)] | None = None
    """Money."""
    currency: Currency | None = None
    """Of `amount`; `prices.currency`, and no other."""
    tokens: Count | None = None
    """Tokens of prompts and answers together."""
    per: Literal["day", "month"] = "month"

    @model_validator(mode="after")
    def _limits_something(self) -> BudgetSettings:
        if self.amount is None and self.tokens is None:
            raise refuse("has neither amount nor tokens")
        return self


class BudgetNoticeSettings(Section):
    """Who is told how much of a budget is used."""

    thresholds: Annotated[tuple[Annotated[int, Field(ge=1, le=1000)], ...], Field(max_length=16)] = (50, 80, 100)
    """Percent of a budget. Reaching one is a line of the log."""
    webhook: Url | None = None
    """An address that each such line is posted to as well."""
