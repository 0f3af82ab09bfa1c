"""Token counts as the wire names them."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import UNSET, Struct, UnsetType

from modelport.core.usage import TokenUsage


class PromptDetails(Struct, frozen=True, gc=False):
    """What is inside `prompt_tokens`."""

    audio_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int | UnsetType = UNSET


class CompletionDetails(Struct, frozen=True, gc=False):
    """What is inside `completion_tokens`."""

    audio_tokens: int = 0
    reasoning_tokens: int = 0


class UsageCounts(Struct, frozen=True):
    """A completion's `usage`."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: int
    prompt_tokens_details: PromptDetails | msgspec.Raw | UnsetType = UNSET
    completion_tokens_details: CompletionDetails | msgspec.Raw | UnsetType = UNSET


_NO_PROMPT_DETAILS: Final = msgspec.Raw(msgspec.json.encode(PromptDetails()))
_NO_COMPLETION_DETAILS: Final = msgspec.Raw(msgspec.json.encode(CompletionDetails()))


def usage_counts(usage: TokenUsage, *, always_detailed: bool) -> UsageCounts:
    """A completion's `usage`. Details are written when they say something, or always."""
    cached, heard, kept = usage.cached_input, usage.audio_input, usage.cache_write
    reasoning, spoken = usage.reasoning, usage.audio_output
    prompt = usage.input + usage.image + cached + heard + kept  # not `usage.prompt`: this is written for every answer
    completion = usage.output + reasoning + spoken
    of_prompt: PromptDetails | msgspec.Raw | UnsetType = _NO_PROMPT_DETAILS if always_detailed else UNSET
    of_completion: CompletionDetails | msgspec.Raw | UnsetType = _NO_COMPLETION_DETAILS if always_detailed else UNSET
    if cached or heard or kept:
        of_prompt = PromptDetails(heard, cached, kept or UNSET)
    if reasoning or spoken:
        of_completion = CompletionDetails(spoken, reasoning)
    return UsageCounts(prompt, prompt + completion, completion, of_prompt, of_completion)
