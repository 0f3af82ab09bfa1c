"""Errors of the tree in core/errors.py that have to do with limits: of a model, of a quota, of a budget."""

from __future__ import annotations

from typing import Literal

from modelport.core.errors import BadRequest, ModelportError
from modelport.core.quota import QuotaState


class ContextLengthExceeded(BadRequest):
    """Prompt and completion together do not fit the model's context; all figures in tokens."""

    code = "context_length_exceeded"

    def __init__(self, message: str, *, target: str = "messages") -> None:
        super().__init__(message, target=target)

    @classmethod
    def of(cls, context: int, prompt: int, completion: int, where: str = "messages") -> ContextLengthExceeded:
        """The published sentence, from token counts."""
        return cls(
            f"This model's maximum context length is {context} tokens. However, you requested {prompt + completion} "
            f"tokens ({prompt} in the {where}, {completion} in the completion). Please reduce the length of the "
            f"{where} or completion.",
            target=where,
        )


class TokensLimitReached(BadRequest):
    """The call needs more tokens than a whole limit or budget allows, so no later attempt can succeed either."""

    code = "tokens_limit_reached"

    def __init__(self, message: str) -> None:
        super().__init__(message, target="max_tokens")

    @classmethod
    def of(cls, limit: int, prompt: int, completion: int, whose: str) -> TokensLimitReached:
        """From token counts; `prompt` is an estimate. `whose`: `deployment gpt-4o`, `key batch-team`."""
        return cls(
            f"This request needs {prompt + completion} tokens (about {prompt} in the prompt, {completion} in the "
            f"completion), and {whose} is limited to {limit} tokens per minute: it can never be served. "
            "Please reduce the length of the prompt or max_tokens."
        )

    @classmethod
    def of_budget(cls, tokens: int, whose: str, per: str) -> TokensLimitReached:
        """For a budget of money or tokens. `per`: `day` or `month`."""
        return cls(
            f"This request may use {tokens} tokens, which is more than the whole budget of {whose} for a {per}: it can "
            "never be served. Please reduce the length of the prompt, or set a smaller max_tokens."
        )


LimitKind = Literal["requests", "tokens", "concurrency", "upstream"]


class RateLimited(ModelportError):
    """A quota is used up. `limit` per `window_seconds`; the upstream's own 429 has kind `upstream`."""

    status = 429
    code = "RateLimitReached"

    def __init__(
        self,
        kind: LimitKind,
        limit: int | None,
        retry_after: int,
        *,
        window_seconds: int = 60,
        quota: QuotaState | None = None,
    ) -> None:
        self.quota = quota
        """What the tightest of the call's limits leave, where ours said no."""
        self.kind: LimitKind = kind
        self.limit = limit
        self.window_seconds = window_seconds
        super().__init__("Rate limit exceeded.", retry_after=max(1, retry_after))


class BudgetExhausted(ModelportError):
    """A budget of money or tokens has no room for the call until its day or month ends: `insufficient_quota`, as OpenAI
    says it. Without Retry-After, unless that is less than a minute away: clients would wait for days."""

    status = 429
    code = "insufficient_quota"

    def __init__(self, whose: str, per: str, resets_at: str, retry_after: int | None = None) -> None:
        self.whose = whose
        self.quota: QuotaState | None = None
        """What the tightest of the call's limits leave."""
        span = {"day": "daily", "month": "monthly"}.get(per, per)
        super().__init__(
            f"You exceeded your current quota: the {span} budget of {whose} has no room for this call. "
            f"It begins anew at {resets_at}.",
            retry_after=retry_after,
        )


class PriceUnknown(ModelportError):
    """A budget of money counts the call, its price is unknown, and the operator denies such calls."""

    status = 403
    code = "PriceUnknown"

    def __init__(self, deployment: str) -> None:
        super().__init__(
            f"The price of deployment {deployment} is unknown, and a budget of money counts this call. "
            "The operator of this service has to give the deployment a price."
        )
