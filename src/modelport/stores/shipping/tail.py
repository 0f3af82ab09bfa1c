"""Reads a journal from where it was left: whole writes only, file after file, while somebody writes it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, Final

from msgspec import Struct

from modelport.core.usage import UsageRecord
from modelport.stores.journal.files import file_path, files_of, number_of
from modelport.stores.journal.lines import CLOSE, DamagedLine, decode_record, digest
from modelport.stores.journal.reading import parts
from modelport.stores.journal.writes import READ_BYTES, Damage, Write

COUNTED_BYTES: Final = 1024 * 1024


class Position(Struct, frozen=True):
    """So far a journal is shipped: up to this byte of this file, where a write ends. `digest` and `line_bytes` are its
    seal's, so that a journal that was put in the place of another one is noticed; `sequence` is the number of its last
    line."""

    number: int
    offset_bytes: int
    line_bytes: int = 0
    digest: str = ""
    sequence: int = 0


class Batch(Struct, frozen=True):
    """What follows a position. `is_last`: there is nothing more now."""

    records: tuple[UsageRecord, ...]
    position: Position | None
    damaged_lines: int
    is_last: bool


def read_batch(directory: Path, writer: str, position: Position | None, limit: int) -> Batch:
    """The writes after `position` (None: from the oldest file) until they have `limit` records, and the position after
    them. So there may be more records than that, by the rest of one write.

    What is read is on the disk when this returns: the ledger never knows more than a journal that was cut off by a
    power failure. Lines that are damaged while whole ones follow are counted and passed over. Raises OSError."""
    numbers = [number_of(path) for path in files_of(directory, writer)]
    if position is None or not stands(directory, writer, position):
        position = None
    reading = Reading(limit, position)
    for index, number in enumerate(numbers):
        if position is not None and number < position.number:
            continue
        is_finished = index + 1 < len(numbers)  # known before it is read: whoever begins a file has ended the last
        with file_path(directory, writer, number).open("rb", buffering=READ_BYTES) as file:
            is_done = reading.file(file, number, is_finished)
        if not is_done:
            break
    return Batch(tuple(reading.records), reading.position, reading.damaged_lines, not reading.is_full)


class Reading:
    """One batch as it grows."""

    def __init__(self, limit: int, position: Position | None) -> None:
        self._limit = limit
        self.position = position
        self.records: list[UsageRecord] = []
        self.damaged_lines = 0
        self.is_full = False

    def file(self, file: BinaryIO, number: int, is_finished: bool) -> bool:
        """Reads on in this file. False: the batch ends in it."""
        last: Write | None = None
        bad = 0
        for part in parts(file, self._begin(number)):
            if isinstance(part, Damage):
                bad += part.lines  # or it is being written, or a crash tore it and the next start will cut it off
                continue
            self.damaged_lines += bad
            bad = 0
            last = part
            self._take(part)
            if len(self.records) >= self._limit:
                self.is_full = True
                break
        if last is not None:
            self.position = Position(number, last.offset_bytes, len(last.ending), digest(last.ending), last.sequence)
            os.fsync(file.fileno())
        if is_finished and not self.is_full:
            self.damaged_lines += bad
        return is_finished and not self.is_full

    def _take(self, write: Write) -> None:
        """Its ended calls."""
        for record in write.closings():
            try:
                self.records.append(decode_record(record))
            except DamagedLine:
                self.damaged_lines += 1

    def _begin(self, number: int) -> int:
        """Where to begin in this file."""
        if self.position is None:
            return 0
        if self.position.number != number:
            self.position = Position(number, 0)
        return self.position.offset_bytes


def stands(directory: Path, writer: str, position: Position) -> bool:
    """Whether the journal is still the one that this position was taken in. A file that was removed does not count
    against it if later ones are there."""
    path = file_path(directory, writer, position.number)
    try:
        with path.open("rb") as file:
            if not position.line_bytes:
                return position.offset_bytes == 0
            file.seek(position.offset_bytes - position.line_bytes)
            return digest(file.read(position.line_bytes)) == position.digest
    except FileNotFoundError:
        return False


class Counter:
    """Counts closing lines ahead of what is shipped, without decoding them: the backlog, whatever the ledger does."""

    def __init__(self) -> None:
        self._places: dict[str, tuple[int, int]] = {}
        self.closed = 0

    def start(self, positions: Mapping[str, Position]) -> None:
        """Everything up to these is shipped, and nothing after."""
        self._places = {writer: (found.number, found.offset_bytes) for writer, found in positions.items()}
        self.closed = 0

    def count(self, directory: Path, writer: str) -> None:
        """Reads on to the end of this writer's journal. Raises OSError."""
        number, offset = self._places.get(writer, (0, 0))
        for path in files_of(directory, writer):
            if number_of(path) < number:
                continue
            if number_of(path) > number:
                number, offset = number_of(path), 0
            with path.open("rb") as file:
                file.seek(offset)
                while data := file.read(COUNTED_BYTES):
                    whole = data.rfind(b"\n") + 1
                    if not whole:
                        break
                    self.closed += closings_in(data, whole)
                    offset += whole
                    file.seek(offset)
        self._places[writer] = (number, offset)


def closings_in(data: bytes, end: int) -> int:
    """How many of these lines are closing lines. Only a line begins behind a newline: texts in records have none."""
    return data.startswith(CLOSE) + data.count(b"\n" + CLOSE, 0, end)
