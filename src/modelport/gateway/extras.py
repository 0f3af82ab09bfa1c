"""Extras that have a meaning: their types, bounds and how they go together, checked before anything is allocated.

What a model family documents: Llama's `n`, `best_of`, `logprobs`, `ignore_eos`, `use_beam_search`,
`stop_token_ids`, `skip_special_tokens`; Phi's and OpenAI's `logit_bias`, `logprobs`, `top_logprobs`, `n`. An extra that
is not in the table is nobody's we know: it is handed on as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from modelport.core.catalog import ModelProfile
from modelport.core.errors import Offence
from modelport.core.requests import ChatRequest, Request

MAX_CHOICES: Final = 128
MAX_TOP_LOGPROBS: Final = 20
MAX_LIST: Final = 1024


def is_int(value: Any) -> bool:
    """JSON true is no number."""
    return isinstance(value, int) and not isinstance(value, bool)


def between(low: int, high: int) -> Callable[[Any], str | None]:
    """A rule: an integer in inclusive bounds."""

    def rule(value: Any) -> str | None:
        return None if is_int(value) and low <= value <= high else f"must be an integer between {low} and {high}"

    return rule


def boolean(value: Any) -> str | None:
    """A rule: true or false."""
    return None if isinstance(value, bool) else "must be true or false"


def logprobs(value: Any) -> str | None:
    """A rule: true / false, or how many of the most likely tokens (H21)."""
    if isinstance(value, bool) or (is_int(value) and 0 <= value <= MAX_TOP_LOGPROBS):
        return None
    return f"must be true, false or an integer between 0 and {MAX_TOP_LOGPROBS}"


def token_ids(value: Any) -> str | None:
    """A rule: a bounded list of token ids."""
    good = isinstance(value, list) and len(value) <= MAX_LIST and all(is_int(item) and item >= 0 for item in value)
    return None if good else f"must be a list of at most {MAX_LIST} token ids"


def logit_bias(value: Any) -> str | None:
    """A rule: token id → bias from -100 to 100."""
    good = (
        isinstance(value, dict)
        and len(value) <= MAX_LIST
        and all(
            str(key).isdigit() and isinstance(bias, int | float) and not isinstance(bias, bool) and -100 <= bias <= 100
            for key, bias in value.items()
        )
    )
    return None if good else "must map token ids to numbers between -100 and 100"


RULES: Final[Mapping[str, Callable[[Any], str | None]]] = {
    "n": between(1, MAX_CHOICES),
    "best_of": between(1, MAX_CHOICES),
    "logprobs": logprobs,
    "top_logprobs": between(0, MAX_TOP_LOGPROBS),
    "ignore_eos": boolean,
    "use_beam_search": boolean,
    "skip_special_tokens": boolean,
    "parallel_tool_calls": boolean,
    "safe_prompt": boolean,
    "safe_mode": boolean,
    "stop_token_ids": token_ids,
    "logit_bias": logit_bias,
    "min_tokens": between(0, 1_000_000),
    "max_completion_tokens": between(0, 2**31 - 1),
}


def extra_offences(request: Request, profile: ModelProfile, model: str) -> list[Offence]:
    """Everything wrong with the extras that were sent."""
    if not request.extra:
        return []
    found = []
    for name, value in request.extra.items():
        if value is None:
            continue
        if name in profile.unsupported_extras:
            text = f"Model '{model}' does not support '{name}'"
            found.append(Offence("parameter_not_supported", ("body", name), text, value))
        elif name in RULES and (wrong := RULES[name](value)) is not None:
            found.append(Offence("value_error", ("body", name), f"'{name}' {wrong}", value))
    if isinstance(request, ChatRequest) and not found:
        found.extend(combinations(request))
    return found


def combinations(request: ChatRequest) -> list[Offence]:
    """Extras that rule each other out (Llama)."""
    extra, found = request.extra, []
    best_of, n = extra.get("best_of"), extra.get("n") or 1
    if best_of is not None and best_of <= n and not extra.get("use_beam_search"):
        found.append(_wrong("best_of", f"must be greater than 'n' ({n})", best_of))
    if best_of is not None and request.stream:
        found.append(_wrong("best_of", "cannot be streamed", best_of))
    if extra.get("use_beam_search"):
        if best_of is None or best_of <= 1:
            found.append(_wrong("use_beam_search", "needs 'best_of' greater than 1", True))
        if request.temperature != 0:
            found.append(_wrong("use_beam_search", "needs 'temperature' = 0", True))
        if request.stream:
            found.append(_wrong("use_beam_search", "cannot be streamed", True))
    if extra.get("top_logprobs") and not extra.get("logprobs"):
        found.append(_wrong("top_logprobs", "needs 'logprobs' = true", extra["top_logprobs"]))
    return found


def _wrong(name: str, what: str, value: Any) -> Offence:
    return Offence("value_error", ("body", name), f"'{name}' {what}", value)
