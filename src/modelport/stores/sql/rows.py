"""Records as rows, as sums, and back. A pure function of the record: whoever checks the ledger gets the same rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from decimal import ROUND_HALF_EVEN, Context, Decimal
from hashlib import blake2b
from typing import Any, Final

import msgspec

from modelport.core.usage import Pricing, TokenUsage, UsageRecord
from modelport.core.usage_reports import DAY_SECONDS, HOUR_SECONDS
from modelport.stores.sql.schema import COST_COLUMNS, SUM_COLUMNS, TOKEN_COLUMNS

MICROSECONDS: Final = 1_000_000
HOUR_US: Final = HOUR_SECONDS * MICROSECONDS
HOURS_A_DAY: Final = DAY_SECONDS // HOUR_SECONDS
EPOCH_ORDINAL: Final = date(1970, 1, 1).toordinal()

TEXT_LIMIT: Final = 512
TOKENS_LIMIT: Final = 10**12
"""For one call. Sums of what an upstream dreams up must still fit into the database's whole numbers."""
COST_LIMIT: Final = 10**9
DECIMALS: Final = 27
"""Costs are kept to so many. A price of twelve decimals for a million tokens makes costs of eighteen."""
_EXACT: Final = Context(prec=60, rounding=ROUND_HALF_EVEN)
SMALLEST: Final = Decimal(1).scaleb(-DECIMALS)
BILLION: Final = 10**9
NO_COST: Final = (None,) * len(COST_COLUMNS)

SERIES_COLUMNS: Final = (
    "principal",
    "key_id",
    "project",
    "deployment",
    "model",
    "target",
    "answered_model",
    "provider",
    "surface",
    "operation",
    "currency",
)

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


def row_of(record: UsageRecord, series_id: int) -> dict[str, Any]:
    """The record's row."""
    started_us, id = key_of(record)
    row: dict[str, Any] = {
        "started_us": started_us,
        "id": id,
        "series_id": series_id,
        "streamed": record.streamed,
        "requested_model": optional(record.requested_model),
        "spilled_from": optional(record.spilled_from),
        "status": record.status,
        "ending": text(record.ending),
        "error_code": optional(record.error_code),
        "usage_source": text(record.usage_source),
        "reserved_tokens": bounded(record.reserved_tokens),
        "first_event_seconds": record.first_event_seconds,
        "duration_seconds": record.duration_seconds,
        "client_request_id": optional(record.client_request_id),
        "snapshot": optional(record.snapshot),
        "pricing": text(record.pricing),
        "price_version": optional(record.price_version),
    }
    row.update(zip(COST_COLUMNS, parts(record.cost), strict=True))
    row.update(zip(TOKEN_COLUMNS, map(bounded, record.usage.classes()), strict=True))
    return row


def sums_of(row: Mapping[str, Any]) -> Sums:
    """What a record's row adds to its roll-ups."""
    return [
        1,
        int(row["cost_units"] is None),
        int(row["pricing"] == Pricing.ESTIMATED),
        *(row[name] for name in TOKEN_COLUMNS),
        *(row[name] or 0 for name in COST_COLUMNS),
    ]


def summed(rows: Iterable[Mapping[str, Any]], bucket_us: int) -> dict[Place, Sums]:
    """Sums by (bucket, series)."""
    return added_up(((row["started_us"] // bucket_us, row["series_id"]), sums_of(row)) for row in rows)


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


def roll_up_rows(sums: Mapping[Place, Sums], bucket: str) -> list[dict[str, int]]:
    """For the roll-up's table, in one order for everybody who writes: so nobody waits for each other in a circle."""
    return [
        {bucket: place[0], "series_id": place[1], **dict(zip(SUM_COLUMNS, sums[place], strict=True))}
        for place in sorted(sums)
    ]


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
    number = Decimal(cost)
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
