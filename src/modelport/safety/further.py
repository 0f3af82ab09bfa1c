"""What of an answer is no text of a channel, and may hold text all the same: further fields and log-probabilities."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from msgspec import Struct

from modelport.core.events import ChoiceFinished, ExtraFields, TextDelta, ToolCallDelta
from modelport.safety.passages import SEPARATOR

LABELS: Final = frozenset(
    (
        *("system_fingerprint", "service_tier", "provider", "obfuscation", "timings", "prompt_token_ids"),
        *("prompt_filter_results", "content_filter_results", "content_filter_offsets", "content_filter_raw"),
        *("native_finish_reason", "token_ids", "kv_transfer_params"),
    )
)
"""Fields in which hosts say something of themselves, in words without a blank."""
LABEL_CHARACTERS: Final = 64
FIELD_NAME: Final = re.compile(r"\w{1,32}", re.ASCII)
REPEATED_CHARACTERS: Final = 4
"""A text that stands where it stood a moment ago adds nothing (`"type": "text"`), unless it is as short as a token."""
REPLACED: Final = frozenset(("answer", "choice"))
"""Where a field that comes again takes the place of the one before; of a message's fields, lists and texts may grow."""
PATHS_AT_MOST: Final = 1024
END_CHARACTERS: Final = 256
"""So much is read again of a text that goes on after another: no match across the gap is longer."""

Key = tuple[str, str | int]


class Further(Struct, frozen=True):
    """One further field, on its way as an event of its own."""

    key: Key
    """Which channel it belongs to."""
    value: Any
    event: TextDelta | ToolCallDelta


class Carrier(Struct, frozen=True):
    """An event that leaves when all of this text may: `text` is what it holds that was not there before."""

    text: str
    event: TextDelta | ToolCallDelta


def is_label(name: str, value: Any) -> bool:
    """Whether a field is a host's own, or holds no text."""
    texts = [text for _, text in leaves(value, 0)]
    if name not in LABELS:
        return not texts
    return all(len(text) <= LABEL_CHARACTERS and not any(map(str.isspace, text)) for text in texts)


def of_call(event: ToolCallDelta) -> Iterator[Further]:
    """The further fields of a tool call."""
    if event.extra:
        carried = ToolCallDelta(event.index, choice=event.choice, extra=event.extra)
        yield Further(("call", event.index), event.extra, carried)


def of_text(event: TextDelta | ChoiceFinished) -> tuple[ExtraFields | None, list[Further]]:
    """The fields that go on beside a text, or the end of a choice, and those that have to be read."""
    if event.extra is None:
        return None, []
    kept: dict[str, dict[str, Any]] = {"answer": {}, "choice": {}, "message": {}}
    read: list[Further] = []
    for where, labels in kept.items():
        for name, value in getattr(event.extra, where).items():
            if is_label(name, value):
                labels[name] = value
            else:
                carried = TextDelta("", event.choice, extra=ExtraFields(**{where: {name: value}}))
                read.append(Further((where, name), value, carried))
    return (ExtraFields(**kept) if any(kept.values()) else None), read


class FieldText:
    """One field that may come again and again: what each time adds to its text."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[list[str], str]] = {}
        """By path, the texts of the last value that had some there, and the end of all."""
        self._path: int | None = None
        """The one that the text ends with."""
        self._last: Any = None

    def takes(self, further: Further) -> Carrier | None:
        """None: it came before and says nothing new."""
        if further.key[0] in REPLACED and further.value == self._last:
            return None
        self._last = further.value
        return Carrier(self._added(further), further.event)

    def _added(self, further: Further) -> str:
        """At one path, texts go on where those before them ended; several of one value stand by themselves, too."""
        groups: dict[int, list[str]] = {}
        for path, text in leaves(further.value, hash(further.key)):
            groups.setdefault(path, []).append(text)
        found: list[str] = []
        for path, texts in groups.items():
            before, end = self._known.get(path, ([], ""))
            joined = "".join(texts)
            if texts == before and len(joined) >= REPEATED_CHARACTERS:
                continue
            if path != self._path:
                found += (SEPARATOR, end)
            found.append(joined)
            self._path = path
            if len(texts) > 1:
                found += (SEPARATOR, SEPARATOR.join(texts))
                self._path = None
            if len(self._known) >= PATHS_AT_MOST:
                self._known.clear()
            self._known[path] = texts, (end + joined)[-END_CHARACTERS:]
        return "".join(found)


def leaves(value: Any, path: int) -> Iterator[tuple[int, str]]:
    """Every text in order, with a hash of its path, which is names of fields alone; a name that is more than a name is
    a text, too."""
    left = [(path, value)]
    while left:
        path, value = left.pop()
        if isinstance(value, str):
            if value:
                yield path, value
        elif isinstance(value, dict):
            for name, item in reversed(value.items()):
                left.append((hash((path, name)), item))
                if FIELD_NAME.fullmatch(name) is None:
                    left.append((hash((path, "*", 0)), name))
        elif isinstance(value, list | tuple):
            left += [(path, item) for item in reversed(value)]
