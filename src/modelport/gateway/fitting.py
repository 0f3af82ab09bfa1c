"""Can it ever be served? A request beyond the model's context, or beyond a whole limit or budget, is refused with 400.

Waiting does not help such a call, so it gets no Retry-After and no place in a queue. Lengths and counts decide; no text
is read, so a long prompt costs no more than a short one.
"""

from __future__ import annotations

from typing import Final

from modelport.core.budgets import Budget
from modelport.core.catalog import Deployment
from modelport.core.limit_errors import ContextLengthExceeded, TokensLimitReached
from modelport.core.ports.stages import Refusal
from modelport.core.requests import ChatRequest, CompletionsRequest, Request
from modelport.gateway.admissions import Claim
from modelport.gateway.estimate import Need, byte_length, completion_limit, likely_prompt, message_bytes

COMPLETING: Final = (ChatRequest, CompletionsRequest)
LONGEST_TOKEN_BYTES: Final = 256
"""No vocabulary in use has a longer token (the longest known are 128 spaces), so a text has at least so many tokens."""


def beyond_context(request: Request, context: int | None) -> ContextLengthExceeded | None:
    """The refusal of a completion, or of a prompt, that is longer than the model's context for sure.

    Embedding models are left alone: most cut what is too long."""
    if context is None or not isinstance(request, COMPLETING):
        return None
    completion = completion_limit(request) or 0
    if completion <= context and not is_longer(request, context):
        return None
    prompt = likely_prompt(request).prompt
    return ContextLengthExceeded.of(
        context, prompt, completion, "messages" if isinstance(request, ChatRequest) else "prompt"
    )


def is_longer(request: ChatRequest | CompletionsRequest, context: int) -> bool:
    """Whether the prompt alone, or one of several, has more tokens than that even if all of them are the longest."""
    longest_bytes = context * LONGEST_TOKEN_BYTES
    if isinstance(request, CompletionsRequest):
        return any(
            byte_length(prompt) > longest_bytes if isinstance(prompt, str) else len(prompt) > context
            for prompt in request.prompt
        )
    return request.body_bytes > longest_bytes and message_bytes(request.messages) > longest_bytes


def beyond_limits(deployment: Deployment, claims: tuple[Claim, ...], needed: Need) -> Refusal | None:
    """The refusal of a call that needs more tokens than one of its limits allows in a whole minute.

    Where only the deployment's limit is too small, its spillover may have a larger one; a key's limit goes with it."""
    total = needed.total
    for claim in reversed(claims):
        limit = claim.limits.tokens_per_minute
        if limit is None or total <= limit:
            continue
        is_deployment = claim is claims[0]
        whose = f"deployment {deployment.name}" if is_deployment else claim.subject.replace(":", " ", 1)
        error = TokensLimitReached.of(limit, needed.prompt, needed.completion, whose)
        return Refusal(error, spill_to=deployment.spillover if is_deployment else None)
    return None


def beyond_budget(budget: Budget, tokens: int) -> Refusal:
    """The refusal of a call that may cost, or needs, more than a whole day or month of a budget."""
    return Refusal(TokensLimitReached.of_budget(tokens, budget.subject.replace(":", " ", 1), budget.per))
