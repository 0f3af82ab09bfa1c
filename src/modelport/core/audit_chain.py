"""The audit's hash chain: each entry's digest covers the one before it, so that a row which is changed, removed or put
in between is found by reading the entries in order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from modelport.core.ports.control import AuditDraft, AuditEntry

FIRST: Final = "0" * 64
"""What the first entry names as `previous`."""


def chained(draft: AuditDraft, sequence: int, version: int, previous: str) -> AuditEntry:
    """The draft as the next link."""
    fields: dict[str, Any] = {**msgspec.structs.asdict(draft), "sequence": sequence, "version": version}
    return AuditEntry(**fields, previous=previous, digest=digest_of({**fields, "previous": previous}))


def digest_of(fields: dict[str, Any]) -> str:
    """Hexadecimal SHA-256 over everything but the digest."""
    return hashlib.sha256(msgspec.json.encode(fields, order="sorted")).hexdigest()


def breaks(entries: Iterable[AuditEntry]) -> Iterator[str]:
    """Where the chain is not whole, in words. `entries`: all there are, in order."""
    previous, expected = FIRST, 1
    for entry in entries:
        fields = {name: value for name, value in msgspec.structs.asdict(entry).items() if name != "digest"}
        if entry.sequence != expected:
            yield f"entry {entry.sequence} follows entry {expected - 1}: entries are missing"
        elif entry.previous != previous:
            yield f"entry {entry.sequence} does not follow the entry before it"
        if digest_of(fields) != entry.digest:
            yield f"entry {entry.sequence} is not as it was written"
        previous, expected = entry.digest, entry.sequence + 1
