"""Vectors from a hash: the same text has the same vector, of length one, in every process and on every machine."""

from __future__ import annotations

import math
import struct
from hashlib import shake_256


def vector(seed: int, content: str, dimensions: int) -> bytes:
    """Little-endian float32 bytes."""
    raw = shake_256(f"{seed}\0{content}".encode("utf-8", "surrogatepass")).digest(2 * dimensions)
    # Odd numbers, so that none of them is zero and there is always a length to divide by.
    numbers = [number | 1 for number in struct.unpack(f"<{dimensions}h", raw)]
    return unit(numbers)


def unit(numbers: list[int] | list[float]) -> bytes:
    """The same direction, of length one; a zero vector stays what it is."""
    length = math.hypot(*numbers) or 1.0
    return struct.pack(f"<{len(numbers)}f", *(number / length for number in numbers))


def likelihood(seed: int, content: str) -> float:
    """A log-probability that looks like one, from -2 up to 0."""
    (number,) = struct.unpack("<H", shake_256(f"{seed}\0{content}".encode("utf-8", "surrogatepass")).digest(2))
    return -round(float(number) / 32_768, 4)
