"""What many records share, told once: a core.usage.UsageRow with places for what differs from call to call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

_values: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode


class RecordForm:
    """Immutable. `told` is all of it, as JSON: its places and its row."""

    __slots__ = ("_number", "_template", "told")

    def __init__(self, row: bytes, places: Sequence[int]) -> None:
        """`row`: the JSON of a UsageRow, in which the values at `places`, counted from 0 and ascending, do not matter.
        Raises msgspec.DecodeError if it is none, ValueError if it has no such places."""
        values = _values(row)
        if list(places) != sorted({place for place in places if 0 <= place < len(values)}):
            raise ValueError(f"a row of {len(values)} values has no places {list(places)}")
        self.told = b"[%b],%b" % (b",".join(b"%d" % place for place in places), row)
        self._number = len(places)
        parts = [bytes(value).replace(b"%", b"%%") for value in values]
        for place in places:
            parts[place] = b"%b"
        self._template = b"[%b]" % b",".join(parts)

    def filled(self, values: bytes) -> bytes:
        """The JSON of the whole row. `values`: the JSON of a list of those at the places. Raises ValueError if they are
        not as many, msgspec.DecodeError if it is none."""
        found = _values(values)
        if len(found) != self._number:
            raise ValueError(f"{len(found)} values for {self._number} places")
        return self._template % tuple(found)
