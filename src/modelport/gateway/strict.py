"""`server.strict`: the real service's refusals where we are lenient, for whoever tests a client against the real rules.

On the Azure AI Model Inference surfaces `stream_options` is an extra parameter and `temperature` ends at 1; on the
OpenAI surfaces an argument that the API does not know is refused.
"""

from __future__ import annotations

from typing import Final

from modelport.core.errors import BadRequest, ExtraParametersRefused, InvalidParameters, ModelportError, Offence
from modelport.core.excerpts import excerpt
from modelport.core.requests import ChatRequest, CompletionsRequest, Request

MAX_TEMPERATURE: Final = 1
OPENAI_ARGUMENTS: Final = frozenset(
    (
        "n",
        "logprobs",
        "top_logprobs",
        "logit_bias",
        "user",
        "parallel_tool_calls",
        "reasoning_effort",
        "metadata",
        "store",
        "prediction",
        "service_tier",
        "data_sources",
        "audio",
        "web_search_options",
        "verbosity",
        "safety_identifier",
        "prompt_cache_key",
        "best_of",
        "echo",
        "suffix",
    )
)


def strict_refusal(request: Request, *, checks_extras: bool, mode: str) -> ModelportError | None:
    """What the real service would refuse and we otherwise let pass; None: nothing."""
    if not checks_extras:
        unknown = next((name for name in request.extra if name not in OPENAI_ARGUMENTS), None)
        if unknown is None:
            return None
        return BadRequest(f"Unrecognized request argument supplied: {excerpt(unknown)}")
    if not isinstance(request, ChatRequest | CompletionsRequest):
        return None
    if request.include_usage and mode == "error":
        return ExtraParametersRefused(("stream_options",))
    if request.temperature is not None and request.temperature > MAX_TEMPERATURE:
        text = f"Input should be less than or equal to {MAX_TEMPERATURE}"
        return InvalidParameters([Offence("less_than_equal", ("body", "temperature"), text, request.temperature)])
    return None
