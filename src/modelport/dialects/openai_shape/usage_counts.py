"""Token counts as the wire names them."""

from __future__ import annotations

from typing import Any

from modelport.core.usage import TokenUsage


def usage_counts(usage: TokenUsage, *, always_detailed: bool) -> dict[str, Any]:
    """A completion's `usage`. Details are written when they say something, or always."""
    counts: dict[str, Any] = {
        "prompt_tokens": usage.prompt,
        "total_tokens": usage.total,
        "completion_tokens": usage.completion,
    }
    if always_detailed or usage.cached_input or usage.audio_input or usage.cache_write:
        counts["prompt_tokens_details"] = {"audio_tokens": usage.audio_input, "cached_tokens": usage.cached_input}
        if usage.cache_write:
            counts["prompt_tokens_details"]["cache_write_tokens"] = usage.cache_write
    if always_detailed or usage.reasoning or usage.audio_output:
        counts["completion_tokens_details"] = {
            "audio_tokens": usage.audio_output,
            "reasoning_tokens": usage.reasoning,
        }
    return counts
