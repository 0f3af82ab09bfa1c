"""A usage report as a table for people: sums below, and no column that would say nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Final

from modelport.core.pricing import EXACT
from modelport.core.usage_reports import UsageRow

Count = Callable[[UsageRow], int]

ALWAYS: Final[dict[str, Count]] = {"calls": lambda row: row.calls, "input": lambda row: row.tokens.input}
BEFORE_OUTPUT: Final[dict[str, Count]] = {
    "cached": lambda row: row.tokens.cached_input,
    "written": lambda row: row.tokens.cache_write,
    "audio in": lambda row: row.tokens.audio_input,
    "image": lambda row: row.tokens.image,
}
AFTER_OUTPUT: Final[dict[str, Count]] = {
    "reasoning": lambda row: row.tokens.reasoning,
    "audio out": lambda row: row.tokens.audio_output,
}
OF_CALLS: Final[dict[str, Count]] = {
    "unpriced": lambda row: row.unpriced_calls,
    "estimated": lambda row: row.estimated_calls,
}


def usage_table(
    rows: Sequence[UsageRow], by: Sequence[str]
) -> tuple[list[str], list[list[object]], list[list[object]]]:
    """Headings, rows and totals. Classes of tokens that were not used have no column. Costs in several currencies
    have one, and one total each."""
    currencies = sorted({row.currency for row in rows if row.cost is not None and row.currency is not None})
    several = len(currencies) > 1
    counts = {
        **ALWAYS,
        **used(BEFORE_OUTPUT, rows),
        "output": lambda row: row.tokens.output,
        **used(AFTER_OUTPUT, rows),
    }
    of_calls = used(OF_CALLS, rows)
    totals = totalled(rows) if rows else []
    places = max((places_of(row.cost) for row in (*rows, *totals) if row.cost is not None), default=0)

    def cells(row: UsageRow, names: Sequence[object]) -> list[object]:
        cost = "-" if row.cost is None else f"{row.cost:.{places}f}"
        found: list[object] = [*names, *(count(row) for count in counts.values()), cost]
        if several:
            found.append(row.currency or "-")
        return [*found, *(count(row) for count in of_calls.values())]

    cost = ["cost", "currency"] if several else [" ".join(["cost", *currencies])]
    headings = [*by, *counts, *cost, *of_calls]
    body = [cells(row, ["-" if row.names[name] is None else row.names[name] for name in by]) for row in rows]
    label: list[object] = ["total", *("" for _ in by[1:])] if by else []
    return headings, body, [cells(row, label) for row in totals] if by else []


def used(columns: dict[str, Count], rows: Sequence[UsageRow]) -> dict[str, Count]:
    """Those that say something of a row."""
    return {heading: count for heading, count in columns.items() if any(count(row) for row in rows)}


def totalled(rows: Sequence[UsageRow]) -> list[UsageRow]:
    """The sums of the rows, one for each currency. What has no cost is counted with the first."""
    currencies = list(dict.fromkeys(row.currency for row in rows if row.cost is not None)) or [None]
    return [
        added([row for row in rows if (row.currency if row.cost is not None else currencies[0]) == currency], currency)
        for currency in currencies
    ]


def added(rows: Sequence[UsageRow], currency: str | None) -> UsageRow:
    """One row with the sums. The cost is that of the calls whose cost is known."""
    first, *rest = rows
    tokens, costs = first.tokens, [row.cost for row in rows if row.cost is not None]
    for row in rest:
        tokens = tokens + row.tokens
    cost: Decimal | None = None
    for one in costs:
        cost = one if cost is None else EXACT.add(cost, one)
    return UsageRow(
        names={},
        calls=sum(row.calls for row in rows),
        unpriced_calls=sum(row.unpriced_calls for row in rows),
        estimated_calls=sum(row.estimated_calls for row in rows),
        tokens=tokens,
        cost=cost,
        currency=currency,
    )


def places_of(cost: Decimal) -> int:
    """Digits after the point."""
    exponent = cost.normalize(EXACT).as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0
