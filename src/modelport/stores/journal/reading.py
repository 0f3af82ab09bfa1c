"""Going through journals: for those who ship them, and to find out whether they are whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from modelport.core.usage import UsageRecord
from modelport.stores.journal.files import files_of, writers_in
from modelport.stores.journal.lines import NO_PREVIOUS, DamagedLine, decode_form, decode_line, decode_record
from modelport.stores.journal.writes import READ_BYTES, Damage, Write, sealed_parts


class Fault(Struct, frozen=True):
    """What is wrong with one line, or with lines of which it is the first; lines count from 1."""

    path: str
    line: int
    what: str


class Verification(Struct, frozen=True):
    """What a journal holds, and what is wrong with it."""

    lines: int
    """Seals are not counted."""
    calls: int
    """Calls that have ended."""
    open_calls: int
    """Calls without an end yet: they run, or wait for recovery."""
    tokens: int
    faults: tuple[Fault, ...]


def parts(file: BinaryIO, offset_bytes: int = 0) -> Iterator[Write | Damage]:
    """What an open file holds from here on, where a write begins: whole writes, and what else is there."""
    file.seek(offset_bytes)
    return sealed_parts(file, offset_bytes)


def parts_of(path: Path) -> Iterator[Write | Damage]:
    """What one file holds."""
    with path.open("rb", buffering=READ_BYTES) as file:
        yield from parts(file)


def read_writes(path: Path) -> Iterator[Write]:
    """The writes of one file. Raises DamagedLine."""
    for part in parts_of(path):
        if isinstance(part, Damage):
            raise DamagedLine(part.what)
        yield part


def ended_calls(directory: Path) -> Iterator[UsageRecord]:
    """The final record of every call in a directory, writer by writer. Raises DamagedLine."""
    for writer in writers_in(directory):
        for path in files_of(directory, writer):
            for write in read_writes(path):
                for record in write.closings():
                    yield decode_record(record).record()


def verify(path: Path) -> Verification:
    """Checks one file, or each chain of files in a directory: every write whole, numbered and chained without a gap, at
    most one end for a call, no negative count."""
    chains = [files_of(path, writer) for writer in writers_in(path)] if path.is_dir() else [[path]]
    checks = [Check() for _ in chains]
    for check, chain in zip(checks, chains, strict=True):
        for file in chain:
            check.file(file)
    return Verification(
        lines=sum(check.lines for check in checks),
        calls=sum(len(check.ended) for check in checks),
        open_calls=sum(len(check.opened) for check in checks),
        tokens=sum(check.tokens for check in checks),
        faults=tuple(fault for check in checks for fault in check.faults),
    )


class Check:
    """Follows one chain."""

    def __init__(self) -> None:
        self.lines = 0
        self.tokens = 0
        self.opened: set[str] = set()
        self.ended: set[str] = set()
        self.faults: list[Fault] = []
        self._sequence: int | None = None
        self._previous: str | None = None

    def file(self, path: Path) -> None:
        """Goes through the chain's next file."""
        for part in parts_of(path):
            if isinstance(part, Damage):
                self.lines += part.lines
                self.faults.append(Fault(str(path), part.first_line, part.what))
                self._sequence = self._previous = None  # what follows cannot be held against it
                continue
            for line, what in self._write(part):
                self.faults.append(Fault(str(path), line, what))

    def _write(self, write: Write) -> Iterator[tuple[int, str]]:
        """Faults, each with its line."""
        self.lines += len(write.lines)
        first = write.sequence - len(write.lines) + 1
        # Older files may have been shipped and removed: then the chain starts in its middle.
        if self._sequence is not None and first != self._sequence + 1:
            yield write.first_line, f"number {first} follows {self._sequence}"
        expected = NO_PREVIOUS if first == 1 else self._previous
        if expected is not None and write.previous != expected:
            yield write.first_line, "the chain is broken: what is before this line is not what was written there"
        self._sequence, self._previous = write.sequence, write.digest
        for number, data in enumerate(write.lines, write.first_line):
            try:
                line = decode_line(data, write.forms)
                if line.kind == "form":
                    decode_form(line.record)
                faults = list(self._call(line.kind == "close", line.usage())) if line.is_of_call else []
            except DamagedLine as damage:
                faults = [str(damage)]
            yield from ((number, what) for what in faults)

    def _call(self, is_end: bool, record: UsageRecord) -> Iterator[str]:
        if min(record.usage.classes()) < 0:
            yield f"call {record.id}: a count is negative"
        if not is_end:
            self.opened.add(record.id)
            return
        if record.id in self.ended:
            yield f"call {record.id}: it ended twice"
        self.opened.discard(record.id)
        self.ended.add(record.id)
        self.tokens += record.usage.total
