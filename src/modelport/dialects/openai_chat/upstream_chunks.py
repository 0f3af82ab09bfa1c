"""Chat and text completions of an OpenAI-shaped upstream, chunk by chunk, as events. A whole answer is one chunk whose
choices have a `message` in place of a `delta`.

What ends a choice and what was used is held back until the answer ends: upstreams repeat both, in any order, and some
go on after them.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Final

import msgspec

from modelport.core.events import (
    Answered,
    ChoiceFinished,
    Event,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    UsageReported,
)
from modelport.core.usage import TokenUsage
from modelport.dialects.openai_chat.upstream_failures import broken
from modelport.dialects.openai_chat.upstream_usage import (
    completion_side,
    merged,
    prompt_side,
    service_tier,
    usage_report,
)

FINISH_REASONS: Final = {
    "length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "max_output_tokens": FinishReason.LENGTH,
    "max_length": FinishReason.LENGTH,
    "model_length": FinishReason.LENGTH,
    "token_limit": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
    "content_filtered": FinishReason.CONTENT_FILTER,
    "safety": FinishReason.CONTENT_FILTER,
    "sensitive": FinishReason.CONTENT_FILTER,
    "refusal": FinishReason.CONTENT_FILTER,
    "recitation": FinishReason.CONTENT_FILTER,
    "blocklist": FinishReason.CONTENT_FILTER,
    "prohibited_content": FinishReason.CONTENT_FILTER,
    "tool_calls": FinishReason.TOOL_CALLS,
    "tool_call": FinishReason.TOOL_CALLS,
    "tool_use": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
}
"""Lower-case words; any other (`eos`, `end_turn`, `stop_sequence` …) is `stop`."""

BROKEN_REASONS: Final = frozenset({"error", "abort", "network_error", "insufficient_system_resource"})
"""Words that say that the answer was not finished at all."""

TOOL_CALLS_LIMIT: Final = 1024
ARGUMENTS_LIMIT: Final = 4 * 1024 * 1024
"""Characters of one choice's tool calls: their order is only known at the end, so some are held until then."""


def new_call_id() -> str:
    """An id for a tool call whose source gave none."""
    return f"call_{secrets.token_hex(12)}"


class ChunkReader:
    """The state of one answer. `chunk` takes each decoded object, `finish` says that no more will come."""

    def __init__(self, choices: int, *, engine: bool = False, new_id: Callable[[], str] = new_call_id) -> None:
        self._limit = max(1, choices)
        self._is_engine = engine
        self._new_id = new_id
        self._choices: dict[int, _Choice] = {}
        self._usage: UsageReported | None = None
        self._service_tier: str | None = None
        self._answered: Answered | None = None
        self._has_begun = False

    def chunk(self, chunk: dict[str, Any]) -> list[Event]:
        """The deltas of one chunk. Raises what `broken` gives when its choice failed."""
        self._note(chunk)
        events: list[Event] = []
        choices = chunk.get("choices")
        for position, choice in enumerate(choices if isinstance(choices, list) else ()):
            if isinstance(choice, dict):
                self._take(position, choice, events)
        return self._announced(events)

    def finish(self, *, is_clean: bool) -> list[Event]:
        """What was held back. `is_clean`: the source said that this is all; then a missing reason is `stop`."""
        if not self._choices:
            what = "gave an empty answer" if is_clean else "broke its answer off"
            raise broken(f"The upstream {what}.", self._is_engine)
        events: list[Event] = []
        for index, choice in sorted(self._choices.items()):
            if choice.reason is None and not is_clean:
                raise broken("The upstream broke its answer off.", self._is_engine)
            if not choice.all_calls_named():
                raise broken("The upstream called a tool without a name.", self._is_engine)
            events.append(ChoiceFinished(choice.finish_reason(), index))
        return self._announced(events + self.reported())

    def reported(self) -> list[Event]:
        """What the source has said of its counts until now."""
        usage = self._usage or self._usage_by_choice()
        return [] if usage is None else [msgspec.structs.replace(usage, service_tier=self._service_tier)]

    def _usage_by_choice(self) -> UsageReported | None:
        """Some count each choice by itself. One that is missing makes the sum none."""
        counts = [choice.usage for choice in self._choices.values()]
        found = [usage for usage in counts if usage is not None]
        if not found or len(found) < len(counts):
            return None
        completion = sum((completion_side(report.usage) for report in found), TokenUsage())
        prompt = prompt_side(found[0].usage)
        return UsageReported(prompt + completion, is_sure=all(report.is_sure for report in found))

    def _note(self, chunk: dict[str, Any]) -> None:
        usage = chunk.get("usage")
        if usage is None and isinstance(chunk.get("x_groq"), dict):
            usage = chunk["x_groq"].get("usage")
        if usage is not None:
            self._usage = merged(self._usage, usage_report(usage))
        self._service_tier = service_tier(chunk, usage) or self._service_tier
        if not self._has_begun and self._answered is None:
            model, id = _text(chunk.get("model")), _text(chunk.get("id"))
            if model or id:
                self._answered = Answered(model or None, id or None)

    def _announced(self, events: list[Event]) -> list[Event]:
        """`Answered` waits for the first real event: until then another target may still be tried."""
        if events and not self._has_begun:
            self._has_begun = True
            if self._answered is not None:
                events.insert(0, self._answered)
        return events

    def _take(self, position: int, raw: dict[str, Any], events: list[Event]) -> None:
        index = raw.get("index")
        if not isinstance(index, int):
            index = position
        if not 0 <= index < self._limit:
            return  # nobody asked for it, and no door could write it
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = _Choice(index)
        if "usage" in raw:
            choice.usage = merged(choice.usage, usage_report(raw["usage"]))
        reason = raw.get("finish_reason")
        if isinstance(reason, str) and reason:
            if reason.lower() in BROKEN_REASONS:
                raise broken("The upstream failed in the middle of its answer.", self._is_engine)
            choice.reason = choice.reason or reason.lower()
        is_whole = isinstance(raw.get("message"), dict)
        delta = raw["message"] if is_whole else raw.get("delta")
        delta = delta if isinstance(delta, dict) else {}
        self._take_text(choice, raw, delta, events)
        calls = delta.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            if isinstance(call, dict):
                choice.take_call(call, is_whole, self._new_id, events)
        if isinstance(delta.get("function_call"), dict):  # the shape that tools replaced
            choice.take_call({"index": 0, "function": delta["function_call"]}, is_whole, self._new_id, events)
        if len(choice.calls) > TOOL_CALLS_LIMIT or choice.arguments_length > ARGUMENTS_LIMIT:
            raise broken("The upstream's tool calls are longer than any answer.", self._is_engine)

    def _take_text(self, choice: _Choice, raw: dict[str, Any], delta: dict[str, Any], events: list[Event]) -> None:
        thought, text = _reasoning(delta), _content(delta.get("content"))
        if not text:
            text = _text(raw.get("text")) or _text(delta.get("refusal"))
        if thought:
            events.append(ReasoningDelta(thought, choice.index))
        logprobs, tokens = _logprobs(raw.get("logprobs")) if text or not thought else (None, None)
        if text or logprobs is not None:
            events.append(TextDelta(text, choice.index, tokens, logprobs))


class _Choice:
    """What is known of one choice so far."""

    __slots__ = ("arguments_length", "by_index", "calls", "index", "reason", "usage")

    def __init__(self, index: int) -> None:
        self.index = index
        self.reason: str | None = None
        self.calls: list[_Call] = []
        self.arguments_length = 0
        self.usage: UsageReported | None = None
        self.by_index: dict[int, _Call] = {}

    def finish_reason(self) -> FinishReason:
        """Whether tools were called is seen, not believed: some say `stop` after calls, or the reverse."""
        reason = FINISH_REASONS.get(self.reason or "", FinishReason.STOP)
        if self.calls and reason is FinishReason.STOP:
            return FinishReason.TOOL_CALLS
        if not self.calls and reason is FinishReason.TOOL_CALLS:
            return FinishReason.STOP
        return reason

    def all_calls_named(self) -> bool:
        return all(call.is_open for call in self.calls)

    def take_call(self, raw: dict[str, Any], is_whole: bool, new_id: Callable[[], str], events: list[Event]) -> None:
        function = raw.get("function")
        function = function if isinstance(function, dict) else {}
        id, name = _text(raw.get("id")), _text(function.get("name"))
        index = raw.get("index") if isinstance(raw.get("index"), int) else None
        call = None if is_whole else self._continued(index, id, name)
        if call is None:
            call = _Call(len(self.calls))
            self.calls.append(call)
        if index is not None:
            self.by_index[index] = call
        arguments = _arguments(function.get("arguments"))
        self.arguments_length += len(arguments) + 1
        call.take(id, name, arguments, self.index, new_id, events)

    def _continued(self, index: int | None, id: str, name: str) -> _Call | None:
        """The call that this fragment belongs to. A new one has a name and an id not seen before: some number every
        call 0, some give each fragment of one call a new id, some repeat both on every fragment."""
        known = next((call for call in self.calls if id and call.id == id), None)
        if known is not None:
            return known
        candidate = self.by_index.get(index) if index is not None else (self.calls[-1] if self.calls else None)
        if candidate is None or not candidate.is_open or not name:
            return candidate
        return None if id or index is None else candidate


class _Call:
    """One tool call being written."""

    __slots__ = ("id", "is_open", "pending", "position")

    def __init__(self, position: int) -> None:
        self.position = position
        self.id = ""
        self.pending = ""
        self.is_open = False

    def take(
        self, id: str, name: str, arguments: str, choice: int, new_id: Callable[[], str], events: list[Event]
    ) -> None:
        """The first event of a call has its name, so fragments before the name wait."""
        self.id = self.id or id
        if self.is_open:
            if arguments:
                events.append(ToolCallDelta(self.position, arguments=arguments, choice=choice))
            return
        self.pending += arguments
        if name:
            self.is_open = True
            self.id = self.id or new_id()
            events.append(ToolCallDelta(self.position, self.id, name, self.pending, choice))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _content(content: Any) -> str:
    """Text, whether written as a string or as parts."""
    if isinstance(content, list):
        return "".join(_text(part.get("text")) for part in content if isinstance(part, dict))
    return _text(content)


def _reasoning(delta: dict[str, Any]) -> str:
    thought = _text(delta.get("reasoning_content")) or _text(delta.get("reasoning"))
    content = delta.get("content")
    if not thought and isinstance(content, list):
        parts = [part.get("thinking") for part in content if isinstance(part, dict)]
        return "".join(_content(part) for part in parts)
    return thought


def _arguments(arguments: Any) -> str:
    """JSON text; some write the object itself."""
    if isinstance(arguments, dict | list):
        return msgspec.json.encode(arguments).decode()
    return _text(arguments)


def _logprobs(logprobs: Any) -> tuple[dict[str, Any] | None, int | None]:
    """In the wire shape of the operation, and how many tokens they tell of."""
    if not isinstance(logprobs, dict):
        return None, None
    if isinstance(logprobs.get("content"), list):
        entries = logprobs["content"]
        return ({"content": entries}, len(entries)) if entries else (None, None)
    if isinstance(logprobs.get("tokens"), list):
        return logprobs, len(logprobs["tokens"])
    return None, None
