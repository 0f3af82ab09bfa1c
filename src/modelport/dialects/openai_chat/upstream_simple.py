"""The usual whole answer, in one typed decode: one choice, a text, why it ended, what was used. Anything that could
mean more is left to the slow reading, with the same result (a property test holds the two together)."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from modelport.core.events import Answered, ChoiceFinished, Event, FinishReason, TextDelta, UsageReported
from modelport.core.usage import TokenUsage
from modelport.dialects.openai_chat.upstream_usage import COUNT_DIGITS, usage_report
from modelport.dialects.plain_chat import PlainAnswer


class _Message(Struct):
    content: Annotated[str, Meta(min_length=1)]
    tool_calls: None = None
    function_call: None = None
    reasoning_content: None = None
    reasoning: None = None


class _Choice(Struct):
    message: _Message
    finish_reason: Literal["stop", "length"]
    index: Literal[0] = 0
    logprobs: None = None


class _Usage(Struct, forbid_unknown_fields=True, gc=False):
    prompt_tokens: Annotated[int, Meta(ge=1, lt=10**COUNT_DIGITS)]
    completion_tokens: Annotated[int, Meta(ge=1, lt=10**COUNT_DIGITS)]
    total_tokens: Annotated[int, Meta(ge=0, lt=10**COUNT_DIGITS)] = 0
    prompt_tokens_details: dict[str, Any] | None = None
    completion_tokens_details: dict[str, Any] | None = None


class _Answer(Struct):
    choices: Annotated[list[_Choice], Meta(min_length=1, max_length=1)]
    model: str | None = None
    id: str | None = None
    usage: _Usage | None = None
    service_tier: Literal["default", "standard", "on_demand"] | None = None
    """Words of the price that holds where nobody says anything."""
    x_groq: None = None
    error: None = None


CERTAIN_CHARACTERS_PER_TOKEN: Final = 16
"""A text of no more than this is what so many tokens can be, whatever its script (gateway/count.py looks closer)."""

_REASONS: Final = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}
_decode: Final = msgspec.json.Decoder(_Answer).decode


def plain_answer(raw: bytes) -> PlainAnswer | None:
    """The answer, if it is the usual one; None: read it slowly."""
    try:
        answer = _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    choice, usage = answer.choices[0], answer.usage
    text, reason = choice.message.content, _REASONS[choice.finish_reason]
    if usage is None:
        return PlainAnswer(text, reason, answer.model or None, answer.id or None, service_tier=answer.service_tier)
    prompt, completion, classes = usage.prompt_tokens, usage.completion_tokens, None
    if usage.total_tokens not in (0, prompt + completion) or len(text) > completion * CERTAIN_CHARACTERS_PER_TOKEN:
        return None
    if usage.prompt_tokens_details is not None or usage.completion_tokens_details is not None:
        report = usage_report(msgspec.to_builtins(usage))
        if report is None or not report.is_sure or report.usage.total != prompt + completion:
            return None
        classes = report.usage
    return PlainAnswer(
        text, reason, answer.model or None, answer.id or None, prompt, completion, classes, answer.service_tier
    )


def simple_answer(raw: bytes) -> list[Event] | None:
    """The answer's events, if it is the usual one; None: read it slowly."""
    answer = plain_answer(raw)
    if answer is None:
        return None
    events: list[Event] = [TextDelta(answer.text), ChoiceFinished(answer.finish_reason)]
    if answer.model is not None or answer.id is not None:
        events.insert(0, Answered(answer.model, answer.id))
    if answer.prompt:
        usage = answer.usage or TokenUsage(input=answer.prompt, output=answer.completion)
        events.append(UsageReported(usage, answer.service_tier))
    return events
