"""The usual whole answer, in one typed decode: one choice, a text, why it ended, what was used. Anything that could
mean more, or has another field, is left to the slow reading, with the same result (a property test holds the two
together)."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from modelport.core.answers import PlainAnswer
from modelport.core.errors import MalformedBody
from modelport.core.events import Answered, ChoiceFinished, Event, ExtraFields, FinishReason, TextDelta, UsageReported
from modelport.core.usage import TokenUsage
from modelport.dialects.body import JSON_CONTAINERS_MAXIMUM, check_depth, holds_more
from modelport.dialects.openai_chat.upstream_usage import COUNT_DIGITS


class _Message(Struct, forbid_unknown_fields=True):
    content: Annotated[str, Meta(min_length=1)]
    role: Any = None
    tool_calls: Annotated[list[Any], Meta(max_length=0)] | None = None
    function_call: None = None
    reasoning_content: None = None
    reasoning: None = None
    refusal: None = None


class _OpenMessage(_Message, forbid_unknown_fields=True, kw_only=True):
    annotations: Any = UNSET
    audio: Any = UNSET


class _Choice(Struct, forbid_unknown_fields=True):
    message: _Message
    finish_reason: Literal["stop", "length"]
    index: Literal[0] = 0
    logprobs: None = None


class _OpenChoice(_Choice, forbid_unknown_fields=True, kw_only=True):
    message: _OpenMessage
    content_filter_results: Any = UNSET
    stop_reason: Any = UNSET
    token_ids: Any = UNSET


_Count = Annotated[int, Meta(ge=0, lt=10**COUNT_DIGITS)]


class _PromptDetails(Struct, forbid_unknown_fields=True, gc=False):
    cached_tokens: _Count | None = None
    audio_tokens: _Count | None = None


class _CompletionDetails(Struct, forbid_unknown_fields=True, gc=False):
    reasoning_tokens: _Count | None = None
    audio_tokens: _Count | None = None
    accepted_prediction_tokens: Any = None
    rejected_prediction_tokens: Any = None


class _Usage(Struct, forbid_unknown_fields=True, gc=False):
    prompt_tokens: Annotated[int, Meta(ge=1, lt=10**COUNT_DIGITS)]
    completion_tokens: Annotated[int, Meta(ge=1, lt=10**COUNT_DIGITS)]
    total_tokens: Annotated[int, Meta(ge=0, lt=10**COUNT_DIGITS)] = 0
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None


class _Answer(Struct, forbid_unknown_fields=True):
    choices: Annotated[list[_Choice], Meta(min_length=1, max_length=1)]
    model: str | None = None
    id: str | None = None
    object: Any = None
    created: Any = None
    usage: _Usage | None = None
    error: None = None


class _OpenAnswer(_Answer, forbid_unknown_fields=True, kw_only=True):
    """With what the usual hosts say beside what is read."""

    choices: Annotated[list[_OpenChoice], Meta(min_length=1, max_length=1)]  # type: ignore[assignment]
    service_tier: Literal["default", "standard", "on_demand"] | UnsetType | None = UNSET
    """The names of the standard tier, whose price applies where an answer names none."""
    system_fingerprint: Any = UNSET
    prompt_filter_results: Any = UNSET
    prompt_logprobs: Any = UNSET
    prompt_token_ids: Any = UNSET
    kv_transfer_params: Any = UNSET


_PASSED: Final = {
    "answer": (
        *("service_tier", "system_fingerprint", "prompt_filter_results"),
        *("prompt_logprobs", "prompt_token_ids", "kv_transfer_params"),
    ),
    "choice": ("content_filter_results", "stop_reason", "token_ids"),
    "message": ("annotations", "audio"),
}
"""What the usual hosts say beside what is read: it is passed on."""


CERTAIN_CHARACTERS_PER_TOKEN: Final = 16
"""A text of no more than this is what so many tokens can be, whatever its script (gateway/count.py looks closer)."""

ANSWER_DEPTH: Final = 200
"""How deep an answer may be nested."""
_REASONS: Final = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}
_decode: Final = msgspec.json.Decoder(_Answer).decode
_decode_open: Final = msgspec.json.Decoder(_OpenAnswer).decode
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def usual_answer(body: bytes) -> PlainAnswer | None:
    """The answer, if it is the usual one; None: read it slowly."""
    tier = extra = None
    if len(body) > JSON_CONTAINERS_MAXIMUM and holds_more(body, JSON_CONTAINERS_MAXIMUM):
        return None
    try:
        answer = _decode(body)
    except _UNREADABLE:
        try:
            answer = opened = _decode_open(body)
        except _UNREADABLE:
            return None
        tier, extra = opened.service_tier or None, _extra(opened)
        if not is_shallow(body):
            return None
    choice, usage = answer.choices[0], answer.usage
    text, reason = choice.message.content, _REASONS[choice.finish_reason]
    if usage is None:
        return PlainAnswer(text, reason, answer.model or None, answer.id or None, service_tier=tier, extra=extra)
    prompt, completion, classes = usage.prompt_tokens, usage.completion_tokens, None
    if usage.total_tokens not in (0, prompt + completion) or len(text) > completion * CERTAIN_CHARACTERS_PER_TOKEN:
        return None
    if usage.prompt_tokens_details is not None or usage.completion_tokens_details is not None:
        classes = _classes(prompt, completion, usage.prompt_tokens_details, usage.completion_tokens_details)
        if classes is None:
            return None
        if classes.input == prompt and classes.output == completion:
            classes = None  # the details are zeros
    return PlainAnswer(text, reason, answer.model or None, answer.id or None, prompt, completion, classes, tier, extra)


def _classes(
    prompt: int, completion: int, of_prompt: _PromptDetails | None, of_completion: _CompletionDetails | None
) -> TokenUsage | None:
    """The counts by class; None: they contradict each other (upstream_usage.py explains them)."""
    cached = heard = reasoning = spoken = 0
    if of_prompt is not None:
        cached, heard = of_prompt.cached_tokens or 0, of_prompt.audio_tokens or 0
    if of_completion is not None:
        reasoning, spoken = of_completion.reasoning_tokens or 0, of_completion.audio_tokens or 0
    if cached + heard > prompt or reasoning + spoken > completion:
        return None
    return TokenUsage(prompt - cached - heard, cached, completion - reasoning - spoken, reasoning, heard, spoken)


def _extra(answer: _OpenAnswer) -> ExtraFields | None:
    choice = answer.choices[0]
    found = [
        {name: value for name in names if (value := getattr(held, name)) is not UNSET}
        for names, held in zip(_PASSED.values(), (answer, choice, choice.message), strict=True)
    ]
    return ExtraFields(*found) if any(found) else None


def is_shallow(raw: bytes) -> bool:
    """Whether what an answer holds can be written again."""
    try:
        check_depth(raw, ANSWER_DEPTH)
    except MalformedBody:
        return False
    return True


def usual_events(raw: bytes) -> list[Event] | None:
    """The answer's events, if it is the usual one; None: read it slowly."""
    answer = usual_answer(raw)
    if answer is None:
        return None
    events: list[Event] = [TextDelta(answer.text, 0, None, None, answer.extra), ChoiceFinished(answer.finish_reason)]
    if answer.model is not None or answer.id is not None:
        events.insert(0, Answered(answer.model, answer.id))
    if answer.prompt:
        usage = answer.usage or TokenUsage(answer.prompt, 0, answer.completion)
        events.append(UsageReported(usage, answer.service_tier))
    return events
