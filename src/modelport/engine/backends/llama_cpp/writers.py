"""Turn one choice's pieces of text into deltas of a chat answer: plain text, checked text, tool calls."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import msgspec

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

    _HEAD: Final = re.compile(r'\s*\{"name": "([^"]+)", "arguments": ')

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
    """A choice that is text or tool calls, as the model decides; also calls in fences within text."""

    _FENCE: Final = re.compile(r"```(?:json)?\s*(\{.*?\})\s*```", re.DOTALL)
    _COULD_BE_FENCE: Final = re.compile(r"`{1,2}|```(j|js|jso|json)?\s*(\{.*)?", re.DOTALL)
    _HELD_CHARACTERS_LIMIT: Final = 16384

    def __init__(self, use: ToolUse) -> None:
        self._tools = use.tools
        self._is_parallel = use.is_parallel
        self._calls: CallWriter | None = None
        self._held = ""
        self._held_logprobs: list[JsonObject] = []
        self._has_begun = False
        self._found = 0

    def feed(self, piece: Piece) -> list[Delta]:
        if self._calls is not None:
            return self._calls.feed(piece.text)
        self._held += piece.text
        if piece.logprobs is not None:
            self._held_logprobs.append(piece.logprobs)
        return self._text() if self._has_begun else self._begin()

    def end(self, ending: Ending) -> tuple[list[Delta], FinishReason]:
        if self._calls is not None:
            self._calls.end(is_whole=_is_whole(ending))
            return [], "tool_calls" if _is_whole(ending) else ending.reason
        reason: FinishReason = "tool_calls" if self._found and _is_whole(ending) else ending.reason
        return self._said(self._held), reason

    def _begin(self) -> list[Delta]:
        """Decides by the first characters: the grammar lets no text begin as a call does."""
        start = self._held.lstrip()
        if start.startswith(("{", "```json\n")):
            self._calls = CallWriter(self._tools)
            return self._calls.feed(start.removeprefix("```json\n"))
        if not start or "```json\n".startswith(start):
            return []
        self._has_begun = True
        return self._text()

    def _text(self) -> list[Delta]:
        """Text, but for what could be a fence with a call in it."""
        deltas: list[Delta] = []
        while self._held:
            at = self._held.find("`")
            if at != 0:
                length = at if at > 0 else len(self._held)
            elif fence := self._FENCE.match(self._held):
                length = fence.end()
                if call := self._call(fence[1]):
                    self._held = self._held[length:]
                    deltas += call
                    continue
            elif self._COULD_BE_FENCE.fullmatch(self._held) and len(self._held) < self._HELD_CHARACTERS_LIMIT:
                break
            else:
                length = len(self._held) - len(self._held.lstrip("`"))
            deltas += self._said(self._held[:length])
            self._held = self._held[length:]
        return deltas

    def _said(self, text: str) -> list[Delta]:
        """Text for the caller; after a call, what the model says about it is no part of the answer."""
        if not text or self._found:
            return []
        logprobs, self._held_logprobs = tuple(self._held_logprobs), []
        return [Delta({"content": text}, logprobs)]

    def _call(self, fenced: str) -> list[Delta]:
        """The deltas of a fenced call, or nothing if it is none."""
        try:
            value = msgspec.json.decode(fenced)
        except (msgspec.DecodeError, RecursionError):
            return []
        match value:
            case {"name": str(name), "arguments": dict(arguments)} if name in self._tools:
                if not self._tools[name].constraint.validator.is_valid(arguments):
                    return []
                if self._found and not self._is_parallel:
                    return []
                index, self._found = self._found, self._found + 1
                return [_call_head(index, name), _call_arguments(index, json.dumps(arguments, ensure_ascii=False))]
        return []


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
