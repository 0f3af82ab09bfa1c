"""One line of a journal: what it tells of, and the record, as a JSON array.

    ["begin",{…}]            the file's first line
    ["carried",[…]]          a call that is still open, repeated from the file before
    ["open",[…]]             a call opens; again with each larger reservation
    ["close",[…]]            it has ended
    ["form",["<digest>",[<places>],[…]]]   what the records of many calls share (core.record_forms)
    ["open",<offset>,[…]]    as above: the values at the places of the form whose line begins at this byte of the file
    ["close",<offset>,[…]]   likewise

A record is the list of its values (core.usage.UsageRow), for every byte is hashed. A line counts only under a seal
(`writes`); a form has a digest of its own besides, for whoever reads on from the middle of a file finds it alone.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final, Literal, Protocol

import msgspec
from msgspec import Struct
from msgspec.structs import astuple

from modelport.core.record_forms import RecordForm
from modelport.core.usage import UsageRecord, UsageRow

Kind = Literal["begin", "carried", "form", "open", "close"]

BEGIN: Final = b'["begin",'
CARRIED: Final = b'["carried",'
FORM: Final = b'["form",'
OPEN: Final = b'["open",'
CLOSE: Final = b'["close",'
END: Final = b"]\n"
"""What a record stands between."""
KINDS: Final[dict[bytes, Kind]] = {BEGIN: "begin", CARRIED: "carried", FORM: "form", OPEN: "open", CLOSE: "close"}
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
    """A line as read. `record` is the JSON of a whole UsageRow, or of a Beginning where `kind` is `begin`, or of a
    FormRow where it is `form`."""

    kind: Kind
    record: bytes

    @property
    def is_of_call(self) -> bool:
        """Whether it tells of a call."""
        return self.kind not in ("begin", "form")

    def usage(self) -> UsageRecord:
        """The call's record. Only where there is one. Raises DamagedLine."""
        return decode_record(self.record).record()

    def call_id(self) -> str:
        """The record's id, without reading the rest. Only where there is one. Raises DamagedLine."""
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


class FormRow(Struct, frozen=True, array_like=True):
    """A form."""

    digest: str
    """Of the two others."""
    places: tuple[int, ...]
    row: msgspec.Raw


class Forms(Protocol):
    """The forms of one file."""

    def at(self, offset_bytes: int) -> RecordForm:
        """The one whose line begins there. Raises DamagedLine."""
        ...


class IdentityRow(Struct, frozen=True, array_like=True):
    """The one value that pairs lines."""

    id: str


class DamagedLine(ValueError):
    """These bytes are not what was written, or nothing that a journal holds."""


NO_LINE: Final = "this is no line of a journal"
OFFSET_DIGITS: Final = 18
ENCODER: Final = msgspec.json.Encoder()
ROW_DECODER: Final = msgspec.json.Decoder(UsageRow)
IDENTITY_DECODER: Final = msgspec.json.Decoder(IdentityRow)
BEGINNING_DECODER: Final = msgspec.json.Decoder(Beginning)
FORM_DECODER: Final = msgspec.json.Decoder(FormRow)


def encode_record(record: UsageRecord) -> bytes:
    """As lines hold it."""
    return ENCODER.encode(astuple(record))


def encode_beginning(beginning: Beginning) -> bytes:
    """Likewise."""
    return ENCODER.encode(beginning)


def encode_form(form: RecordForm) -> bytes:
    """Likewise."""
    return b'["%b",%b]' % (digest(form.told).encode(), form.told)


def decode_record(record: bytes) -> UsageRow:
    """The values by their names. Raises DamagedLine."""
    try:
        return ROW_DECODER.decode(record)
    except msgspec.DecodeError as cause:
        raise DamagedLine(NO_LINE) from cause


def decode_form(record: bytes) -> RecordForm:
    """What stands in the line of a form. Raises DamagedLine."""
    try:
        found = FORM_DECODER.decode(record)
        form = RecordForm(bytes(found.row), found.places)
    except (msgspec.DecodeError, ValueError) as cause:
        raise DamagedLine(NO_LINE) from cause
    if found.digest != digest(form.told):
        raise DamagedLine("the form is not what was written")
    return form


def decode_line(data: bytes, forms: Forms) -> Line:
    """The line in `data`, newline included. Raises DamagedLine. Whether it is as it was written, its seal knows."""
    head, comma, rest = data.partition(b",")
    kind = KINDS.get(head + comma)
    if kind is None or not rest.endswith(END):
        raise DamagedLine(NO_LINE)
    return Line(kind, record_in(rest[: -len(END)], forms))


def record_in(told: bytes, forms: Forms) -> bytes:
    """What a line tells, as a whole record, if it names a form. Raises DamagedLine."""
    if not told[:1].isdigit():
        return told
    offset, _, values = told.partition(b",")
    if not offset.isdigit() or len(offset) > OFFSET_DIGITS:
        raise DamagedLine(NO_LINE)
    form = forms.at(int(offset))
    try:
        return form.filled(values)
    except (ValueError, msgspec.DecodeError) as cause:
        raise DamagedLine(NO_LINE) from cause


def digest(data: bytes) -> str:
    """128 bits of blake2b."""
    return blake2b(data, digest_size=16).hexdigest()
