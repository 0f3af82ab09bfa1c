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
import time
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, Final

from msgspec import Struct

from modelport.stores.journal.formed import FormsRead
from modelport.stores.journal.lines import CLOSE, END, DamagedLine, Forms, record_in

SEAL_START: Final = b'["seal",'
SEAL: Final = SEAL_START + b'%d,"%b"'
"""As far as it is under its own digest."""
SEAL_END: Final = b',"%b"]\n'
SEAL_END_BYTES: Final = len(SEAL_END % (b"0" * 32))
SEAL_LINE: Final = re.compile(rb'\["seal",(\d{1,18}),"([0-9a-f]{32})","([0-9a-f]{32})"\]\n')
READ_BYTES: Final = 256 * 1024
LOOKS: Final = 20
LOOK_SECONDS: Final = 0.005
"""So often, and after so long, an end that is not whole is looked at again."""


class Write(Struct, frozen=True):
    """Whole lines, as they were written."""

    lines: list[bytes]
    """As they stand there, without their seal."""
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
    forms: Forms
    """What its lines name, as long as the file is open."""

    def closings(self) -> list[bytes]:
        """The records of closing lines; nothing for one that is damaged. Other lines are not looked at: half of all are
        openings."""
        return [record_or_nothing(line, self.forms) for line in self.lines if line.startswith(CLOSE)]


class Damage(Struct, frozen=True):
    """Lines without a seal that is right. At the end of a file that is written they are not there yet, or torn."""

    what: str
    lines: int
    """So many of them; seals are not counted."""
    first_line: int
    offset_bytes: int


def has_seal(path: Path) -> bool:
    """Whether a file has a line that looks like a seal: without one, nothing in it counts."""
    with path.open("rb", buffering=READ_BYTES) as file:
        return any(line.startswith(SEAL_START) for line in file)


def record_or_nothing(line: bytes, forms: Forms) -> bytes:
    """The record of a closing line."""
    try:
        return record_in(line[len(CLOSE) : -len(END)], forms)
    except DamagedLine:
        return b""


def sealed(lines: bytes, sequence: int, previous: bytes) -> tuple[bytes, bytes]:
    """What is written, and its digest. `sequence`: the number of the last line; `previous`: the digest of the seal
    before."""
    covered = lines + SEAL % (sequence, previous)
    digest = blake2b(covered, digest_size=16).hexdigest().encode()
    return covered + SEAL_END % digest, digest


def sealed_parts(file: BinaryIO, offset_bytes: int) -> Iterator[Write | Damage]:
    """The file from here on, where a write begins. A write that seems to be cut off at the end may be under way, for
    others see it grow: it is looked at again for a while before it is given as Damage."""
    lines: list[bytes] = []  # of a write whose seal has not come yet
    rest = b""  # of a line whose end has not come yet
    first_line, looks = 1, 0
    forms = FormsRead(file)
    while True:
        found = file.readlines(READ_BYTES)
        if not found:
            if not (lines or rest) or looks == LOOKS:
                break
            looks += 1
            time.sleep(LOOK_SECONDS)
            # From its beginning: the writer's next start may have cut off what a crash had torn, and written on there.
            file.seek(offset_bytes)  # at its end a file has nothing buffered
            lines, rest = [], b""
            continue
        found[0] = rest + found[0]
        rest = b"" if found[-1].endswith(b"\n") else found.pop()
        start = 0
        for index in [index for index, line in enumerate(found) if line.startswith(SEAL_START)]:
            lines += found[start : index + 1]
            part = checked(lines, first_line, offset_bytes, forms)
            yield part
            offset_bytes, first_line = part.offset_bytes, first_line + len(lines)
            start, lines = index + 1, []
        lines += found[start:]
    lines += [rest] if rest else []
    if lines:
        yield damage(lines, first_line, offset_bytes + sum(map(len, lines)), "no seal follows: the write was cut off")


def checked(lines: list[bytes], first_line: int, offset_bytes: int, forms: Forms) -> Write | Damage:
    """These lines, which begin here; the last one should be their seal."""
    data = b"".join(lines)
    offset_bytes += len(data)
    digest = blake2b(memoryview(data)[:-SEAL_END_BYTES], digest_size=16).hexdigest()
    seal = SEAL_LINE.fullmatch(lines[-1])
    if seal is None or seal[3] != digest.encode():
        return damage(lines, first_line, offset_bytes, "the seal is wrong")
    return Write(
        lines=lines[:-1],
        sequence=int(seal[1]),
        previous=seal[2].decode(),
        digest=digest,
        first_line=first_line,
        offset_bytes=offset_bytes,
        ending=lines[-1],
        forms=forms,
    )


def damage(lines: list[bytes], first_line: int, offset_bytes: int, what: str) -> Damage:
    """These lines up to this place, told of."""
    number = sum(not line.startswith(SEAL_START) for line in lines)
    span = f"lines {first_line} to {first_line + len(lines) - 1}: " if len(lines) > 1 else ""
    return Damage(span + what, number, first_line, offset_bytes)
