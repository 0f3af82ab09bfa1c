"""Budgets: how much money or how many tokens may go in a UTC day or month, and when it begins anew. Reads no clock."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Final, Literal

from msgspec import Struct

DAY_SECONDS: Final = 86_400
EPOCH_ORDINAL: Final = date(1970, 1, 1).toordinal()
THRESHOLDS: Final = (50, 80, 100)
"""Percent of a budget whose crossing is told."""

Period = Literal["day", "month"]
OnStoreOutage = Literal["refuse", "allow"]


class Budget(Struct, frozen=True):
    """What all calls of one subject may use together. At least one of the two is set."""

    subject: str
    """`key:NAME`, `project:NAME` or `deployment:NAME`, in lower case."""
    per: Period = "month"
    amount: Decimal | None = None
    """Money, in the currency of the price book."""
    tokens: int | None = None
    on_store_outage: OnStoreOutage | None = None
    """What happens to calls while the store that processes share is gone. None: as the server says."""


class Window(Struct, frozen=True):
    """One day or month. `begins_at` and `ends_at` are unix seconds; the end is no longer in it."""

    name: str
    """`2026-11-21`, `2026-11`."""
    begins_at: float
    ends_at: float


class BudgetCrossed(Struct, frozen=True, kw_only=True):
    """A budget has reached a part of itself, for the first time in its window."""

    subject: str
    per: Period
    window: str
    percent: int
    amount: Decimal | None
    """The budget's, as `tokens` is."""
    spent: Decimal
    tokens: int | None
    spent_tokens: int


def window_of(per: Period, at: float) -> Window:
    """The window that this moment (unix seconds) is in."""
    days = int(at // DAY_SECONDS)
    day = date.fromordinal(EPOCH_ORDINAL + days)
    if per == "day":
        return Window(day.isoformat(), float(days * DAY_SECONDS), float((days + 1) * DAY_SECONDS))
    first = day.replace(day=1)
    following = date(first.year + first.month // 12, first.month % 12 + 1, 1)
    return Window(f"{first.year:04}-{first.month:02}", midnight(first), midnight(following))


def midnight(day: date) -> float:
    """The moment at which it begins, in UTC."""
    return float((day.toordinal() - EPOCH_ORDINAL) * DAY_SECONDS)


def iso(at: float) -> str:
    """A moment as people write it: `2026-12-01T00:00:00Z`."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def key_subject(name: str) -> str:
    """The subject of both keys of one entry."""
    return f"key:{name.lower()}"


def project_subject(name: str) -> str:
    """The subject of all keys of a project."""
    return f"project:{name.lower()}"


def deployment_subject(name: str) -> str:
    """The subject of everything that a deployment answers."""
    return f"deployment:{name.lower()}"


def percent_used(budget: Budget, spent: Decimal, spent_tokens: int) -> int:
    """Whole percents of the part that is used most, rounded down."""
    used = 0
    if budget.amount is not None:
        used = int(spent * 100 / budget.amount)
    if budget.tokens is not None:
        used = max(used, spent_tokens * 100 // budget.tokens)
    return used
