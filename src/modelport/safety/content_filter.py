"""A policy and its filters as what the gateway calls: core.ports.filters.ContentFilter."""

from __future__ import annotations

from collections.abc import Mapping

from modelport.core.ports.filters import ContentFilter
from modelport.core.ports.safety import SafetyFilter
from modelport.core.safety import BUILT_IN, ContentFilterPolicy, Source
from modelport.safety.completion import completion_stage
from modelport.safety.judging import Judge
from modelport.safety.policy import honest
from modelport.safety.prompt import PromptStage


def content_filter(
    policy: ContentFilterPolicy, filters: Mapping[str, SafetyFilter], *, is_strict: bool = False
) -> ContentFilter:
    """`filters`: those of the policy, by name. `is_strict`: what Azure's clients trip over is written as Azure does."""
    used = {name: filters[name] for name in policy.filters}
    if policy.name in BUILT_IN:
        policy = honest(policy, used)
    prompt = Judge(policy.prompt, Source.PROMPT, list(used.values()))
    completion = Judge(policy.completion, Source.COMPLETION, list(used.values()))
    return ContentFilter(
        prompt=PromptStage(policy, prompt) if prompt.judged or prompt.image_filters else None,
        completion=completion_stage(policy, completion, is_strict=is_strict) if completion.judged else None,
    )
