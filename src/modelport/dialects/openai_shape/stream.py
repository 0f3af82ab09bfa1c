"""How events become the chunks of a stream: what comes first and last, and what is held back. The dialects differ in a
chunk's bytes and in where the usage goes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import msgspec

from modelport.core.errors import ModelportError
from modelport.core.events import (
    Annotation,
    ChoiceFinished,
    Event,
    ExtraFields,
    FinishReason,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    UsageReported,
)
from modelport.core.usage import TokenUsage
from modelport.dialects.openai_shape.annotations import (
    bare_chunk,
    beside_choice,
    choice_fields,
    prompt_chunk,
    prompt_fields,
)
from modelport.dialects.openai_shape.open_fields import encoded_tail, merge
from modelport.dialects.openai_shape.tool_order import ToolCallOrder
from modelport.dialects.reasoning import CLOSE_THINKING, OPEN_THINKING, ReasoningPlace
from modelport.dialects.sse import DONE

_encode = msgspec.json.Encoder().encode


class ChunkFrame(ABC):
    """The parts of a chunk that stay the same through a stream. `has_annotations`: the dialect's documented answers say
    what a content filter has found, the prompt's in a chunk of its own; else only what is notable is said."""

    has_annotations = False

    @abstractmethod
    def chunk(self, choices: bytes, usage: bytes | None = None, extra: bytes = b"") -> bytes:
        """A whole event: `choices` is the inside of the list, `usage` a JSON object or None, `extra` further fields."""

    @abstractmethod
    def choice(
        self, index: int, inner: bytes, finish_reason: bytes = b"null", logprobs: bytes = b"null", extra: bytes = b""
    ) -> bytes:
        """One choice: `inner` is its `"delta":{…}` or `"text":"…"`, `extra` further fields."""

    @abstractmethod
    def broken(self, error: ModelportError) -> bytes:
        """An event that says what went wrong, with an empty list of choices."""

    @abstractmethod
    def usage(self, usage: TokenUsage) -> bytes:
        """The counts as JSON."""


class StreamedChoice:
    """What has been sent of one choice."""

    __slots__ = ("index", "is_finished", "is_thinking", "text_head", "text_tail", "tools")

    def __init__(self, index: int, text_chunk: bytes) -> None:
        self.index = index
        # No JSON holds a NUL byte, so it can mark the place of the text.
        self.text_head, self.text_tail = text_chunk.split(b"\0", 1)
        self.is_finished = False
        self.is_thinking = False
        self.tools: ToolCallOrder | None = None


class ChunkStream(ABC):
    """One streamed answer. The last finish chunk, the usage and `[DONE]` are written by `end` alone."""

    def __init__(self, frame: ChunkFrame, *, include_usage: bool, usage_at_finish: bool) -> None:
        self._frame = frame
        self._include_usage = include_usage
        self._usage_at_finish = usage_at_finish and not include_usage
        self._choices: dict[int, StreamedChoice] = {}
        self._held: ChoiceFinished | None = None
        """A finish that may be the last."""
        self._usage: TokenUsage | None = None
        self._of_prompts: list[Annotation] = []
        """To be said before the first choice."""
        self._of_choices: dict[int, Annotation] = {}
        """To be said with their ends."""

    def feed(self, events: Sequence[Event]) -> bytes:
        """The chunks that these events make, perhaps none."""
        parts: list[bytes] = []
        for event in events:
            if isinstance(event, TextDelta):
                self._text(parts, event)
            elif isinstance(event, UsageReported):
                self._usage = event.usage
            elif isinstance(event, ChoiceFinished):
                self._finish(parts, event)
            elif isinstance(event, ReasoningDelta):
                self._reasoning(parts, self._open(parts, event.choice), event.text)
            elif isinstance(event, ToolCallDelta):
                self._tool_call(parts, self._open(parts, event.choice), event)
            elif isinstance(event, RefusalDelta):
                self._refusal(parts, event)
            elif isinstance(event, Annotation):
                self._annotate(parts, event)
            else:
                self._choice(parts, 0)
        return b"".join(parts)

    def idle(self) -> bytes:
        """A chunk that adds nothing: the only thing that may keep a silent connection warm."""
        for choice in self._choices.values():
            if not choice.is_finished:
                return choice.text_head + b'""' + choice.text_tail
        return b""

    def text_frame(self, extra: ExtraFields | None) -> tuple[bytes, bytes] | None:
        """What comes before and after the JSON of a text of the first choice with these further fields; None while more
        than that is due."""
        choice = self._choices.get(0)
        if choice is None or choice.is_thinking or choice.is_finished or self._held is not None:
            return None
        if extra is None:
            return choice.text_head, choice.text_tail
        head, tail = self._text_chunk(0, b"\0", extra).split(b"\0", 1)
        return head, tail

    def end(self, usage: TokenUsage | None = None) -> bytes:
        """The last finish chunk, the usage where it belongs, and `[DONE]`. `usage` counts if none was reported."""
        parts: list[bytes] = []
        if not self._choices:
            self._choice(parts, 0)
        for choice in self._choices.values():
            if not choice.is_finished:  # a source that forgot it: clients insist on a reason
                self._finish(parts, ChoiceFinished(FinishReason.STOP, choice.index))
        counted = self._usage or usage
        counts = None if counted is None else self._frame.usage(counted)
        self._release(parts, counts if self._usage_at_finish else None)
        if self._include_usage and counts is not None:
            parts.append(self._frame.chunk(b"", counts))
        parts.append(DONE)
        return b"".join(parts)

    def broken(self, error: ModelportError) -> bytes:
        """The error chunk; then the connection is cut, with no `[DONE]`."""
        return self._frame.broken(error)

    @abstractmethod
    def _first(self, index: int) -> bytes:
        """The chunk that opens a choice, or nothing."""

    @abstractmethod
    def _text_inner(self, text: bytes, extra: bytes = b"") -> bytes:
        """A text's place in its choice, and further fields beside it."""

    @abstractmethod
    def _empty_inner(self, extra: bytes = b"") -> bytes:
        """What a choice without a text has in its place."""

    @abstractmethod
    def _refusal(self, parts: list[bytes], event: RefusalDelta) -> None: ...

    @abstractmethod
    def _reasoning(self, parts: list[bytes], choice: StreamedChoice, text: str) -> None: ...

    @abstractmethod
    def _tool_call(self, parts: list[bytes], choice: StreamedChoice, fragment: ToolCallDelta) -> None: ...

    @abstractmethod
    def _complete(self, parts: list[bytes], choice: StreamedChoice) -> None:
        """Sends what was kept back of a choice that ends."""

    def _word(self, reason: FinishReason) -> str:
        """How the dialect calls it."""
        return reason

    def _choice(self, parts: list[bytes], index: int) -> StreamedChoice:
        choice = self._choices.get(index)
        if choice is None:
            template = self._frame.chunk(self._frame.choice(index, self._text_inner(b"\0")))
            choice = self._choices[index] = StreamedChoice(index, template)
            of_prompts, self._of_prompts = self._of_prompts, []
            if of_prompts and self._frame.has_annotations:
                parts.append(prompt_chunk(of_prompts))
            parts.append(self._first(index))
            if of_prompts and not self._frame.has_annotations:
                parts.append(self._fields_chunk(index, ExtraFields(prompt_fields(of_prompts, always=False))))
        return choice

    def _annotate(self, parts: list[bytes], event: Annotation) -> None:
        if not (event.is_notable or self._frame.has_annotations):
            return
        if event.choice is None:
            self._of_prompts.append(event)
        elif event.is_last:
            self._of_choices[event.choice] = event
        else:
            # The last finish chunk waits for the usage where it has that: then this comes before it.
            opened = self._choice if self._usage_at_finish else self._open
            choice = opened(parts, event.choice)
            extra = ExtraFields(choice=choice_fields(event))
            parts.append(bare_chunk(event) if event.is_bare else self._fields_chunk(choice.index, extra))

    def _open(self, parts: list[bytes], index: int) -> StreamedChoice:
        """The choice, with everything sent that must come before its next delta."""
        if self._held is not None:
            self._release(parts, None)
        return self._choice(parts, index)

    def _text(self, parts: list[bytes], event: TextDelta) -> None:
        choice = self._open(parts, event.choice)
        text, logprobs, extra = event.text, event.logprobs, event.extra
        if not text and logprobs is None:
            if extra is not None:
                parts.append(self._fields_chunk(choice.index, extra))
            return
        if choice.is_thinking:
            choice.is_thinking = False
            text = CLOSE_THINKING + text
        if logprobs is None and extra is None:
            parts += (choice.text_head, _encode(text), choice.text_tail)
        else:
            parts.append(self._text_chunk(choice.index, _encode(text), extra or ExtraFields(), _encode(logprobs)))

    def _text_chunk(self, index: int, text: bytes, extra: ExtraFields, logprobs: bytes = b"null") -> bytes:
        inner = self._text_inner(text, encoded_tail(extra.message))
        choice = self._frame.choice(index, inner, logprobs=logprobs, extra=encoded_tail(extra.choice))
        return self._frame.chunk(choice, extra=encoded_tail(extra.answer))

    def _fields_chunk(
        self, index: int, extra: ExtraFields, reason: bytes = b"null", counts: bytes | None = None
    ) -> bytes:
        inner = self._empty_inner(encoded_tail(extra.message))
        choice = self._frame.choice(index, inner, reason, extra=encoded_tail(extra.choice))
        return self._frame.chunk(choice, counts, encoded_tail(extra.answer))

    def _finish(self, parts: list[bytes], event: ChoiceFinished) -> None:
        choice = self._open(parts, event.choice)
        if choice.is_finished:
            return
        self._complete(parts, choice)
        choice.is_finished = True
        self._held = event

    def _release(self, parts: list[bytes], counts: bytes | None) -> None:
        held, self._held = self._held, None
        if held is not None:
            extra = beside_choice(held.extra, self._of_choices.get(held.choice), always=True) or ExtraFields()
            parts.append(self._fields_chunk(held.choice, extra, _encode(self._word(held.reason)), counts))


class ChatChunkStream(ChunkStream):
    """Chats: a role first, and deltas. `always_content`: every delta has a string `content`, because Azure's samples
    print it unseen. `has_refusals`: a refusal has a field of its own; otherwise it is the content."""

    def __init__(
        self,
        frame: ChunkFrame,
        *,
        include_usage: bool,
        usage_at_finish: bool,
        reasoning: ReasoningPlace,
        always_content: bool,
        has_refusals: bool,
    ) -> None:
        super().__init__(frame, include_usage=include_usage, usage_at_finish=usage_at_finish)
        self._is_inline = reasoning == "inline"
        self._always_content = always_content
        self._has_refusals = has_refusals

    def _first(self, index: int) -> bytes:
        return self._frame.chunk(self._frame.choice(index, b'"delta":{"content":"","role":"assistant"}'))

    def _text_inner(self, text: bytes, extra: bytes = b"") -> bytes:
        return b'"delta":{"content":' + text + extra + b"}"

    def _empty_inner(self, extra: bytes = b"") -> bytes:
        return self._text_inner(b'""', extra) if self._always_content else b'"delta":{' + extra[1:] + b"}"

    def _refusal(self, parts: list[bytes], event: RefusalDelta) -> None:
        if not self._has_refusals:
            self._text(parts, TextDelta(event.text, event.choice))
            return
        choice = self._open(parts, event.choice)
        self._close_thinking(parts, choice)
        inner = b'"delta":{"refusal":' + _encode(event.text) + b"}"
        parts.append(self._frame.chunk(self._frame.choice(choice.index, inner)))

    def _reasoning(self, parts: list[bytes], choice: StreamedChoice, text: str) -> None:
        if not text:
            return
        if not self._is_inline:
            inner = b'"delta":{"content":"","reasoning_content":' + _encode(text) + b"}"
            parts.append(self._frame.chunk(self._frame.choice(choice.index, inner)))
            return
        if not choice.is_thinking:
            choice.is_thinking = True
            text = OPEN_THINKING + text
        parts += (choice.text_head, _encode(text), choice.text_tail)

    def _tool_call(self, parts: list[bytes], choice: StreamedChoice, fragment: ToolCallDelta) -> None:
        self._close_thinking(parts, choice)
        if choice.tools is None:
            choice.tools = ToolCallOrder()
        for ordered in choice.tools.push(fragment):
            self._tool_fragment(parts, choice, ordered)

    def _complete(self, parts: list[bytes], choice: StreamedChoice) -> None:
        self._close_thinking(parts, choice)
        if choice.tools is not None:
            for fragment in choice.tools.end():
                self._tool_fragment(parts, choice, fragment)

    def _close_thinking(self, parts: list[bytes], choice: StreamedChoice) -> None:
        if choice.is_thinking:
            choice.is_thinking = False
            parts += (choice.text_head, _encode(CLOSE_THINKING), choice.text_tail)

    def _tool_fragment(self, parts: list[bytes], choice: StreamedChoice, fragment: ToolCallDelta) -> None:
        call: dict[str, Any] = {"index": fragment.index}
        function: dict[str, str] = {}
        if fragment.id is not None:
            call |= {"id": fragment.id, "type": "function"}
        if fragment.name is not None:
            function["name"] = fragment.name
        call["function"] = {**function, "arguments": fragment.arguments}
        merge(call, fragment.extra or {})
        content = b'"content":"",' if self._always_content else b""
        inner = b'"delta":{' + content + b'"tool_calls":[' + _encode(call) + b"]}"
        parts.append(self._frame.chunk(self._frame.choice(choice.index, inner)))


class TextChunkStream(ChunkStream):
    """Text completions: no role, no deltas, no tools; what a model thinks is part of its text."""

    def _first(self, index: int) -> bytes:
        return b""

    def _text_inner(self, text: bytes, extra: bytes = b"") -> bytes:
        return b'"text":' + text + extra

    def _empty_inner(self, extra: bytes = b"") -> bytes:
        return b'"text":""' + extra

    def _refusal(self, parts: list[bytes], event: RefusalDelta) -> None:
        self._text(parts, TextDelta(event.text, event.choice))

    def _reasoning(self, parts: list[bytes], choice: StreamedChoice, text: str) -> None:
        if text:
            parts += (choice.text_head, _encode(text), choice.text_tail)

    def _tool_call(self, parts: list[bytes], choice: StreamedChoice, fragment: ToolCallDelta) -> None:
        """There are none."""

    def _complete(self, parts: list[bytes], choice: StreamedChoice) -> None:
        """Nothing is ever kept back."""
