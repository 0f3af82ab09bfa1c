"""The part of the vocabulary that says how much may be spent."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from modelport.config.section import Count, Section, Url, exact, refuse

OnStoreOutage = Literal["refuse", "allow"]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]


class BudgetSettings(Section):
    """Money, tokens or both per UTC day or month."""

    amount: Annotated[Decimal, Field(gt=0, le=1_000_000_000, decimal_places=6), BeforeValidator(exact)] | None = None
    """Money."""
    currency: Currency | None = None
    """Of `amount`; `prices.currency`, and no other."""
    tokens: Count | None = None
    """Tokens of prompts and answers together."""
    per: Literal["day", "month"] = "month"
    on_store_outage: OnStoreOutage | None = None
    """What happens to its calls while the shared store is gone; absent: `budgets.on_store_outage`."""

    @model_validator(mode="after")
    def _limits_something(self) -> BudgetSettings:
        if self.amount is None and self.tokens is None:
            raise refuse("has neither amount nor tokens")
        return self


class BudgetsSettings(Section):
    """How all budgets are kept, and who is told how much of one is used."""

    thresholds: Annotated[tuple[Annotated[int, Field(ge=1, le=1000)], ...], Field(max_length=16)] = (50, 80, 100)
    """Percent of a budget. Reaching one is a line of the log."""
    webhook: Url | None = None
    """An address that each such line is posted to as well."""
    on_store_outage: OnStoreOutage = "refuse"
    """What happens to calls while the store that several processes share is slow or gone, once what a process holds is
    spent: `refuse` answers 503, `allow` lets them pass and books them when the store is back."""
