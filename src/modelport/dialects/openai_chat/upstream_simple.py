"""The usual whole answer, in one typed decode: one choice, a text, why it ended, what was used. Anything that could
mean more is left to the slow reading, with the same result (a property test holds the two together)."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from modelport.core.events import Answered, ChoiceFinished, Event, FinishReason, TextDelta, UsageReported
from modelport.dialects.openai_chat.upstream_chunks import BROKEN_REASONS, FINISH_REASONS
from modelport.dialects.openai_chat.upstream_usage import service_tier, token_usage
from modelport.dialects.plain_chat import PlainAnswer


class _Message(Struct):
    content: Annotated[str, Meta(min_length=1)]
    tool_calls: None = None
    function_call: None = None
    reasoning_content: None = None
    reasoning: None = None


class _Choice(Struct):
    message: _Message
    index: int = 0
    finish_reason: str | None = None
    logprobs: None = None


class _Answer(Struct):
    choices: Annotated[list[_Choice], Meta(min_length=1, max_length=1)]
    model: str | None = None
    id: str | None = None
    usage: dict[str, Any] | None = None
    service_tier: str | None = None
    x_groq: None = None
    error: None = None


USUAL_TIERS: Final = frozenset({"default", "standard", "on_demand"})
"""Words of the price that holds where nobody says anything."""
_REASONS: Final[dict[str | None, FinishReason]] = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}
_decoder: Final = msgspec.json.Decoder(_Answer)


def plain_answer(raw: bytes) -> PlainAnswer | None:
    """The answer, if it is the usual one; None: read it slowly."""
    try:
        answer = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    choice = answer.choices[0]
    reason = _REASONS.get(choice.finish_reason)
    if reason is None:
        word = (choice.finish_reason or "").lower()
        if word in BROKEN_REASONS:
            return None
        reason = FINISH_REASONS.get(word, FinishReason.STOP)
        if reason is FinishReason.TOOL_CALLS:  # no tool was called, whatever it says
            reason = FinishReason.STOP
    if choice.index:
        return None
    tier = service_tier({"service_tier": answer.service_tier}, answer.usage)
    if tier is not None and tier not in USUAL_TIERS:
        return None
    return PlainAnswer(
        choice.message.content, reason, answer.model or None, answer.id or None, token_usage(answer.usage), tier
    )


def simple_answer(raw: bytes) -> list[Event] | None:
    """The answer's events, if it is the usual one; None: read it slowly."""
    answer = plain_answer(raw)
    if answer is None:
        return None
    events: list[Event] = [TextDelta(answer.text), ChoiceFinished(answer.finish_reason)]
    if answer.model is not None or answer.id is not None:
        events.insert(0, Answered(answer.model, answer.id))
    if answer.usage is not None:
        events.append(UsageReported(answer.usage, answer.service_tier))
    return events
