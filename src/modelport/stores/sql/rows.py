"""Records as rows, as sums, and back. A pure function of the record: whoever checks the ledger gets the same rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from hashlib import blake2b
from typing import Any, Final

import msgspec

from modelport.core.usage import TokenUsage, UsageRecord
from modelport.core.usage_reports import DAY_SECONDS, HOUR_SECONDS
from modelport.stores.sql.columns import COST_COLUMNS, RECORD_COLUMNS, SERIES_COLUMNS, TOKEN_COLUMNS

MICROSECONDS: Final = 1_000_000
HOUR_US: Final = HOUR_SECONDS * MICROSECONDS
HOURS_A_DAY: Final = DAY_SECONDS // HOUR_SECONDS
EPOCH_ORDINAL: Final = date(1970, 1, 1).toordinal()

TEXT_LIMIT: Final = 512
TOKENS_LIMIT: Final = 10**12
"""For one call. Sums of what an upstream dreams up must still fit into the database's whole numbers."""
UNIT_DIGITS: Final = 9
COST_LIMIT: Final = 10**UNIT_DIGITS
DECIMALS: Final = 27
"""Costs are kept to so many. A price of twelve decimals for a million tokens makes costs of eighteen."""
_EXACT: Final = Context(prec=60, rounding=ROUND_HALF_EVEN)
SMALLEST: Final = Decimal(1).scaleb(-DECIMALS)
BILLION: Final = 10**9
TENS: Final = tuple(10**power for power in range(10))
NO_COST: Final = (None,) * len(COST_COLUMNS)

ROW_TEXTS: Final = (
    "id",
    "requested_model",
    "spilled_from",
    "ending",
    "error_code",
    "usage_source",
    "client_request_id",
    "snapshot",
    "pricing",
    "price_version",
    "service_tier",
    "content_filter",
)

Row = tuple[Any, ...]
"""In the order of RECORD_COLUMNS."""
Key = tuple[int, str]
"""A record's place: when it started, and its id."""
Place = tuple[int, int]
"""A span of time and a series."""
Sums = list[int]
"""In the order of SUM_COLUMNS."""


def key_of(record: UsageRecord) -> Key:
    """Where the record is kept."""
    return round(record.started_at * MICROSECONDS), text(record.id)


def series_of(record: UsageRecord) -> dict[str, str | None]:
    """What the record has in common with others."""
    return {
        "principal": text(record.principal),
        "key_id": optional(record.key_id),
        "project": optional(record.project),
        "deployment": optional(record.deployment),
        "model": optional(model_of(record)),
        "target": optional(record.target),
        "answered_model": optional(record.answered_model),
        "provider": optional(record.provider),
        "surface": text(record.surface),
        "operation": text(record.operation),
        "currency": optional(record.currency),
    }


def model_of(record: UsageRecord) -> str | None:
    """What the target calls its model; where it has not said, what we have called it."""
    if record.answered_model:
        return record.answered_model
    return record.target.partition("/")[2] or None if record.target else None


def fingerprint(series: Mapping[str, str | None]) -> str:
    """One short name for each series."""
    return blake2b(msgspec.json.encode([series[name] for name in SERIES_COLUMNS]), digest_size=16).hexdigest()


def row_of(record: UsageRecord, series_id: int) -> Row:
    """The record's row, in the order of RECORD_COLUMNS. `batches` makes many of them at once."""
    return (
        round(record.started_at * MICROSECONDS),
        text(record.id),
        series_id,
        record.streamed,
        optional(record.requested_model),
        optional(record.spilled_from),
        record.status,
        text(record.ending),
        optional(record.error_code),
        text(record.usage_source),
        *map(bounded, record.usage.classes()),
        bounded(record.reserved_tokens),
        record.first_event_seconds,
        record.duration_seconds,
        optional(record.client_request_id),
        optional(record.snapshot),
        text(record.pricing),
        optional(record.price_version),
        optional(record.service_tier),
        optional(record.content_filter),
        *parts(record.cost),
    )


def named_row(record: UsageRecord, series_id: int) -> dict[str, Any]:
    """The same by column."""
    return dict(zip(RECORD_COLUMNS, row_of(record, series_id), strict=True))


def in_larger(sums: Mapping[Place, Sums], bucket: Callable[[int], int]) -> dict[Place, Sums]:
    """The same by larger spans of time."""
    return added_up(((bucket(place[0]), place[1]), found) for place, found in sums.items())


def added_up(found: Iterable[tuple[Place, Sums]]) -> dict[Place, Sums]:
    """What belongs to one place, together."""
    sums: dict[Place, Sums] = {}
    for place, added in found:
        known = sums.get(place)
        sums[place] = added if known is None else [a + b for a, b in zip(known, added, strict=True)]
    return sums


def day_of(hour: int) -> int:
    """The day that this hour is in."""
    return hour // HOURS_A_DAY


def month_of(day: int) -> int:
    """The month that this day is in, counted from January 1970."""
    date_of = date.fromordinal(EPOCH_ORDINAL + day)
    return (date_of.year - 1970) * 12 + date_of.month - 1


def first_day(month: int) -> int:
    """The day that this month begins with."""
    return date(1970 + month // 12, month % 12 + 1, 1).toordinal() - EPOCH_ORDINAL


def roll_up_rows(sums: Mapping[Place, Sums]) -> list[tuple[int, ...]]:
    """For the roll-up's table, in one order for everybody who writes: so nobody waits for each other in a circle."""
    return [(*place, *sums[place]) for place in sorted(sums)]


def record_of(row: Mapping[str, Any]) -> UsageRecord:
    """The record of a row that is joined with its series."""
    cost = None if row["cost_units"] is None else amount([row[name] for name in COST_COLUMNS])
    names = [name for name in UsageRecord.__struct_fields__ if name in row.keys() - {"id", "cost"}]
    return UsageRecord(
        id=row["id"],
        started_at=row["started_us"] / MICROSECONDS,
        usage=usage_of([row[name] for name in TOKEN_COLUMNS]),
        cost=None if cost is None else format(cost.normalize(_EXACT), "f"),
        **{name: row[name] for name in names},
    )


def usage_of(counts: Sequence[int]) -> TokenUsage:
    """From columns in the order of TOKEN_COLUMNS; a database may give its sums as decimals."""
    return TokenUsage(*map(int, counts))


# --- values -----------------------------------------------------------------------------------------------------------


def parts(cost: str | None) -> Sequence[int | None]:
    """A decimal number as units, billionths, billionths of those, and once more: in the order of COST_COLUMNS. None:
    not known, or no amount of money."""
    if cost is None:
        return NO_COST
    units, _, fraction = cost.partition(".")
    places = len(fraction)
    if len(units) <= UNIT_DIGITS and places <= 18 and units.isdigit() and fraction.isdigit() and cost.isascii():
        if places <= 9:
            return int(units), int(fraction) * TENS[9 - places], 0, 0
        return int(units), int(fraction[:9]), int(fraction[9:]) * TENS[18 - places], 0
    return unusual_parts(cost)


def unusual_parts(cost: str) -> Sequence[int | None]:
    """The same of any spelling that `Decimal` reads."""
    try:
        number = Decimal(cost)
    except InvalidOperation:
        return NO_COST
    if not number.is_finite() or not 0 <= number < COST_LIMIT:
        return NO_COST
    rest = int(_EXACT.quantize(number, SMALLEST).scaleb(DECIMALS, _EXACT))
    found = []
    for _ in COST_COLUMNS[1:]:
        rest, part = divmod(rest, BILLION)
        found.append(part)
    return [rest, *reversed(found)]


def amount(costs: Sequence[int]) -> Decimal:
    """Back, from one row or from sums of many."""
    whole = 0
    for part in costs:
        whole = whole * BILLION + int(part)
    return Decimal(whole).scaleb(-DECIMALS, _EXACT)


def text(value: str) -> str:
    """What every database takes: bounded, and without the one character that PostgreSQL refuses."""
    return value[:TEXT_LIMIT].replace("\x00", "\ufffd")


def optional(value: str | None) -> str | None:
    """The same where there may be nothing."""
    return None if value is None else text(value)


def bounded(count: int) -> int:
    """A count that sums can hold."""
    return max(-TOKENS_LIMIT, min(TOKENS_LIMIT, count))
