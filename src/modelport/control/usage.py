"""Reports of usage in words: how a question is read, and how its answer is written."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from modelport.core.pricing import plain
from modelport.core.usage import TokenUsage
from modelport.core.usage_reports import (
    DAY_SECONDS,
    GROUPINGS,
    HOUR_SECONDS,
    UsageQuestion,
    UsageQuestionError,
    UsageRow,
)

_SPAN: Final = re.compile(r"(\d{1,6})\s*([mhdw])")
_SPAN_SECONDS: Final = {"m": 60, "h": HOUR_SECONDS, "d": DAY_SECONDS, "w": 7 * DAY_SECONDS}


# --- questions --------------------------------------------------------------------------------------------------------


def groupings(text: str) -> tuple[str, ...]:
    """`deployment,day` → its words. Raises UsageQuestionError."""
    words = tuple(dict.fromkeys(word.strip().lower() for word in text.split(",") if word.strip()))
    unknown = [word for word in words if word not in GROUPINGS]
    if unknown:
        raise UsageQuestionError(f"{unknown[0]!r} is no grouping; there are {', '.join(GROUPINGS)}")
    return words


def moment(text: str, now: float) -> float:
    """Unix seconds of `7d` (ago), `today`, `yesterday`, `2026-11-21` or `2026-11-21T12:00:00Z`. Without an offset,
    times are UTC. Raises UsageQuestionError."""
    word = text.strip().lower()
    midnight = now - now % DAY_SECONDS
    if word in ("now", "today", "yesterday"):
        return {"now": now, "today": midnight, "yesterday": midnight - DAY_SECONDS}[word]
    span = _SPAN.fullmatch(word)
    if span is not None:
        return max(0.0, now - int(span[1]) * _SPAN_SECONDS[span[2]])
    try:
        parsed = datetime.fromisoformat(text.strip().replace(" ", "+") if "T" in text else text.strip())
        found = (parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise UsageQuestionError(
            f"{text!r} is no time; write 2026-11-21, 2026-11-21T12:00:00Z, today, or 24h, 7d, 4w for so long ago"
        ) from None
    return max(0.0, found)


def question(by: str, since: str | None, until: str | None, now: float) -> UsageQuestion:
    """The question in words. The first hour is the one that `since` lies in, the last the one that `until` ends or lies
    in. Raises UsageQuestionError."""
    first = None if not since else int(moment(since, now)) // HOUR_SECONDS * HOUR_SECONDS
    last = None if not until else -(-int(moment(until, now)) // HOUR_SECONDS) * HOUR_SECONDS
    if first is not None and last is not None and first > last:
        raise UsageQuestionError("since is after until")
    return UsageQuestion(by=groupings(by), since=first, until=last)


# --- answers ----------------------------------------------------------------------------------------------------------


def shown(row: UsageRow) -> dict[str, Any]:
    """One row as JSON has it."""
    tokens = row.tokens
    return {
        **row.names,
        "calls": row.calls,
        "input_tokens": tokens.input,
        "cached_input_tokens": tokens.cached_input,
        "cache_write_tokens": tokens.cache_write,
        "output_tokens": tokens.output,
        "reasoning_tokens": tokens.reasoning,
        "audio_input_tokens": tokens.audio_input,
        "audio_output_tokens": tokens.audio_output,
        "image_tokens": tokens.image,
        "cost": None if row.cost is None else plain(row.cost),
        "currency": row.currency,
        "unpriced_calls": row.unpriced_calls,
        "estimated_calls": row.estimated_calls,
    }


def read(found: Mapping[str, Any], by: Sequence[str]) -> UsageRow:
    """Back from what `shown` has made. Raises KeyError, ValueError, TypeError, ArithmeticError."""
    counts = (found[f"{name}_tokens"] for name in TokenUsage.__struct_fields__)
    return UsageRow(
        names={name: found[name] for name in by},
        calls=int(found["calls"]),
        unpriced_calls=int(found["unpriced_calls"]),
        estimated_calls=int(found["estimated_calls"]),
        tokens=TokenUsage(*map(int, counts)),
        cost=None if found["cost"] is None else Decimal(found["cost"]),
        currency=found["currency"],
    )


def as_csv(rows: Iterable[UsageRow], by: Sequence[str]) -> str:
    """The same columns with a line of headings, as spreadsheets read them. What is unknown is empty."""
    columns = list(shown(UsageRow(**_NO_SUMS, names=dict.fromkeys(by))))
    return written(columns, (shown(row) for row in rows))


_NO_SUMS: Final[dict[str, Any]] = {
    "calls": 0,
    "unpriced_calls": 0,
    "estimated_calls": 0,
    "tokens": TokenUsage(),
    "cost": None,
    "currency": None,
}


def written(columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> str:
    """CSV with headings (RFC 4180)."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
