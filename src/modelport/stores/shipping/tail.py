"""Reads a journal from where it was left: whole lines only, file after file, while somebody writes it."""

from __future__ import annotations

import os
from binascii import crc32
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from msgspec import DecodeError, Struct, json

from modelport.core.usage import UsageRecord, UsageRow
from modelport.stores.journal.files import file_path, files_of, number_of
from modelport.stores.journal.lines import TAIL, TAIL_BYTES, DamagedLine, digest

CLOSE: Final = b',"kind":"close",'
"""Stands in every closing line and in no other: quotes within a record's texts are escaped."""
KIND_BYTES: Final = 64
"""A line's kind is within its first so many bytes, behind its number."""
ROW: Final = b',"record":['
HEAD_BYTES: Final = 160
"""A line's record begins within its first so many bytes."""
COUNTED_BYTES: Final = 1024 * 1024
READ_BYTES: Final = 256 * 1024


class Position(Struct, frozen=True):
    """So far a journal is shipped: up to this byte of this file. `digest` and `line_bytes` are the last line's, so that
    a journal that was put in the place of another one is noticed."""

    number: int
    offset_bytes: int
    line_bytes: int = 0
    digest: str = ""
    sequence: int = 0


class Closing(Struct, frozen=True):
    """The part of a closing line that is shipped."""

    record: UsageRecord


class ClosingRow(Struct, frozen=True):
    """The same, where the record is a list of values."""

    record: UsageRow


class Numbered(Struct, frozen=True):
    """The part of any line that its place is known by."""

    sequence: int = 0


CLOSING_DECODER: Final = json.Decoder(Closing)
CLOSING_ROW_DECODER: Final = json.Decoder(ClosingRow)
NUMBERED_DECODER: Final = json.Decoder(Numbered)


class Batch(Struct, frozen=True):
    """What follows a position. `is_last`: there is nothing more now."""

    records: tuple[UsageRecord, ...]
    position: Position | None
    damaged_lines: int
    is_last: bool


def read_batch(directory: Path, writer: str, position: Position | None, limit: int) -> Batch:
    """At most `limit` records after `position` (None: from the oldest file), and the position after them.

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
        begun_at = self._begin(number)
        whole: bytes | None = None  # the last line that is
        offset = reached = begun_at
        bad = 0
        file.seek(begun_at)
        for data in file:
            if not data.endswith(b"\n") and not is_finished:
                break  # it is being written, or a crash tore it and the next start will cut it off
            reached += len(data)
            try:
                ended = ended_call(data)
            except DamagedLine:
                bad += 1
                continue
            self.damaged_lines += bad
            bad = 0
            offset, whole = reached, data
            if ended is not None:
                self.records.append(ended)
                if len(self.records) >= self._limit:
                    self.is_full = True
                    break
        if whole is not None:
            self.position = Position(number, offset, len(whole), digest(whole), sequence_of(whole))
            os.fsync(file.fileno())
        if is_finished and not self.is_full:
            self.damaged_lines += bad
        return is_finished and not self.is_full

    def _begin(self, number: int) -> int:
        """Where to begin in this file."""
        if self.position is None:
            return 0
        if self.position.number != number:
            self.position = Position(number, 0)
        return self.position.offset_bytes


def ended_call(data: bytes) -> UsageRecord | None:
    """The record of a closing line, read in one pass. Other lines are only checked, and mean None: half of all lines
    are openings. Raises DamagedLine."""
    if data[-TAIL_BYTES:] != TAIL % crc32(data[:-TAIL_BYTES]):
        raise DamagedLine("the checksum is wrong, or the line is cut off")
    if data.find(CLOSE, 0, KIND_BYTES) < 0:
        return None
    try:
        if data.find(ROW, 0, HEAD_BYTES) < 0:
            return CLOSING_DECODER.decode(data).record
        return CLOSING_ROW_DECODER.decode(data).record
    except DecodeError as cause:
        raise DamagedLine("this is no line of a journal") from cause


def sequence_of(data: bytes) -> int:
    """The number of a line whose checksum is right."""
    with suppress(DecodeError):  # a later version's: its number is only told, never counted on
        return NUMBERED_DECODER.decode(data).sequence
    return 0


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
                    self.closed += data.count(CLOSE, 0, whole)
                    offset += whole
                    file.seek(offset)
        self._places[writer] = (number, offset)
