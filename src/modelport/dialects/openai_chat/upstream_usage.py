"""An upstream's `usage` as disjoint token classes. Upstreams agree on the names and on little else, so its counts are
believed as far as they agree with each other; whether they agree with the text, gateway/count.py sees."""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace

from modelport.core.events import UsageReported
from modelport.core.usage import TokenUsage

TIER_CHARACTERS: Final = 64
COUNT_DIGITS: Final = 9
"""No model reads or writes as many tokens in one call as a longer number says."""
PROMPT: Final = ("prompt_tokens", "input_tokens", "promptTokenCount", "inputTokens", "prompt_eval_count")
COMPLETION: Final = ("completion_tokens", "output_tokens", "candidatesTokenCount", "outputTokens", "eval_count")
TOTAL: Final = ("total_tokens", "totalTokenCount", "totalTokens")
PROMPT_DETAILS: Final = ("prompt_tokens_details", "input_tokens_details")
COMPLETION_DETAILS: Final = ("completion_tokens_details", "output_tokens_details")
CACHE_READS: Final = (
    "prompt_cache_hit_tokens",
    "cache_read_input_tokens",
    "cacheReadInputTokens",
    "cachedContentTokenCount",
    "cached_tokens",
)
CACHE_WRITES: Final = ("cache_write_tokens", "cache_creation_tokens", "cache_creation_input_tokens")
BESIDE_READS: Final = ("cache_read_input_tokens", "cacheReadInputTokens")
BESIDE_WRITES: Final = ("cache_creation_input_tokens", "cacheWriteInputTokens")
"""Some count these beside the prompt, not inside it."""
REASONING: Final = ("reasoning_tokens", "thoughtsTokenCount")


def usage_report(usage: Any) -> UsageReported | None:
    """The counts, or None where nothing can be believed: absent, all zeros, or at odds with each other."""
    if not isinstance(usage, dict):
        return None
    if (usual := _usual(usage)) is not None:
        return usual
    prompt, completion, total = _first(usage, PROMPT), _first(usage, COMPLETION), _first(usage, TOTAL)
    if not prompt and not completion:
        return UsageReported(TokenUsage(), total=total, is_sure=False) if total else None
    details = _details(usage, PROMPT_DETAILS), _details(usage, COMPLETION_DETAILS)
    beside = _first(usage, BESIDE_READS) + _first(usage, BESIDE_WRITES)
    reasoning = _first(details[1], REASONING) or _first(usage, REASONING)
    sides = _sides(prompt, completion, total, beside, reasoning, is_exclusive=not _count(usage, "prompt_tokens"))
    if sides is None:
        return None
    prompt, completion, is_sure = sides
    of_prompt, is_prompt_sure = _prompt_classes(usage, details[0], prompt)
    of_completion, is_completion_sure = _completion_classes(reasoning, _count(details[1], "audio_tokens"), completion)
    return UsageReported(of_prompt + of_completion, is_sure=is_sure and is_prompt_sure and is_completion_sure)


def _usual(usage: dict[str, Any]) -> UsageReported | None:
    """Counts without details, as they nearly always are: of a completion, or of vectors."""
    prompt, total, completion = usage.get("prompt_tokens"), usage.get("total_tokens"), usage.get("completion_tokens", 0)
    if len(usage) != 2 + ("completion_tokens" in usage) or not type(prompt) is type(total) is type(completion) is int:
        return None
    if prompt <= 0 or completion < 0 or total != prompt + completion or total >= 10**COUNT_DIGITS:
        return None
    return UsageReported(TokenUsage(input=prompt, output=completion))


def merged(known: UsageReported | None, new: UsageReported | None) -> UsageReported | None:
    """Of several reports of one answer the last holds, side by side: some count the prompt at the begin and the
    completion at the end, and the last one of all may say nothing."""
    if known is None or new is None:
        return new or known
    if new.total:
        return known if known.usage.total else new
    if known.total or (new.usage.prompt and new.usage.completion):
        return new
    prompt, completion = (new.usage, known.usage) if new.usage.prompt else (known.usage, new.usage)
    if prompt is new.usage and not known.usage.completion:
        return new
    return UsageReported(prompt_side(prompt) + completion_side(completion), is_sure=known.is_sure and new.is_sure)


def prompt_side(usage: TokenUsage) -> TokenUsage:
    """The classes of the prompt alone."""
    return replace(usage, output=0, reasoning=0, audio_output=0)


def completion_side(usage: TokenUsage) -> TokenUsage:
    """The classes of the completion alone."""
    return TokenUsage(output=usage.output, reasoning=usage.reasoning, audio_output=usage.audio_output)


def service_tier(answer: dict[str, Any], usage: Any) -> str | None:
    """The tier that the upstream says it has used: beside the counts, or among them."""
    for said in (answer, usage):
        tier = said.get("service_tier") if isinstance(said, dict) else None
        if isinstance(tier, str) and tier:
            return tier[:TIER_CHARACTERS]
    return None


def _sides(
    prompt: int, completion: int, total: int, beside: int, reasoning: int, *, is_exclusive: bool
) -> tuple[int, int, bool] | None:
    """Prompt, completion, and whether all counts agree; None: they contradict each other. What the total says beyond
    both, and no class explains, is completion: the dearer side. `is_exclusive`: the prompt is spelled as by those that
    count the cache's share beside it."""
    if not total:
        if beside and (beside > prompt or is_exclusive):
            prompt += beside
        if reasoning > completion:
            return prompt, completion + reasoning, False
        return prompt, completion, True
    rest = total - prompt - completion
    if rest < 0:
        return None
    if rest and not prompt:
        return rest, completion, True
    if rest and not completion and rest != beside:
        return prompt, rest, True
    for more_prompt, more_completion in ((0, 0), (beside, 0), (0, reasoning), (beside, reasoning)):
        if rest == more_prompt + more_completion:
            return prompt + more_prompt, completion + more_completion, True
    return prompt, completion + rest, False


def _prompt_classes(usage: dict[str, Any], details: dict[str, Any], prompt: int) -> tuple[TokenUsage, bool]:
    """A class that is larger than the whole is not believed: its tokens are plain input."""
    cached = _first(details, CACHE_READS) or _first(usage, CACHE_READS)
    written = _first(details, CACHE_WRITES) or _first(usage, (*CACHE_WRITES, *BESIDE_WRITES))
    said = (cached, written, _count(details, "audio_tokens"), _count(details, "image_tokens"))
    (cached, written, audio, image), left, is_sure = _within(said, prompt)
    classes = TokenUsage(input=left, cached_input=cached, audio_input=audio, image=image, cache_write=written)
    return classes, is_sure


def _completion_classes(reasoning: int, audio: int, completion: int) -> tuple[TokenUsage, bool]:
    (reasoning, audio), left, is_sure = _within((reasoning, audio), completion)
    return TokenUsage(output=left, reasoning=reasoning, audio_output=audio), is_sure


def _within(said: tuple[int, ...], whole: int) -> tuple[list[int], int, bool]:
    """The classes as far as they fit in the whole, what is left of it, and whether all fit. Classes may overlap: then
    the first holds."""
    left, is_sure, classes = whole, True, []
    for count in said:
        is_sure = is_sure and count <= left
        classes.append(0 if count > whole else min(count, left))
        left -= classes[-1]
    return classes, left, is_sure


def _first(counts: dict[str, Any], names: tuple[str, ...]) -> int:
    """The first of these that says anything."""
    for name in names:
        if name in counts and (found := _count(counts, name)):
            return found
    return 0


def _details(usage: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return next((value for name in names if isinstance(value := usage.get(name), dict)), {})


def _count(counts: dict[str, Any], name: str) -> int:
    """0 for what is no count. Some write digits as a text, or whole numbers with a point."""
    value = counts.get(name)
    if isinstance(value, str) and len(value) <= COUNT_DIGITS and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    return int(value) if 0 < value < 10**COUNT_DIGITS and value == int(value) else 0
