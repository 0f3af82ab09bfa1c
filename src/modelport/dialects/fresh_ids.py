"""Ids that nobody has used: of requests, of answers. Cheap, for every call needs three."""

from __future__ import annotations

import itertools
import os
import string
from collections.abc import Callable
from typing import Final

_LETTERS_AND_DIGITS: Final = (string.ascii_letters + string.digits).encode()
_ALPHANUMERIC: Final = bytes(_LETTERS_AND_DIGITS[byte % 62] for byte in range(256))


def hexadecimal() -> str:
    """32 hexadecimal digits."""
    return os.urandom(16).hex()


def alphanumeric(length: int) -> str:
    """Letters and digits."""
    return os.urandom(length).translate(_ALPHANUMERIC).decode()


class _Numbered:
    """A random beginning and a number: different here by the number, and everywhere else by the beginning."""

    def __init__(self) -> None:
        self.renew()
        os.register_at_fork(after_in_child=self.renew)

    def renew(self) -> None:
        """Begins anew, as a forked process must."""
        digits = os.urandom(10).hex()
        beginning = f"{digits[:8]}-{digits[8:12]}-4{digits[12:15]}-{'89ab'[int(digits[15], 16) & 3]}{digits[16:19]}-"
        # Twelve digits from the first to the last of half a trillion.
        numbers = itertools.count(10**11 + int.from_bytes(os.urandom(4)))
        self.next: Callable[[], str] = lambda: f"{beginning}{next(numbers)}"


_numbered: Final = _Numbered()


def uuid() -> str:
    """A UUID that looks like a random one (version 4). Not secret: whoever knows one can tell the next."""
    return _numbered.next()
