"""Chat and text completions of an OpenAI-shaped upstream, chunk by chunk, as events. A whole answer is one chunk whose
choices have a `message` in place of a `delta`.

What ends a choice and what was used is held back until the answer ends: upstreams repeat both, in any order, and some
go on after them. Fields that nothing here reads go with the next text, or with the end of their choice.
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
    ExtraFields,
    FinishReason,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    UsageReported,
    merge_fields,
)
from modelport.core.usage import TokenUsage
from modelport.dialects.openai_chat.upstream_failures import broken
from modelport.dialects.openai_chat.upstream_json import HalfCharacters
from modelport.dialects.openai_chat.upstream_usage import (
    completion_side,
    merged,
    prompt_side,
    service_tier,
    usage_report,
)
from modelport.dialects.openai_shape.open_fields import rest

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

ANSWER_FIELDS: Final = frozenset({"id", "object", "created", "model", "choices", "usage", "error"})
CHOICE_FIELDS: Final = frozenset({"index", "message", "delta", "text", "finish_reason", "logprobs", "usage"})
MESSAGE_FIELDS: Final = frozenset(
    {"role", "content", "tool_calls", "function_call", "reasoning_content", "reasoning", "refusal"}
)
CALL_FIELDS: Final = frozenset({"index", "id", "type", "function"})
FUNCTION_FIELDS: Final = frozenset({"name", "arguments"})
"""What is read of each object; all other fields are passed on."""

HELD_BYTES_LIMIT: Final = 16 * 1024 * 1024
"""Of chunks whose further fields wait for a text."""


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
        self._extra: dict[str, Any] = {}
        """Further fields of the answer that no event has carried yet."""
        self._held_bytes = 0
        self._halves = HalfCharacters()

    def chunk(self, chunk: dict[str, Any], *, is_strict: bool = True, size: int = 0) -> list[Event]:
        """The deltas of one chunk of `size` bytes. `is_strict`: it was JSON as it stands. Raises what `broken` gives
        when its choice failed."""
        if not is_strict or self._halves.are_held:
            chunk = self._halves.joined(chunk)
        self._note(chunk)
        events: list[Event] = []
        choices = chunk.get("choices")
        for position, choice in enumerate(choices if isinstance(choices, list) else ()):
            if isinstance(choice, dict):
                self._take(position, choice, events)
        self._bound_held(size)
        return self._announced(events)

    def _bound_held(self, size: int) -> None:
        """Breaks an answer off whose further fields pile up without a text that could carry them."""
        if self._extra or any(choice.has_extra for choice in self._choices.values()):
            self._held_bytes += size
            if self._held_bytes > HELD_BYTES_LIMIT:
                raise broken("The upstream sent more fields without a text than any answer has.", self._is_engine)
        else:
            self._held_bytes = 0

    def finish(self, *, is_clean: bool) -> list[Event]:
        """What was held back. `is_clean`: the source said that this is all; then a missing reason is `stop`."""
        if not self._choices:
            what = "gave an empty answer" if is_clean else "broke its answer off"
            raise broken(f"The upstream {what}.", self._is_engine)
        events: list[Event] = []
        for position, choice_left in enumerate(self._halves.rest()):
            self._take(position, choice_left, events)
        for index, choice in sorted(self._choices.items()):
            if choice.reason is None and not is_clean:
                raise broken("The upstream broke its answer off.", self._is_engine)
            if not choice.all_calls_named():
                raise broken("The upstream called a tool without a name.", self._is_engine)
            choice.complete_calls(events)
            events.append(ChoiceFinished(choice.finish_reason(), index, self._carried(choice)))
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
        if not chunk.keys() <= ANSWER_FIELDS:
            merge_fields(self._extra, rest(chunk, ANSWER_FIELDS), lists_grow=False)
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
        choice.note_extra(raw, delta)
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
        thought, text = _reasoning(delta), _content(delta.get("content")) or _text(raw.get("text"))
        refusal = _text(delta.get("refusal"))
        if thought:
            events.append(ReasoningDelta(thought, choice.index))
        if refusal:
            events.append(RefusalDelta(refusal, choice.index))
        logprobs, tokens = _logprobs(raw.get("logprobs")) if text or not thought else (None, None)
        # Fields alone do not begin an answer (another target may still be tried), and the end carries its own.
        has_fields = choice.has_extra and choice.reason is None and (self._has_begun or bool(events))
        if text or logprobs is not None or has_fields:
            events.append(TextDelta(text, choice.index, tokens, logprobs, self._carried(choice)))

    def _carried(self, choice: _Choice) -> ExtraFields | None:
        """The further fields that wait for an event of this choice."""
        if not self._extra and not choice.has_extra:
            return None
        carried = ExtraFields(self._extra, choice.extra, choice.message_extra)
        self._extra, choice.extra, choice.message_extra = {}, {}, {}
        return carried


class _Choice:
    """What is known of one choice so far."""

    __slots__ = ("arguments_length", "by_index", "calls", "extra", "index", "message_extra", "reason", "usage")

    def __init__(self, index: int) -> None:
        self.index = index
        self.reason: str | None = None
        self.calls: list[_Call] = []
        self.arguments_length = 0
        self.usage: UsageReported | None = None
        self.by_index: dict[int, _Call] = {}
        self.extra: dict[str, Any] = {}
        self.message_extra: dict[str, Any] = {}

    @property
    def has_extra(self) -> bool:
        """Whether further fields wait for an event."""
        return bool(self.extra or self.message_extra)

    def note_extra(self, raw: dict[str, Any], delta: dict[str, Any]) -> None:
        if not raw.keys() <= CHOICE_FIELDS:
            merge_fields(self.extra, rest(raw, CHOICE_FIELDS), lists_grow=False)
        if not delta.keys() <= MESSAGE_FIELDS:
            merge_fields(self.message_extra, rest(delta, MESSAGE_FIELDS), lists_grow=True)

    def complete_calls(self, events: list[Event]) -> None:
        """Gives each call that has no arguments an empty object, for callers parse what they get; not where the answer
        was cut, for then they are missing."""
        for call in self.calls if self.finish_reason() is not FinishReason.LENGTH else ():
            if not call.has_arguments:
                events.append(ToolCallDelta(call.position, arguments="{}", choice=self.index))

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
        extra = rest(raw, CALL_FIELDS)
        if not function.keys() <= FUNCTION_FIELDS:
            extra["function"] = rest(function, FUNCTION_FIELDS)
        call.note(extra)
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

    __slots__ = ("extra", "has_arguments", "id", "is_open", "pending", "position")

    def __init__(self, position: int) -> None:
        self.position = position
        self.id = ""
        self.pending = ""
        self.is_open = False
        self.has_arguments = False
        self.extra: dict[str, Any] = {}
        """Further fields that no event has carried yet."""

    def note(self, extra: dict[str, Any]) -> None:
        if extra:
            merge_fields(self.extra, extra, lists_grow=True)

    def take(
        self, id: str, name: str, arguments: str, choice: int, new_id: Callable[[], str], events: list[Event]
    ) -> None:
        """The first event of a call has its name, so fragments before the name wait."""
        self.id = self.id or id
        self.has_arguments = self.has_arguments or bool(arguments and not arguments.isspace())
        if not self.is_open:
            self.pending += arguments
            if not name:
                return
            self.is_open = True
            self.id = self.id or new_id()
            events.append(ToolCallDelta(self.position, self.id, name, self.pending, choice, self.extra or None))
        elif arguments or self.extra:
            events.append(ToolCallDelta(self.position, None, None, arguments, choice, self.extra or None))
        self.extra = {}


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
    entries = [entry for name in ("content", "refusal") for entry in _list(logprobs.get(name))]
    if entries:
        return logprobs, len(entries)
    if isinstance(logprobs.get("tokens"), list):
        return logprobs, len(logprobs["tokens"])
    return None, None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
