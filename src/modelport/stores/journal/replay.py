"""What ended lately, from the journals of a directory: for those who keep sums in memory and have just begun."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from modelport.core.usage import UsageRecord
from modelport.stores.journal.files import files_of, writers_in
from modelport.stores.journal.lines import DamagedLine, decode_line

_logger = logging.getLogger("modelport.journal")


def ended_since(directory: Path, since: float) -> Iterator[UsageRecord]:
    """The final record of every call that started at or after this moment (unix seconds), writer by writer. A damaged
    line is passed over and told: `ledger verify` says what is wrong with it."""
    if not directory.is_dir():
        return
    for writer in writers_in(directory):
        for path in files_of(directory, writer):
            with suppress(FileNotFoundError):  # shipped and removed meanwhile
                if path.stat().st_mtime >= since:  # else nothing was written to it since
                    yield from ended_in(path, since)


def ended_in(path: Path, since: float) -> Iterator[UsageRecord]:
    """The same for one file."""
    damaged = 0
    with path.open("rb") as file:
        for data in file:
            try:
                line = decode_line(data)
            except DamagedLine:
                damaged += 1
                continue
            if line.kind == "close":
                record = line.usage()
                if record.started_at >= since:
                    yield record
    if damaged:
        _logger.warning("%d damaged lines of %s are in no budget", damaged, path.name)
