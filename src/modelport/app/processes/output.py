"""Log lines of several processes on one standard error: each line stays whole."""

from __future__ import annotations

import io
import os
import select
from typing import Final

WHOLE_BYTES: Final = select.PIPE_BUF
"""The kernel mixes no writes to a pipe that are not longer."""


class WholeLines(io.TextIOBase):
    """A stream that gives the kernel whole lines, as many at once as it keeps together."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor

    def write(self, text: str) -> int:
        """Raises OSError."""
        piece = b""
        for line in text.encode("utf-8", "backslashreplace").splitlines(keepends=True):
            if piece and len(piece) + len(line) > WHOLE_BYTES:
                self._put(piece)
                piece = b""
            piece += line
        self._put(piece)
        return len(text)

    def _put(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._descriptor, data) :]
