"""Going through journals: for those who ship them, and to find out whether they are whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from modelport.core.usage import UsageRecord
from modelport.stores.journal.files import files_of, writers_in
from modelport.stores.journal.lines import NO_PREVIOUS, DamagedLine, Line, decode_line, digest


class Fault(Struct, frozen=True):
    """What is wrong with one line; lines count from 1."""

    path: str
    line: int
    what: str


class Verification(Struct, frozen=True):
    """What a journal holds, and what is wrong with it."""

    lines: int
    calls: int
    """Calls that have ended."""
    open_calls: int
    """Calls without an end yet: they run, or wait for recovery."""
    tokens: int
    faults: tuple[Fault, ...]


def read_lines(path: Path) -> Iterator[Line]:
    """The lines of one file. Raises DamagedLine."""
    with path.open("rb") as file:
        for data in file:
            yield decode_line(data)


def ended_calls(directory: Path) -> Iterator[UsageRecord]:
    """The final record of every call in a directory, writer by writer. Raises DamagedLine."""
    for writer in writers_in(directory):
        for path in files_of(directory, writer):
            for line in read_lines(path):
                if line.kind == "close":
                    yield line.usage()


def verify(path: Path) -> Verification:
    """Checks one file, or each chain of files in a directory: every line whole, numbered and chained without a gap, at
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
        with path.open("rb") as file:
            for number, data in enumerate(file, 1):
                self.lines += 1
                self.faults += [Fault(str(path), number, what) for what in self._line(data)]

    def _line(self, data: bytes) -> Iterator[str]:
        try:
            line = decode_line(data)
        except DamagedLine as damage:
            yield str(damage)
            self._sequence, self._previous = None, digest(data)
            return
        # Older files may have been shipped and removed: then the chain starts in its middle.
        if self._sequence is not None and line.sequence != self._sequence + 1:
            yield f"number {line.sequence} follows {self._sequence}"
        expected = NO_PREVIOUS if line.sequence == 1 else self._previous
        if expected is not None and line.previous != expected:
            yield "the chain is broken: the line before this one is not the one that was written"
        self._sequence, self._previous = line.sequence, digest(data)
        if line.kind != "begin":
            yield from self._call(line.kind == "close", line.usage())

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
