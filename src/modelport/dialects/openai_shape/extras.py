"""Fields of a body outside its schema. Those that the gateway reads get numbers and truths in place of texts."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final

from modelport.dialects.fields import FieldWalk, number_of, truth_of, whole_number_of
from modelport.dialects.openai_shape.parameters import NAMES


def _logprobs(value: Any) -> Any:
    return truth_of(whole_number_of(value))


def _biases(value: Any) -> Any:
    return {token: number_of(bias) for token, bias in value.items()} if isinstance(value, dict) else value


def _token_ids(value: Any) -> Any:
    return [whole_number_of(token) for token in value] if isinstance(value, list) else value


COERCED: Final[dict[str, Callable[[Any], Any]]] = {
    **dict.fromkeys(("n", "best_of", "top_logprobs", "min_tokens", "max_completion_tokens"), whole_number_of),
    **dict.fromkeys(("ignore_eos", "use_beam_search", "skip_special_tokens", "parallel_tool_calls"), truth_of),
    **dict.fromkeys(("safe_prompt", "safe_mode"), truth_of),
    "logprobs": _logprobs,
    "logit_bias": _biases,
    "stop_token_ids": _token_ids,
}
"""Of the extras that the gateway reads, by name: from the value to what it is read as."""
OFTEN: Final = (
    *("user", "n", "top_k", "min_p", "service_tier", "logprobs", "top_logprobs", "parallel_tool_calls"),
    *("reasoning_effort", "metadata", "store", "logit_bias", "repetition_penalty", "stop_token_ids"),
)
"""Extras that programs often send. They stand before others, in this order, whatever order they came in."""
READ_NAMES: Final = frozenset({"functions", "function_call", "user", "service_tier", *COERCED, *NAMES})
"""Fields that the gateway reads on some surface, in the schema of this one or not."""


def split_fields(fields: dict[str, Any], names: Collection[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A body's fields that are not null: those of the schema, and the others. Raises InvalidParameters for a name that
    is one we read but for its case."""
    walk = FieldWalk()
    given = {name: value for name, value in fields.items() if name in names and value is not None}
    extra = walk.further(fields, names, ("body",), READ_NAMES)
    walk.finish()
    return given, {
        name: COERCED[name](value) if name in COERCED else value for name, value in often_first(extra).items()
    }


def often_first(extra: dict[str, Any]) -> dict[str, Any]:
    """The same, in the order that extras have."""
    return {name: extra[name] for name in (*filter(extra.__contains__, OFTEN), *extra)}
