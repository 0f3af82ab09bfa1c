"""Ids that nobody has used: of requests, of answers. Cheap, for every call needs three."""

from __future__ import annotations

import itertools
import os
import string
from collections.abc import Callable
from typing import Final

_LETTERS_AND_DIGITS: Final = (string.ascii_letters + string.digits).encode()
_ALPHANUMERIC: Final = bytes(_LETTERS_AND_DIGITS[byte % 62] for byte in range(256))
_NUMBER_DIGITS: Final = 12


class Numbered:
    """A random beginning and a number: different here by the number, and everywhere else by the beginning. Not secret:
    whoever knows one can tell the next."""

    def __init__(self, beginning: Callable[[], str]) -> None:
        self._beginning = beginning
        self._renew()
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        """Begins anew, as a forked process must."""
        # Twelve digits from the first to the last of half a trillion.
        self._numbers = itertools.count(10 ** (_NUMBER_DIGITS - 1) + int.from_bytes(os.urandom(4)))
        self._begun = self._beginning()

    def next(self) -> str:
        """Another one."""
        return f"{self._begun}{next(self._numbers)}"


def alphanumeric(beginning: str, length: int) -> Numbered:
    """Letters and digits after this beginning: so many, with the number."""
    drawn = length - _NUMBER_DIGITS
    return Numbered(lambda: beginning + os.urandom(drawn).translate(_ALPHANUMERIC).decode())


def hexadecimal(length: int) -> Numbered:
    """Hexadecimal digits."""
    return Numbered(lambda: os.urandom(length).hex()[: length - _NUMBER_DIGITS])


def _uuid_beginning() -> str:
    digits = os.urandom(10).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[12:15]}-{'89ab'[int(digits[15], 16) & 3]}{digits[16:19]}-"


uuid: Final = Numbered(_uuid_beginning).next
"""A UUID that looks like a random one (version 4)."""
