"""Ids that nobody has used: of requests, of answers. Cheap, for every call needs three."""

from __future__ import annotations

import os
import string
from typing import Final

_LETTERS_AND_DIGITS: Final = (string.ascii_letters + string.digits).encode()
_ALPHANUMERIC: Final = bytes(_LETTERS_AND_DIGITS[byte % 62] for byte in range(256))
_VARIANT: Final = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def hexadecimal() -> str:
    """32 hexadecimal digits."""
    return os.urandom(16).hex()


def alphanumeric(length: int) -> str:
    """Letters and digits."""
    return os.urandom(length).translate(_ALPHANUMERIC).decode()


def uuid() -> str:
    """A random UUID (version 4) as text."""
    digits = os.urandom(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{_VARIANT[digits[16]]}{digits[17:20]}-{digits[20:]}"
