"""Keeps the fragments of streamed tool calls from interleaving: Azure's clients see no index, only the order."""

from __future__ import annotations

import msgspec

from modelport.core.events import ToolCallDelta


class ToolCallOrder:
    """The calls of one choice, in the order they began. A later call's fragments wait until the call before it is
    whole: its arguments are a finished JSON object, or the choice has ended."""

    def __init__(self) -> None:
        self._current: int | None = None
        self._arguments: list[str] = []
        self._is_whole: bool | None = None
        """Whether they are a finished object; None: not looked at."""
        self._waiting: dict[int, list[ToolCallDelta]] = {}
        self._ended: set[int] = set()

    def push(self, fragment: ToolCallDelta) -> list[ToolCallDelta]:
        """The fragments that may be sent now."""
        if fragment.index in self._ended:
            return []  # more text behind finished arguments: a client could only misread it
        if self._current is None or fragment.index == self._current:
            return [self._send(fragment)]
        self._waiting.setdefault(fragment.index, []).append(fragment)
        return self._advance(is_last=False)

    def end(self) -> list[ToolCallDelta]:
        """Everything that still waits."""
        return self._advance(is_last=True)

    def _advance(self, *, is_last: bool) -> list[ToolCallDelta]:
        sent: list[ToolCallDelta] = []
        while self._waiting and (is_last or self._current_is_whole()):
            if self._current is not None:
                self._ended.add(self._current)
            self._current = next(iter(self._waiting))
            self._arguments.clear()
            sent += [self._send(fragment) for fragment in self._waiting.pop(self._current)]
        return sent

    def _current_is_whole(self) -> bool:
        if self._is_whole is None:
            self._is_whole = _is_object("".join(self._arguments))
        return self._is_whole

    def _send(self, fragment: ToolCallDelta) -> ToolCallDelta:
        self._current = fragment.index
        self._arguments.append(fragment.arguments)
        self._is_whole = None
        return fragment


def _is_object(text: str) -> bool:
    if not text.rstrip().endswith("}"):
        return False
    try:
        return isinstance(msgspec.json.decode(text), dict)
    except msgspec.DecodeError:
        return False
