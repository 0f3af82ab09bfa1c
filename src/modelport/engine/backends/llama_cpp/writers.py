"""Turn one choice's pieces of text into deltas of a chat answer: plain text, checked text, tool calls."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from modelport.engine.backend import JsonObject, WorkerError
from modelport.engine.backends.llama_cpp.generate import Ending
from modelport.engine.backends.llama_cpp.schemas import Constraint
from modelport.engine.backends.llama_cpp.stops import Piece
from modelport.engine.backends.llama_cpp.tools import Tool, ToolUse

FinishReason = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True, slots=True)
class Delta:
    """What one chunk adds to one choice."""

    fields: JsonObject
    logprobs: tuple[JsonObject, ...] = ()


class Writer(Protocol):
    """One choice's answer in the making."""

    def feed(self, piece: Piece) -> list[Delta]:
        """The deltas that this piece completes."""
        ...

    def end(self, ending: Ending) -> tuple[list[Delta], FinishReason]:
        """What was held back, and why it ended. Raises WorkerError if the answer is not what was promised."""
        ...


class TextWriter:
    """Text as it comes; checked against the constraint when the model ended it itself."""

    def __init__(self, constraint: Constraint | None = None) -> None:
        self._constraint = constraint
        self._written: list[str] = []

    def feed(self, piece: Piece) -> list[Delta]:
        if not piece.text and piece.logprobs is None:
            return []
        if self._constraint is not None:
            self._written.append(piece.text)
        return [Delta({"content": piece.text}, () if piece.logprobs is None else (piece.logprobs,))]

    def end(self, ending: Ending) -> tuple[list[Delta], FinishReason]:
        if self._constraint is not None and _is_whole(ending):
            self._constraint.check("".join(self._written))
        return [], ending.reason


class CallWriter:
    """A call as the grammar writes it, `{"name": "f", "arguments": {…}}`, one or several with line breaks between."""

    _HEAD: Final = re.compile(r'[^{]*\{"name": "([^"]+)", "arguments": ')

    def __init__(self, tools: Mapping[str, Tool], first_index: int = 0) -> None:
        self._tools = tools
        self._index = first_index
        self._unread = ""
        self._name: str | None = None
        self._arguments = ""
        self._scanner = _ValueScanner()
        self.calls = 0

    def feed(self, text: str) -> list[Delta]:
        """Each call's first fragment with its id and name, then its arguments as they come."""
        self._unread += text
        deltas: list[Delta] = []
        while True:
            if self._name is None:
                head = self._HEAD.match(self._unread)
                if head is None:
                    return deltas
                self._name, self._unread, self._arguments = head[1], self._unread[head.end() :], ""
                self._scanner = _ValueScanner()
                deltas.append(_call_head(self._index, self._name))
            length = self._scanner.feed(self._unread)
            fragment, self._unread = self._unread[:length], self._unread[length:]
            if fragment:
                self._arguments += fragment
                deltas.append(_call_arguments(self._index, fragment))
            if not self._scanner.is_complete:
                return deltas
            if not self._unread:
                return deltas
            self._finish()

    def end(self, *, is_whole: bool) -> None:
        """Raises `engine_failed` if calls that should be whole are not."""
        if self._name is not None and self._scanner.is_complete:
            self._finish()
        if is_whole and (self._name is not None or not self.calls):
            raise WorkerError.failed("The engine's tool call is not whole.")

    def _finish(self) -> None:
        if self._name is None or self._name not in self._tools:
            raise WorkerError.failed("The engine called a tool that does not exist.")
        self._tools[self._name].constraint.check(self._arguments)
        self._unread = self._unread.removeprefix("}")
        self._name = None
        self._index += 1
        self.calls += 1


class ForcedCallWriter:
    """A choice that must be a tool call."""

    def __init__(self, use: ToolUse) -> None:
        self._calls = CallWriter(use.tools)

    def feed(self, piece: Piece) -> list[Delta]:
        return self._calls.feed(piece.text)

    def end(self, ending: Ending) -> tuple[list[Delta], FinishReason]:
        self._calls.end(is_whole=_is_whole(ending))
        return [], "tool_calls" if _is_whole(ending) else ending.reason


class AutoCallWriter:
    """A choice that is text, calls, or text and then calls, as the model decides.

    The grammar makes a call of all that begins as one, so no text is a call half written.
    """

    def __init__(self, use: ToolUse) -> None:
        self._tools = use.tools
        self._calls: CallWriter | None = None
        self._held = ""
        self._held_logprobs: list[JsonObject] = []

    def feed(self, piece: Piece) -> list[Delta]:
        if self._calls is not None:
            return self._calls.feed(piece.text)
        self._held += piece.text
        if piece.logprobs is not None:
            self._held_logprobs.append(piece.logprobs)
        lead = CALL_LEAD.search(self._held)
        if lead is not None:
            self._calls = CallWriter(self._tools)
            return [*self._said(lead.start()), *self._calls.feed(CALL_HEAD + self._held[lead.end() - lead.start() :])]
        return self._said(_safe_length(self._held))

    def end(self, ending: Ending) -> tuple[list[Delta], FinishReason]:
        if self._calls is not None:
            self._calls.end(is_whole=_is_whole(ending))
            return [], "tool_calls" if _is_whole(ending) else ending.reason
        begun = BEGUN_CALL.search(self._held)
        return self._said(len(self._held) if begun is None else 0), ending.reason

    def _said(self, length: int) -> list[Delta]:
        """So much of what is held, as text."""
        text, self._held = self._held[:length], self._held[length:]
        if not text:
            return []
        logprobs, self._held_logprobs = tuple(self._held_logprobs), []
        return [Delta({"content": text}, logprobs)]


def _begun(word: str) -> str:
    """A pattern of the word's beginnings, from its first letter to the whole."""
    pattern = ""
    for letter in reversed(word):
        pattern = re.escape(letter) + (f"(?:{pattern})?" if pattern else "")
    return pattern


CALL_HEAD: Final = '{"name": "'
_MARKER: Final = r"(?:```(?:json)?|<tool_call>)\s*"
CALL_LEAD: Final = re.compile(rf'(?:{_MARKER})?\{{\s*"name"\s*:\s*"')
BEGUN_CALL: Final = re.compile(r'\{\s*"n')
_NAME_BEGUN: Final = rf'\{{\s*(?:{_begun(chr(34) + "name" + chr(34))}|"name"\s*:?\s*)?'
_COULD_LEAD: Final = re.compile(
    rf"(?:{_begun('```json')}|{_begun('<tool_call>')}|{_MARKER}|(?:{_MARKER})?{_NAME_BEGUN})\Z"
)
_OPENERS: Final = re.compile("[`<{]")


def _safe_length(text: str) -> int:
    """How much of the text cannot become the lead of a call."""
    return next(
        (found.start() for found in _OPENERS.finditer(text) if _COULD_LEAD.match(text, found.start())), len(text)
    )


def _is_whole(ending: Ending) -> bool:
    """Whether the model ended it: no limit and no stop text did."""
    return ending.reason == "stop" and not ending.is_cut


class _ValueScanner:
    """Finds where the first JSON value of a text ends, fed in parts. The value is an object or an array."""

    def __init__(self) -> None:
        self._depth = 0
        self._is_in_text = False
        self._is_escaped = False
        self.is_complete = False

    def feed(self, text: str) -> int:
        """How many characters of `text` belong to the value."""
        if self.is_complete:
            return 0
        for at, character in enumerate(text):
            if self._is_in_text:
                if self._is_escaped:
                    self._is_escaped = False
                elif character == "\\":
                    self._is_escaped = True
                elif character == '"':
                    self._is_in_text = False
            elif character == '"':
                self._is_in_text = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if self._depth == 0:
                    self.is_complete = True
                    return at + 1
        return len(text)


def _call_head(index: int, name: str) -> Delta:
    call: dict[str, Any] = {"index": index, "id": f"call_{secrets.token_hex(12)}", "type": "function"}
    return Delta({"tool_calls": [{**call, "function": {"name": name, "arguments": ""}}]})


def _call_arguments(index: int, fragment: str) -> Delta:
    return Delta({"tool_calls": [{"index": index, "function": {"arguments": fragment}}]})
