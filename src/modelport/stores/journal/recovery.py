"""What a process that was killed left behind: where its last file is whole, and which of its calls never ended."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

from modelport.core.usage import Ending, TokenUsage, UsageRecord, UsageSource
from modelport.stores.journal.lines import NO_PREVIOUS, DamagedLine, Line, decode_line, digest


class Found(Struct, frozen=True):
    """One file's state. `whole_bytes`: so much of it is lines; what follows was torn off in the middle of a write."""

    path: Path
    is_usable: bool
    """False: its beginning was never finished, so the file before it is the last."""
    whole_bytes: int
    total_bytes: int
    sequence: int
    previous: str
    """The hash of its last whole line."""
    open_calls: tuple[UsageRecord, ...]
    damaged_line: int | None
    """A line that is damaged while whole ones follow: the file is not appended to, nor cut. Counts from 1."""


def look(path: Path) -> Found:
    """Goes through one file; changes nothing."""
    scan = Scan()
    with path.open("rb") as file:
        for number, data in enumerate(file, 1):
            scan.take(number, data)
    return Found(
        path=path,
        is_usable=scan.carried_due == 0 or scan.damaged_line is not None,
        whole_bytes=scan.whole_bytes,
        total_bytes=scan.total_bytes,
        sequence=scan.sequence,
        previous=scan.previous,
        open_calls=tuple(line.usage() for line in scan.open.values()),
        damaged_line=scan.damaged_line,
    )


class Scan:
    """The state after so many lines."""

    def __init__(self) -> None:
        self.total_bytes = 0
        self.whole_bytes = 0
        self.sequence = 0
        self.previous = NO_PREVIOUS
        self.open: dict[str, Line] = {}
        self.carried_due = -1
        """Carried lines that must still come; -1 before the begin line."""
        self.damaged_line: int | None = None
        self._first_bad: int | None = None

    def take(self, number: int, data: bytes) -> None:
        """One more line, whole or not."""
        self.total_bytes += len(data)
        try:
            line = decode_line(data)
        except DamagedLine:
            self._first_bad = self._first_bad or number
            return
        if self._first_bad is not None and self.damaged_line is None:
            self.damaged_line = self._first_bad
        self.whole_bytes = self.total_bytes
        self.sequence = line.sequence
        self.previous = digest(data)
        match line.kind:
            case "begin":
                self.carried_due = line.beginning().carried
            case "carried":
                self.carried_due -= 1
                self.open[line.call_id()] = line
            case "open":
                self.open[line.call_id()] = line
            case "close":
                self.open.pop(line.call_id(), None)


def lost(record: UsageRecord) -> UsageRecord:
    """The final record of a call that nobody saw the end of: charged with all that it had reserved."""
    usage = record.usage
    if usage.total != record.reserved_tokens:
        usage = TokenUsage(output=record.reserved_tokens)
    source = UsageSource.ESTIMATED if record.reserved_tokens else UsageSource.NONE
    return msgspec.structs.replace(record, ending=Ending.LOST, status=0, usage=usage, usage_source=source)
