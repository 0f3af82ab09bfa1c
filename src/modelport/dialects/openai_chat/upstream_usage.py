"""An upstream's `usage` as disjoint token classes. Upstreams agree on the names and on little else."""

from __future__ import annotations

from typing import Any, Final

from modelport.core.usage import TokenUsage

TIER_CHARACTERS: Final = 64
CACHE_READS: Final = ("prompt_cache_hit_tokens", "cache_read_input_tokens")
CACHE_WRITES: Final = ("cache_write_tokens", "cache_creation_tokens")


def token_usage(usage: Any) -> TokenUsage | None:
    """The counts, or None where nothing was counted: absent, null, or all zeros from a proxy that does not know."""
    if not isinstance(usage, dict):
        return None
    prompt, completion = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    if len(usage) == 3 and "total_tokens" in usage and "completion_tokens" in usage and prompt:
        return TokenUsage(input=prompt, output=completion)  # nearly always
    total = _count(usage, "total_tokens")
    if completion == 0 and total > prompt and "completion_tokens" not in usage:
        completion = total - prompt
    if prompt + completion == 0:
        return None
    beside = _count(usage, "cache_read_input_tokens") + _count(usage, "cache_creation_input_tokens")
    if beside and total == prompt + beside + completion:
        prompt += beside  # some count the cache's share beside the prompt, not inside it
    cached, written, audio_in, image = _prompt_classes(usage, prompt)
    reasoning, audio_out = _completion_classes(usage)
    if reasoning and total == prompt + completion + reasoning:
        completion += reasoning  # some count what was thought beside the completion, not inside it
    reasoning = min(reasoning, completion)
    audio_out = min(audio_out, completion - reasoning)
    return TokenUsage(
        input=prompt - cached - written - audio_in - image,
        cached_input=cached,
        output=completion - reasoning - audio_out,
        reasoning=reasoning,
        audio_input=audio_in,
        audio_output=audio_out,
        image=image,
        cache_write=written,
    )


def service_tier(answer: dict[str, Any], usage: Any) -> str | None:
    """The tier that the upstream says it has used: beside the counts, or among them."""
    for said in (answer, usage):
        tier = said.get("service_tier") if isinstance(said, dict) else None
        if isinstance(tier, str) and tier:
            return tier[:TIER_CHARACTERS]
    return None


def _prompt_classes(usage: dict[str, Any], prompt: int) -> tuple[int, int, int, int]:
    details = _details(usage, "prompt_tokens_details")
    cached = min(_count(details, "cached_tokens") or _first(usage, *CACHE_READS), prompt)
    left = prompt - cached
    written = min(_first(details, *CACHE_WRITES) or _count(usage, "cache_creation_input_tokens"), left)
    audio = min(_count(details, "audio_tokens"), left - written)
    image = min(_count(details, "image_tokens"), left - written - audio)
    return cached, written, audio, image


def _completion_classes(usage: dict[str, Any]) -> tuple[int, int]:
    details = _details(usage, "completion_tokens_details")
    reasoning = _count(details, "reasoning_tokens") or _count(usage, "reasoning_tokens")
    return reasoning, _count(details, "audio_tokens")


def _first(counts: dict[str, Any], *names: str) -> int:
    """The first of these that says anything."""
    return next((found for name in names if (found := _count(counts, name))), 0)


def _details(usage: dict[str, Any], name: str) -> dict[str, Any]:
    value = usage.get(name)
    return value if isinstance(value, dict) else {}


def _count(counts: dict[str, Any], name: str) -> int:
    value = counts.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    return int(value) if 0 <= value < 2**53 else 0
