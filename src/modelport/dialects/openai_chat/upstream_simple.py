"""The usual whole answer, in one typed decode: one choice, a text, why it ended, what was used. Anything that could
mean more is left to the slow reading, with the same result (a property test holds the two together)."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from modelport.core.events import Answered, ChoiceFinished, Event, FinishReason, TextDelta, UsageReported
from modelport.core.usage import TokenUsage
from modelport.dialects.openai_chat.upstream_chunks import BROKEN_REASONS, FINISH_REASONS
from modelport.dialects.openai_chat.upstream_usage import token_usage
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


class _Usage(Struct, forbid_unknown_fields=True, gc=False):
    prompt_tokens: Annotated[int, Meta(ge=1, lt=2**53)]
    completion_tokens: Annotated[int, Meta(ge=0, lt=2**53)]
    total_tokens: Annotated[int, Meta(ge=0, lt=2**53)] = 0
    prompt_tokens_details: dict[str, Any] | None = None
    completion_tokens_details: dict[str, Any] | None = None


class _Answer(Struct):
    choices: Annotated[list[_Choice], Meta(min_length=1, max_length=1)]
    model: str | None = None
    id: str | None = None
    usage: _Usage | None = None
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
    tier, usage = answer.service_tier, answer.usage
    if tier is not None and tier not in USUAL_TIERS:
        return None
    message, model, id = choice.message, answer.model or None, answer.id or None
    if usage is None:
        return PlainAnswer(message.content, reason, model, id, service_tier=tier)
    prompt, completion, classes = usage.prompt_tokens, usage.completion_tokens, None
    if usage.prompt_tokens_details is not None or usage.completion_tokens_details is not None:
        classes = token_usage(msgspec.to_builtins(usage))
        if classes is not None and classes.total != prompt + completion:
            return None
    return PlainAnswer(message.content, reason, model, id, prompt, completion, classes, tier)


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
