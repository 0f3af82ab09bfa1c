"""Lines that were written at once, and the seal that is their last line.

    ["seal",<number of the last line before it>,"<digest of the seal before>","<digest>"]

Lines are numbered along the whole chain of a writer's files; seals are not counted. The digest is of every byte of the
write up to itself, so a seal is the checksum of its lines and a link of the chain in one: it finds what was torn or
damaged, and the next one finds what was changed and sealed anew, added or removed.

A line counts only when its seal is there and right. What a crash leaves of an unfinished write may be forgotten as a
whole: nothing is answered, and no target is asked, before its write has returned.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import blake2b
from typing import BinaryIO, Final

from msgspec import Struct

from modelport.stores.journal.lines import CLOSE, Line, decode_line

SEAL: Final = b'["seal",%d,"%b"'
"""As far as it is under its own digest."""
SEAL_END: Final = b',"%b"]\n'
SEAL_START: Final = b'["seal",'
SEAL_LINE: Final = re.compile(rb'\["seal",(\d{1,18}),"([0-9a-f]{32})","([0-9a-f]{32})"\]\n')
LONGEST_SEAL_BYTES: Final = 128
SEAL_END_BYTES: Final = len(SEAL_END % (b"0" * 32))
READ_BYTES: Final = 256 * 1024


class Write(Struct, frozen=True):
    """Whole lines, as they were written."""

    data: bytes
    """The lines, without their seal."""
    sequence: int
    """The number of the last of them, along the chain."""
    previous: str
    digest: str
    """What the next seal says of this one."""
    first_line: int
    """Where it begins in the file; lines of a file count from 1, seals like others."""
    offset_bytes: int
    """Where it ends in the file."""
    ending: bytes
    """The last line in the file, by which this place is known again."""

    def lines(self) -> list[Line]:
        """All of them. Raises DamagedLine."""
        return [decode_line(data) for data in self.raw_lines()]

    def raw_lines(self) -> list[bytes]:
        """As they stand there, without newlines."""
        return self.data[:-1].split(b"\n")

    def closings(self) -> list[bytes]:
        """The records of closing lines. Other lines are not looked at: half of all are openings."""
        return [line[len(CLOSE) : -1] for line in self.raw_lines() if line.startswith(CLOSE)]


class Damage(Struct, frozen=True):
    """Lines without a seal that is right. At the end of a file that is written they are not there yet, or torn."""

    what: str
    lines: int
    """So many of them; seals are not counted."""
    first_line: int
    offset_bytes: int


def sealed(lines: bytes, sequence: int, previous: bytes) -> tuple[bytes, bytes]:
    """What is written, and its digest. `sequence`: the last line's number; `previous`: the digest of the seal before."""
    covered = lines + SEAL % (sequence, previous)
    digest = blake2b(covered, digest_size=16).hexdigest().encode()
    return covered + SEAL_END % digest, digest


def sealed_parts(file: BinaryIO, offset_bytes: int) -> Iterator[Write | Damage]:
    """The file from here on, which is the beginning of a write. What is last may be Damage that is still written."""
    held, sought, first_line = b"", 0, 1
    while data := file.read(max(READ_BYTES, len(held))):
        held += data
        begun = 0
        while end := end_of_seal(held, begun, sought):
            part = checked(held[begun:end], first_line, offset_bytes + end)
            first_line += held.count(b"\n", begun, end)
            begun = sought = end
            yield part
        held = held[begun:]
        offset_bytes += begun
        sought = max(0, len(held) - LONGEST_SEAL_BYTES)  # one may be there in part
    if held:
        yield damage(held, first_line, offset_bytes + len(held), "no seal follows: the write was cut off")


def end_of_seal(data: bytes, begun: int, sought: int) -> int:
    """Behind the first seal of what begins here, nothing of which is before `sought`; 0: it is not there."""
    if data.startswith(SEAL_START, begun):
        start = begun
    else:
        start = data.find(b"\n" + SEAL_START, max(begun, sought)) + 1
        if not start:
            return 0
    return data.find(b"\n", start) + 1


def checked(data: bytes, first_line: int, offset_bytes: int) -> Write | Damage:
    """The lines up to a seal, and that seal."""
    digest = blake2b(data[:-SEAL_END_BYTES], digest_size=16).hexdigest()
    start = data.rfind(b"\n", 0, -1) + 1
    seal = SEAL_LINE.fullmatch(data, start)
    if seal is None or seal[3] != digest.encode():
        return damage(data, first_line, offset_bytes, "the seal is wrong")
    return Write(
        data=data[:start],
        sequence=int(seal[1]),
        previous=seal[2].decode(),
        digest=digest,
        first_line=first_line,
        offset_bytes=offset_bytes,
        ending=data[start:],
    )


def damage(data: bytes, first_line: int, offset_bytes: int, what: str) -> Damage:
    """These bytes, told of as lines."""
    lines = data.removesuffix(b"\n").split(b"\n")
    number = sum(not line.startswith(SEAL_START) for line in lines)
    span = f"lines {first_line} to {first_line + len(lines) - 1}: " if len(lines) > 1 else ""
    return Damage(span + what, number, first_line, offset_bytes)
