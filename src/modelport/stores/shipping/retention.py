"""Removes journal files that nobody needs any more: old, finished, whole, and with every call in the ledger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from modelport.core.usage import UsageRecord
from modelport.stores.journal.files import files_of, number_of
from modelport.stores.journal.lines import DamagedLine, decode_record
from modelport.stores.journal.reading import read_writes

RECORDS_AT_ONCE = 1_000

Missing = Callable[[Sequence[UsageRecord]], Sequence[UsageRecord]]
"""Those of the records that the ledger does not have."""


def removable(directory: Path, writer: str, shipped_number: int, until: float) -> list[Path]:
    """Files before the one that is shipped, last written before `until` (unix seconds). Never a writer's last one,
    which the next start recovers from. Raises OSError."""
    return [
        path
        for path in files_of(directory, writer)[:-1]
        if number_of(path) < shipped_number and path.stat().st_mtime < until
    ]


def is_kept(path: Path, missing: Missing) -> bool:
    """Whether every call that has ended in this file is in the ledger. A damaged file is evidence, and stays."""
    waiting: list[UsageRecord] = []
    try:
        for write in read_writes(path):
            waiting += [decode_record(record) for record in write.closings()]
            if len(waiting) >= RECORDS_AT_ONCE:
                if missing(waiting):
                    return False
                waiting.clear()
    except DamagedLine:
        return False
    return not missing(waiting)
