"""An upstream's JSON, read also where it is not quite JSON: with a raw control character, a byte that is not UTF-8, a
half of a character, `NaN`. One broken character must not end an answer."""

from __future__ import annotations

import json
import math
from typing import Any, Final

import msgspec

REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
LEAST_LOGPROB: Final = -9999.0
"""Stands for a log probability that JSON cannot write: minus infinity, NaN."""

_decode: Final = msgspec.json.Decoder().decode
_HALVES_LIMIT: Final = 1024
_CHANNELS: Final = ("content", "reasoning_content", "reasoning", "refusal")
"""Of a delta; the texts that go on in later events."""


def read_json(raw: bytes) -> tuple[Any, bool]:
    """The value, and whether it is JSON as it stands; if not, its strings may hold surrogates and its numbers may be
    NaN or infinite. Raises ValueError for what cannot be understood."""
    try:
        return _decode(raw), True
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return json.loads(raw.decode("utf-8", "replace"), strict=False), False
    except RecursionError:
        raise ValueError("nested too deeply") from None


def whole_characters(value: Any) -> Any:
    """The value with U+FFFD in place of each surrogate that has no other half."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    elif isinstance(value, list):
        return [whole_characters(item) for item in value]
    elif isinstance(value, dict):
        return {whole_characters(name): whole_characters(item) for name, item in value.items()}
    return value


class HalfCharacters:
    """Joins characters that an upstream has cut into two events, one half in each, by choice and channel."""

    def __init__(self) -> None:
        self._halves: dict[tuple[Any, ...], str] = {}

    @property
    def are_held(self) -> bool:
        """Whether the first half of a character waits for the second."""
        return bool(self._halves)

    def joined(self, chunk: dict[str, Any]) -> dict[str, Any]:
        """The chunk with whole characters only. A half at the end of a text is held back."""
        choices = chunk.get("choices")
        for position, choice in enumerate(choices if isinstance(choices, list) else ()):
            if isinstance(choice, dict):
                self._join_choice(_index(choice, position), choice)
        cleaned: dict[str, Any] = whole_characters(chunk)
        return cleaned

    def rest(self) -> list[dict[str, Any]]:
        """At the end: the choices of a chunk that says what is left of each half."""
        held, self._halves = self._halves, {}
        choices: list[dict[str, Any]] = []
        for index, channel, *call in held:
            if call:
                fragment = {"index": call[0], "function": {"arguments": REPLACEMENT}}
                choices.append({"index": index, "delta": {"tool_calls": [fragment]}})
            else:
                text = {channel: REPLACEMENT}
                choices.append({"index": index, **text} if channel == "text" else {"index": index, "delta": text})
        return choices

    def _join_choice(self, index: int, choice: dict[str, Any]) -> None:
        if "logprobs" in choice:
            choice["logprobs"] = _finite(choice["logprobs"])
        self._join(choice, "text", (index, "text"))
        for delta in (choice.get("delta"), choice.get("message")):
            if not isinstance(delta, dict):
                continue
            for channel in _CHANNELS:
                self._join(delta, channel, (index, channel))
            calls = delta.get("tool_calls")
            for position, call in enumerate(calls if isinstance(calls, list) else ()):
                if isinstance(call, dict) and isinstance(call.get("function"), dict):
                    key = (index, "arguments", _index(call, position))
                    self._join(call["function"], "arguments", key)

    def _join(self, fields: dict[str, Any], name: str, key: tuple[Any, ...]) -> None:
        text = fields.get(name)
        if not isinstance(text, str) or not text:
            return
        text = self._halves.pop(key, "") + text
        if "\ud800" <= text[-1] <= "\udbff" and len(self._halves) < _HALVES_LIMIT:
            self._halves[key] = text[-1]
            text = text[:-1]
        fields[name] = text


def _index(fields: dict[str, Any], position: int) -> int:
    index = fields.get("index")
    return index if isinstance(index, int) else position


def _finite(logprobs: Any) -> Any:
    if isinstance(logprobs, float):
        return logprobs if math.isfinite(logprobs) else LEAST_LOGPROB
    if isinstance(logprobs, list):
        return [_finite(item) for item in logprobs]
    if isinstance(logprobs, dict):
        return {name: _finite(item) for name, item in logprobs.items()}
    return logprobs
