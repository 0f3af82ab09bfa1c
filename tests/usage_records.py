"""Records of calls for tests of whatever keeps them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modelport.core.record_forms import RecordForm
from modelport.core.usage import Ending, Pricing, TokenUsage, UsageRecord, UsageSource
from modelport.gateway.forms import encoded, form
from modelport.stores.journal import FileJournal
from modelport.stores.journal.lines import Line, decode_line
from modelport.stores.journal.reading import read_writes

NOON = 1_795_262_400.0
"""2026-11-21T12:00:00Z"""


def record(**given: Any) -> UsageRecord:
    """A call that was priced, with an id of its own."""
    known: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        "started_at": NOON,
        "principal": "alice",
        "key_id": "alice/key1",
        "surface": "openai_v1",
        "operation": "chat_completions",
        "streamed": True,
        "requested_model": "gpt",
        "deployment": "gpt",
        "answered_model": "gpt-large",
        "target": "house/gpt-large-1",
        "provider": "house",
        "status": 200,
        "ending": Ending.COMPLETED.value,
        "usage": TokenUsage(input=7, cached_input=5, output=3, reasoning=2),
        "usage_source": UsageSource.REPORTED.value,
        "reserved_tokens": 30,
        "first_event_seconds": 0.25,
        "duration_seconds": 1.5,
        "cost": "0.00125",
        "currency": "USD",
        "price_version": "2026-11",
        "pricing": Pricing.PRICED.value,
    }
    return UsageRecord(**{**known, **given})


def unpriced(**given: Any) -> UsageRecord:
    """A call whose price nobody knows."""
    return record(**{"cost": None, "currency": None, "pricing": Pricing.UNPRICED.value, **given})


def formed(told: UsageRecord) -> tuple[RecordForm, bytes]:
    """What it shares with others like it, and what it adds."""
    variable = ("id", "started_at", "usage", "cost")
    return form(told, variable), encoded([getattr(told, name) for name in variable])


def journaled(directory: Path, records: list[UsageRecord], *, writer: str = "0", rotate_bytes: int = 10**9) -> None:
    """Writes them as a gateway does, and ends it."""
    with FileJournal(directory, writer, rotate_bytes=rotate_bytes) as journal:
        for one in records:
            journal.open(one)
            journal.close(one)
            journal.flush()


def read_lines(path: Path) -> Iterator[Line]:
    """The lines of one journal file. Raises DamagedLine."""
    for write in read_writes(path):
        yield from (decode_line(line, write.forms) for line in write.lines)
