"""Files of before there were seals: each line has its own checksum, and names the digest of the line before it.

    {"sequence":7,"kind":"open","previous":"<32 hex>","record":[…],"checksum":"<8 hex>"}

They are read like the others, a line as a write of one line; nothing is appended to them. Their records are lists of
values, or objects in the oldest.
"""

from __future__ import annotations

import os
from binascii import crc32
from collections.abc import Iterator
from typing import BinaryIO, Final

import msgspec
from msgspec import Struct

from modelport.core.usage import UsageRecord
from modelport.stores.journal.formed import FormsRead
from modelport.stores.journal.lines import BEGIN, END, NO_LINE, DamagedLine, Kind, digest, encode_record
from modelport.stores.journal.writes import Damage, Write

START: Final = b'{"sequence":'
CLOSE: Final = b',"kind":"close",'
"""Stands in every closing line and in no other: quotes within a record's texts are escaped."""
TAIL: Final = b',"checksum":"%08x"}\n'
TAIL_BYTES: Final = len(TAIL % 0)
LOOKED_AT_BYTES: Final = 64 * 1024


class OldLine(Struct, frozen=True):
    """A line as it stands there."""

    sequence: int
    kind: Kind
    previous: str
    record: msgspec.Raw
    checksum: str


LINE_DECODER: Final = msgspec.json.Decoder(OldLine)
USAGE_DECODER: Final = msgspec.json.Decoder(UsageRecord)


def is_old(file: BinaryIO) -> bool:
    """Whether a file, open for reading, is of this kind. A damaged byte at its start does not make it another one."""
    head = os.pread(file.fileno(), len(START), 0)
    if head == START:
        return True
    if BEGIN.startswith(head[: len(BEGIN)]):
        return False
    return b"\n" + START in os.pread(file.fileno(), LOOKED_AT_BYTES, 0)


def old_parts(file: BinaryIO, offset_bytes: int) -> Iterator[Write | Damage]:
    """The file from here on, line by line."""
    forms = FormsRead(file)  # none: there were no such lines
    for number, data in enumerate(file, 1):
        offset_bytes += len(data)
        try:
            line = decode_old(data)
            found = b'["%b",%b' % (line.kind.encode(), record_of(line)) + END
        except DamagedLine as damage:
            yield Damage(str(damage), 1, number, offset_bytes)
            continue
        yield Write(
            lines=[found],
            sequence=line.sequence,
            previous=line.previous,
            digest=digest(data),
            first_line=number,
            offset_bytes=offset_bytes,
            ending=data,
            forms=forms,
        )


def closings_in(data: bytes, end: int) -> int:
    """How many of the lines up to `end` are closing lines."""
    return data.count(CLOSE, 0, end)


def decode_old(data: bytes) -> OldLine:
    """The line in `data`, newline included. Raises DamagedLine."""
    if not data.endswith(b"\n"):
        raise DamagedLine("the line is cut off")
    if data[-TAIL_BYTES:] != TAIL % crc32(data[:-TAIL_BYTES]):
        raise DamagedLine("the checksum is wrong")
    try:
        return LINE_DECODER.decode(data)
    except msgspec.DecodeError as cause:
        raise DamagedLine(NO_LINE) from cause


def record_of(line: OldLine) -> bytes:
    """The record as a list of values. Raises DamagedLine."""
    record = bytes(line.record)
    if line.kind == "begin" or record.startswith(b"["):
        return record
    try:
        return encode_record(USAGE_DECODER.decode(record))
    except msgspec.DecodeError as cause:
        raise DamagedLine(NO_LINE) from cause
