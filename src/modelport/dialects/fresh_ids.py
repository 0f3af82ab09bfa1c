"""Ids that nobody has used: of requests, of answers. Cheap, for every call needs three."""

from __future__ import annotations

import itertools
import os
import string
from collections.abc import Callable
from typing import Final

_LETTERS_AND_DIGITS: Final = (string.ascii_letters + string.digits).encode()
_ALPHANUMERIC: Final = bytes(_LETTERS_AND_DIGITS[byte % 62] for byte in range(256))
_HEXADECIMAL: Final = bytes(b"0123456789abcdef"[byte % 16] for byte in range(256))
_DRAWN_AT_ONCE: Final = 64


class Drawn:
    """Random names of one form, drawn some at a time: the kernel is asked for chance less often."""

    def __init__(self, beginning: str, length: int, alphabet: bytes) -> None:
        self._beginning = beginning
        self._length = length
        self._alphabet = alphabet
        self._ready: list[str] = []
        os.register_at_fork(after_in_child=self._ready.clear)

    def next(self) -> str:
        """One that was not given before."""
        try:
            return self._ready.pop()
        except IndexError:
            drawn = os.urandom(_DRAWN_AT_ONCE * self._length).translate(self._alphabet).decode()
            names = [self._beginning + drawn[at : at + self._length] for at in range(0, len(drawn), self._length)]
            self._ready.extend(names[1:])
            return names[0]


def alphanumeric(beginning: str, length: int) -> Drawn:
    """Letters and digits after this beginning."""
    return Drawn(beginning, length, _ALPHANUMERIC)


def hexadecimal(length: int) -> Drawn:
    """Hexadecimal digits."""
    return Drawn("", length, _HEXADECIMAL)


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
        self.next: Callable[[], str] = map(beginning.__add__, map(str, numbers)).__next__


_numbered: Final = _Numbered()


def uuid() -> str:
    """A UUID that looks like a random one (version 4). Not secret: whoever knows one can tell the next."""
    return _numbered.next()
