"""What calls have used, as a question and its answer: the ledger's port."""

from __future__ import annotations

from decimal import Decimal
from typing import Final, Protocol

from msgspec import Struct

from modelport.core.usage import TokenUsage, UsageRecord

HOUR_SECONDS: Final = 3_600
DAY_SECONDS: Final = 86_400

GROUPINGS: Final = (
    "deployment",
    "key",
    "principal",
    "project",
    "model",
    "provider",
    "surface",
    "operation",
    "day",
)
"""What a report can be divided by. `key` is a key's id, `model` what the target calls it, `day` a day of UTC."""
MOST_ROWS: Final = 100_000
MOST_RECORDS: Final = 1_000


class UsageQuestionError(ValueError):
    """The question cannot be understood. The text is for whoever asked."""


class TooManyRows(Exception):
    """The report would have more rows than MOST_ROWS."""


class LedgerUnavailable(Exception):
    """The database does not answer. The text holds no address and no secret."""


class UsageQuestion(Struct, frozen=True, kw_only=True):
    """From when (included) until when (excluded), in whole hours of unix seconds. None: without an end."""

    by: tuple[str, ...] = ()
    since: int | None = None
    until: int | None = None
    projects: tuple[str, ...] | None = None
    """Of these projects alone; None: of all, and of calls without a project."""
    is_complete: bool = False
    """Rather no answer than one that lacks a call that has ended by now."""


class UsageRow(Struct, frozen=True, kw_only=True):
    """One group's sums."""

    names: dict[str, str | None]
    """By grouping, in the question's order."""
    calls: int
    unpriced_calls: int
    estimated_calls: int
    tokens: TokenUsage
    cost: Decimal | None
    """Of the calls whose cost is known. None where some are unpriced and the others cost nothing: unknown is not 0."""
    currency: str | None


class RecordsQuestion(Struct, frozen=True, kw_only=True):
    """A page of single calls, the latest first. `before` is the place where the page before this one has ended."""

    since: int | None = None
    until: int | None = None
    before: str | None = None
    limit: int = 100
    projects: tuple[str, ...] | None = None
    """As in UsageQuestion."""


class RecordsPage(Struct, frozen=True):
    """`next`: where the following page begins; None at the end."""

    records: tuple[UsageRecord, ...]
    next: str | None


class Ledger(Protocol):
    """Where records are kept for good. Blocking: not for an event loop's thread. Raises LedgerUnavailable."""

    def report(self, question: UsageQuestion) -> list[UsageRow]:
        """From roll-ups alone, ordered by names. Raises TooManyRows."""
        ...

    def records(self, question: RecordsQuestion) -> RecordsPage:
        """Single calls."""
        ...
