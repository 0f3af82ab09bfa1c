"""One line of a journal: JSON with its number, the hash of the line before it, and a checksum of itself.

    {"sequence":7,"kind":"open","previous":"<32 hex>","record":[…],"checksum":"<8 hex>"}

A record is the list of its values (core.usage.UsageRow), for every byte is hashed; older files have objects.

The checksum finds a line that was torn or damaged; the chain of hashes finds one that was changed, added or removed.
"""

from __future__ import annotations

from binascii import crc32
from collections.abc import Iterable
from hashlib import blake2b
from typing import Final, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import astuple

from modelport.core.usage import UsageRecord, UsageRow

Kind = Literal["begin", "carried", "open", "close"]

KINDS: Final[dict[Kind, bytes]] = {"begin": b"begin", "carried": b"carried", "open": b"open", "close": b"close"}
NO_PREVIOUS: Final = "0" * 32
"""What the first line of a chain says of the line before it."""
LINE: Final = b'{"sequence":%d,"kind":"%b","previous":"%b","record":%b'
TAIL: Final = b',"checksum":"%08x"}\n'
TAIL_BYTES: Final = len(TAIL % 0)


class Beginning(Struct, frozen=True):
    """The first line of a file. The `carried` lines that follow repeat the calls still open in the file before it, so
    that one file is enough to recover from."""

    writer: str
    number: int
    carried: int
    begun_at: float


class Line(Struct, frozen=True):
    """A line as read. `record` is a UsageRecord, or a Beginning where `kind` is `begin`."""

    sequence: int
    kind: Kind
    previous: str
    record: msgspec.Raw
    checksum: str

    def usage(self) -> UsageRecord:
        """The call's record. Only for other kinds than `begin`."""
        if not is_row(self.record):
            return USAGE_DECODER.decode(self.record)
        return ROW_DECODER.decode(self.record).record()

    def call_id(self) -> str:
        """The record's id, without reading the rest."""
        decoder = IDENTITY_ROW_DECODER if is_row(self.record) else IDENTITY_DECODER
        return decoder.decode(self.record).id

    def beginning(self) -> Beginning:
        """Only for `begin`."""
        return BEGINNING_DECODER.decode(self.record)


class Identity(Struct, frozen=True):
    """The one field that pairs lines."""

    id: str


class IdentityRow(Identity, frozen=True, array_like=True):
    """The same in a list of values."""


class DamagedLine(ValueError):
    """These bytes are no whole line of a journal."""


ENCODER: Final = msgspec.json.Encoder()
LINE_DECODER: Final = msgspec.json.Decoder(Line)
ROW_DECODER: Final = msgspec.json.Decoder(UsageRow)
IDENTITY_ROW_DECODER: Final = msgspec.json.Decoder(IdentityRow)
USAGE_DECODER: Final = msgspec.json.Decoder(UsageRecord)
IDENTITY_DECODER: Final = msgspec.json.Decoder(Identity)
BEGINNING_DECODER: Final = msgspec.json.Decoder(Beginning)


def is_row(record: msgspec.Raw) -> bool:
    """Whether it is a list of values."""
    return memoryview(record)[0] == ord("[")


def encode_record(record: UsageRecord) -> bytes:
    """As lines hold it."""
    return ENCODER.encode(astuple(record))


def encode_line(sequence: int, kind: Kind, previous: str, record: UsageRecord | Beginning | bytes) -> bytes:
    """The line with its newline. `record`: may be encoded already."""
    if isinstance(record, UsageRecord):
        record = encode_record(record)
    content = record if isinstance(record, bytes) else ENCODER.encode(record)
    head = LINE % (sequence, kind.encode(), previous.encode(), content)
    return head + TAIL % crc32(head)


def encode_lines(sequence: int, previous: str, entries: Iterable[tuple[Kind, bytes]]) -> tuple[bytes, int, str]:
    """The lines of these entries after the line numbered `sequence` whose digest is `previous`; the number and the
    digest of the last."""
    before = previous.encode()
    lines = []
    for kind, record in entries:
        sequence += 1
        head = LINE % (sequence, KINDS[kind], before, record)
        line = head + TAIL % crc32(head)
        before = blake2b(line, digest_size=16).hexdigest().encode()
        lines.append(line)
    return b"".join(lines), sequence, before.decode()


def decode_line(data: bytes) -> Line:
    """The line in `data`, newline included. Raises DamagedLine."""
    if not data.endswith(b"\n"):
        raise DamagedLine("the line is cut off")
    if data[-TAIL_BYTES:] != TAIL % crc32(data[:-TAIL_BYTES]):
        raise DamagedLine("the checksum is wrong")
    try:
        return LINE_DECODER.decode(data)
    except msgspec.DecodeError as cause:
        raise DamagedLine("this is no line of a journal") from cause


def digest(data: bytes) -> str:
    """What the next line says of the line `data`."""
    return blake2b(data, digest_size=16).hexdigest()
