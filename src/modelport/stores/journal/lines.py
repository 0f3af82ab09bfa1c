"""One line of a journal: what it tells of, and the record, as a JSON array.

    ["begin",{…}]       the file's first line
    ["carried",[…]]     a call that is still open, repeated from the file before
    ["open",[…]]        a call opens; again with each larger reservation
    ["close",[…]]       it has ended

A record is the list of its values (core.usage.UsageRow), for every byte is hashed. A line counts only under a seal
(`writes`).
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import astuple

from modelport.core.usage import UsageRecord, UsageRow

Kind = Literal["begin", "carried", "open", "close"]

BEGIN: Final = b'["begin",'
CARRIED: Final = b'["carried",'
OPEN: Final = b'["open",'
CLOSE: Final = b'["close",'
END: Final = b"]\n"
"""What a record stands between."""
KINDS: Final[dict[bytes, Kind]] = {BEGIN: "begin", CARRIED: "carried", OPEN: "open", CLOSE: "close"}
NO_PREVIOUS: Final = "0" * 32
"""What the first seal of a chain says of the seal before it."""


class Beginning(Struct, frozen=True):
    """The first line of a file. The `carried` lines that follow repeat the calls still open in the file before it, so
    that one file is enough to recover from."""

    writer: str
    number: int
    carried: int
    begun_at: float


class Line(Struct, frozen=True):
    """A line as read. `record` is the JSON of a UsageRow, or of a Beginning where `kind` is `begin`."""

    kind: Kind
    record: bytes

    def usage(self) -> UsageRecord:
        """The call's record. Only for other kinds than `begin`. Raises DamagedLine."""
        return decode_record(self.record).record()

    def call_id(self) -> str:
        """The record's id, without reading the rest. Raises DamagedLine."""
        try:
            return IDENTITY_DECODER.decode(self.record).id
        except msgspec.DecodeError as cause:
            raise DamagedLine(NO_LINE) from cause

    def beginning(self) -> Beginning:
        """Only for `begin`. Raises DamagedLine."""
        try:
            return BEGINNING_DECODER.decode(self.record)
        except msgspec.DecodeError as cause:
            raise DamagedLine(NO_LINE) from cause


class IdentityRow(Struct, frozen=True, array_like=True):
    """The one value that pairs lines."""

    id: str


class DamagedLine(ValueError):
    """These bytes are not what was written, or nothing that a journal holds."""


NO_LINE: Final = "this is no line of a journal"
ENCODER: Final = msgspec.json.Encoder()
ROW_DECODER: Final = msgspec.json.Decoder(UsageRow)
IDENTITY_DECODER: Final = msgspec.json.Decoder(IdentityRow)
BEGINNING_DECODER: Final = msgspec.json.Decoder(Beginning)


def encode_record(record: UsageRecord) -> bytes:
    """As lines hold it."""
    return ENCODER.encode(astuple(record))


def encode_beginning(beginning: Beginning) -> bytes:
    """Likewise."""
    return ENCODER.encode(beginning)


def decode_record(record: bytes) -> UsageRow:
    """The values by their names. Raises DamagedLine."""
    try:
        return ROW_DECODER.decode(record)
    except msgspec.DecodeError as cause:
        raise DamagedLine(NO_LINE) from cause


def decode_line(data: bytes) -> Line:
    """The line in `data`, newline included. Raises DamagedLine. Whether it is as it was written, its seal knows."""
    head, comma, rest = data.partition(b",")
    kind = KINDS.get(head + comma)
    if kind is None or not rest.endswith(END):
        raise DamagedLine(NO_LINE)
    return Line(kind, rest[: -len(END)])


def digest(data: bytes) -> str:
    """128 bits of blake2b."""
    return blake2b(data, digest_size=16).hexdigest()
