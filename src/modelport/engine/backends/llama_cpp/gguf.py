"""Reads a GGUF file's metadata: to know the model before the engine loads it, or say why it cannot."""

from __future__ import annotations

import math
import mmap
import struct
from pathlib import Path
from typing import Any, Final

_SCALARS: Final = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
_STRING, _ARRAY = 8, 9
_ENTRY_LIMIT = 1 << 16
_ARRAY_LIMIT = 1 << 22
_STRING_LIMIT_BYTES = 1 << 24

# Bytes and elements of one block of each tensor type (ggml.h); a type not listed here is not measured.
_BLOCKS: Final = {
    0: (4, 1), 1: (2, 1), 2: (18, 32), 3: (20, 32), 6: (22, 32), 7: (24, 32), 8: (34, 32), 9: (36, 32),
    10: (84, 256), 11: (110, 256), 12: (144, 256), 13: (176, 256), 14: (210, 256), 15: (292, 256), 30: (2, 1),
}  # fmt: skip


class UnreadableWeightsError(Exception):
    """The file is not a whole GGUF file; the text says what is wrong with it."""


def read_metadata(path: Path) -> dict[str, Any]:
    """The key-value pairs of the file's header. Raises UnreadableWeightsError also if the file ends too early."""
    try:
        with path.open("rb") as file:
            if file.seek(0, 2) < 24:
                raise UnreadableWeightsError(f"{path.name} is too short to be a GGUF file")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                return _Reader(view, path.name).metadata()
    except OSError as error:
        raise UnreadableWeightsError(f"{path} cannot be read: {error.strerror}") from error


class _Reader:
    def __init__(self, view: mmap.mmap, name: str) -> None:
        self._view = view
        self._name = name
        self._at = 0

    def metadata(self) -> dict[str, Any]:
        if self._take(4) != b"GGUF":
            raise UnreadableWeightsError(f"{self._name} is not a GGUF file")
        version = self._number("I")
        if version not in (2, 3):
            raise UnreadableWeightsError(f"{self._name} has GGUF version {version}; 2 and 3 are known")
        tensors, entries = self._number("Q"), self._number("Q")
        if entries > _ENTRY_LIMIT or tensors > _ENTRY_LIMIT:
            raise UnreadableWeightsError(f"{self._name} has a damaged header")
        pairs: dict[str, Any] = {}
        for _ in range(entries):
            key = self._text()
            pairs[key] = self._value(self._number("I"))
        self._check_length(tensors, int(pairs.get("general.alignment", 32)))
        return pairs

    def _check_length(self, tensors: int, alignment: int) -> None:
        ends = 0
        for _ in range(tensors):
            self._text()
            dimensions = [self._number("Q") for _ in range(min(self._number("I"), 8))]
            kind, offset = self._number("I"), self._number("Q")
            block_bytes, block_elements = _BLOCKS.get(kind, (0, 1))
            ends = max(ends, offset + math.prod(dimensions) * block_bytes // block_elements)
        data = -(-self._at // alignment) * alignment
        if data + ends > len(self._view):
            raise UnreadableWeightsError(
                f"{self._name} is truncated: it should have at least {data + ends:,} bytes and has {len(self._view):,}"
            )

    def _take(self, size: int) -> bytes:
        if self._at + size > len(self._view):
            raise UnreadableWeightsError(f"{self._name} is truncated: its header does not end")
        taken = self._view[self._at : self._at + size]
        self._at += size
        return taken

    def _number(self, code: str) -> Any:
        return struct.unpack("<" + code, self._take(struct.calcsize("<" + code)))[0]

    def _text(self) -> str:
        size = self._number("Q")
        if size > _STRING_LIMIT_BYTES:
            raise UnreadableWeightsError(f"{self._name} has a damaged header")
        return self._take(size).decode("utf-8", "replace")

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._text()
        if kind != _ARRAY:
            if kind not in _SCALARS:
                raise UnreadableWeightsError(f"{self._name} has a damaged header")
            return self._number(_SCALARS[kind])
        kind, count = self._number("I"), self._number("Q")
        if count > _ARRAY_LIMIT or kind == _ARRAY:
            raise UnreadableWeightsError(f"{self._name} has a damaged header")
        if kind in _SCALARS:
            code = f"{count}{_SCALARS[kind]}"
            return list(struct.unpack("<" + code, self._take(struct.calcsize("<" + code))))
        return [self._value(kind) for _ in range(count)]
