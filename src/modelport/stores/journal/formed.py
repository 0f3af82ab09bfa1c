"""The forms of a journal's file: where a reader finds the one that a line names, and where a writer has put which."""

from __future__ import annotations

import os
from typing import BinaryIO, Final

from modelport.core.record_forms import RecordForm
from modelport.stores.journal.lines import CLOSE, END, FORM, NO_LINE, OPEN, DamagedLine, decode_form, encode_form

FORM_BYTES: Final = 64 * 1024
"""A form's line is no longer."""
FORMS: Final = 4096
"""So many are remembered of one file."""


class FormsRead:
    """lines.Forms of an open file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._known: dict[int, RecordForm] = {}

    def at(self, offset_bytes: int) -> RecordForm:
        """lines.Forms; while the file is open."""
        form = self._known.get(offset_bytes)
        if form is None:
            if len(self._known) >= FORMS:
                self._known.clear()
            form = self._known[offset_bytes] = self._read(offset_bytes)
        return form

    def _read(self, offset_bytes: int) -> RecordForm:
        found, newline, _ = os.pread(self._file.fileno(), FORM_BYTES, offset_bytes).partition(b"\n")
        line = found + newline
        if not line.startswith(FORM) or not line.endswith(END):
            raise DamagedLine(NO_LINE)
        return decode_form(line[len(FORM) : -len(END)])


class FormsWritten:
    """Those that stand in the file that is written."""

    __slots__ = ("closings", "openings")

    def __init__(self) -> None:
        self.openings: dict[bytes, bytes] = {}
        """By what a form tells, how a line that names it begins."""
        self.closings: dict[bytes, bytes] = {}

    def introduced(self, form: RecordForm, offset_bytes: int) -> bytes | None:
        """What its line says, which is to begin there; None: it gets none."""
        if len(self.openings) >= FORMS:
            return None
        said = encode_form(form)
        if len(FORM) + len(said) + len(END) > FORM_BYTES:
            return None
        self.openings[form.told] = b"%b%d," % (OPEN, offset_bytes)
        self.closings[form.told] = b"%b%d," % (CLOSE, offset_bytes)
        return said
