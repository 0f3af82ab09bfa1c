"""What a process that was killed left behind: where its last file is whole, and which of its calls never ended."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

from modelport.core.usage import Ending, TokenUsage, UsageRecord, UsageSource
from modelport.stores.journal.lines import NO_PREVIOUS, DamagedLine, Line, decode_line
from modelport.stores.journal.reading import parts
from modelport.stores.journal.writes import READ_BYTES, Damage, Write


class Found(Struct, frozen=True):
    """One file's state. `whole_bytes`: so much of it is writes; what follows was torn off in the middle of one."""

    path: Path
    is_usable: bool
    """False: its beginning was never finished, so the file before it is the last."""
    whole_bytes: int
    total_bytes: int
    sequence: int
    """The number of its last whole line."""
    previous: str
    """What the next seal says of what is before it."""
    open_calls: tuple[UsageRecord, ...]
    damaged_line: int | None
    """The first of lines that are damaged while whole ones follow: the file is not appended to, nor cut. Counts from
    1."""


def look(path: Path) -> Found:
    """Goes through one file; changes nothing."""
    scan = Scan()
    with path.open("rb", buffering=READ_BYTES) as file:
        for part in parts(file):
            scan.take(part)
    open_calls = scan.open_calls()
    return Found(
        path=path,
        is_usable=scan.carried_due == 0 or scan.damaged_line is not None,
        whole_bytes=scan.whole_bytes,
        total_bytes=scan.total_bytes,
        sequence=scan.sequence,
        previous=scan.previous,
        open_calls=open_calls,
        damaged_line=scan.damaged_line,
    )


class Scan:
    """The state after so many parts."""

    def __init__(self) -> None:
        self.total_bytes = 0
        self.whole_bytes = 0
        self.sequence = 0
        self.previous = NO_PREVIOUS
        self.open: dict[str, tuple[int, Line]] = {}
        """Calls without an end, each with the number of its line and the line."""
        self.carried_due = -1
        """Carried lines that must still come; -1 before the begin line."""
        self.damaged_line: int | None = None
        self._first_bad: int | None = None

    def take(self, part: Write | Damage) -> None:
        """One more, whole or not."""
        self.total_bytes = part.offset_bytes
        if isinstance(part, Damage):
            self._first_bad = self._first_bad or part.first_line
            return
        self.damaged_line = self.damaged_line or self._first_bad
        self.whole_bytes = part.offset_bytes
        self.sequence, self.previous = part.sequence, part.digest
        for number, data in enumerate(part.lines, part.first_line):
            try:
                self._line(number, decode_line(data, part.forms))
            except DamagedLine:  # under a seal that is right: nothing is torn here, so nothing may be cut off
                self.damaged_line = self.damaged_line or number

    def open_calls(self) -> tuple[UsageRecord, ...]:
        """The records of calls without an end. A record that cannot be read makes its line a damaged one."""
        found = []
        for number, line in self.open.values():
            try:
                found.append(line.usage())
            except DamagedLine:
                self.damaged_line = self.damaged_line or number
        return tuple(found)

    def _line(self, number: int, line: Line) -> None:
        if line.is_of_call:
            id = line.call_id()
            if line.kind == "carried":
                self.carried_due -= 1
            if line.kind == "close":
                self.open.pop(id, None)
            else:
                self.open[id] = (number, line)
        elif line.kind == "begin":
            self.carried_due = line.beginning().carried


def lost(record: UsageRecord) -> UsageRecord:
    """The final record of a call that nobody saw the end of: charged with all that it had reserved."""
    usage = record.usage
    if usage.total != record.reserved_tokens:
        usage = TokenUsage(output=record.reserved_tokens)
    source = UsageSource.ESTIMATED if record.reserved_tokens else UsageSource.NONE
    return msgspec.structs.replace(record, ending=Ending.LOST, status=0, usage=usage, usage_source=source)
