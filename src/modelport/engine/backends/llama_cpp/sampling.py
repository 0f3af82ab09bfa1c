"""Reads what a request asks of sampling, within bounds, into the engine's own words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modelport.engine.backend import JsonObject, WorkerError

_STOPS_LIMIT, _STOP_CHARACTERS_LIMIT = 16, 1024
_BIAS_LIMIT = 1024
_TOP_LOGPROBS_LIMIT = 20
_TOKEN_IDS_LIMIT = 64

# Known fields of the dialects and of other engines that this one cannot honour, with the values that ask for nothing.
_NOT_DONE: Mapping[str, tuple[Any, ...]] = {
    "functions": ([],), "function_call": ("none", "auto"), "audio": (), "web_search_options": (), "data_sources": ([],),
    "reasoning_effort": ("none",), "thinking": (), "enable_thinking": (False,), "verbosity": (), "prediction": (),
    # constraints in other engines' words
    "grammar": ("",), "json_schema": (), "guided_json": (), "guided_regex": (), "guided_choice": (),
    "guided_grammar": (), "guided_whitespace_pattern": (), "structured_outputs": (), "regex": (), "ebnf": (),
    "allowed_token_ids": ([],), "bad_words": ([],), "logits_processors": ([],), "structural_tag": (),
    # sampling in other engines' words
    "length_penalty": (1,), "early_stopping": (False,), "prompt_logprobs": (0, False), "top_a": (0,), "tfs_z": (1,),
    "mirostat": (0,), "dynatemp_range": (0,), "xtc_probability": (0,), "dry_multiplier": (0,), "top_n_sigma": (-1, 0),
    "no_repeat_ngram_size": (0,), "epsilon_cutoff": (0,), "eta_cutoff": (0,), "penalty_alpha": (0,),
    "samplers": (), "adaptive_target": (-1,), "n_keep": (0,), "lora": ([],), "k": (), "p": (), "random_seed": (),
    # the prompt in other engines' words
    "continue_final_message": (False,), "add_generation_prompt": (True,), "documents": ([],), "chat_template": (),
    "chat_template_kwargs": ({},), "mm_processor_kwargs": ({},), "truncate_prompt_tokens": (), "truncation": (),
    "add_special_tokens": (True,), "spaces_between_special_tokens": (True,), "return_tokens_as_token_ids": (False,),
    "citation_options": ({},), "prompt_mode": (),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sampling:
    """One generation's settings. `engine` is what the engine is told; the rest is done here."""

    engine: Mapping[str, Any]
    seed: int | None = None
    stops: tuple[str, ...] = ()
    keeps_stop: bool = False
    stop_token_ids: frozenset[int] = frozenset()
    ignores_end: bool = False
    skips_special: bool = True
    min_tokens: int = 0
    top_logprobs: int | None = None
    bias: tuple[tuple[int, float], ...] = field(default=())


def read_sampling(request: JsonObject, defaults: Mapping[str, float], vocabulary_size: int) -> Sampling:
    """The request's settings. Refuses what is out of bounds, and what is known but cannot be done here."""
    refuse_not_done(request)
    engine = {
        "temperature": _number(request, "temperature", 0, 2, defaults["temperature"]),
        "top_p": _number(request, "top_p", 0, 1, defaults["top_p"]),
        "top_k": max(0, int(_whole(request, "top_k", -1, 1 << 20, int(defaults["top_k"])) or 0)),
        "min_p": _number(request, "min_p", 0, 1, defaults["min_p"]),
        "typical_p": _number(request, "typical_p", 0, 1, 1.0),
        "frequency_penalty": _number(request, "frequency_penalty", -2, 2, 0.0),
        "presence_penalty": _number(request, "presence_penalty", -2, 2, 0.0),
        "repeat_penalty": _number(
            request,
            "repetition_penalty" if "repetition_penalty" in request else "repeat_penalty",
            0.01,
            10,
            defaults["repeat_penalty"],
        ),
    }
    return Sampling(
        engine=engine,
        seed=_whole(request, "seed", -(1 << 63), (1 << 64) - 1),
        stops=_stops(request.get("stop")),
        keeps_stop=_flag(request, "include_stop_str_in_output", default=False),
        stop_token_ids=frozenset(_token_ids(request.get("stop_token_ids"), "stop_token_ids", vocabulary_size)),
        ignores_end=_flag(request, "ignore_eos", default=False),
        skips_special=_flag(request, "skip_special_tokens", default=True),
        min_tokens=_whole(request, "min_tokens", 0, 1 << 20, 0) or 0,
        top_logprobs=_top_logprobs(request),
        bias=_bias(request.get("logit_bias"), vocabulary_size),
    )


def refuse_not_done(request: JsonObject) -> None:
    """Refuses known fields that would otherwise be ignored in silence."""
    for name, harmless in _NOT_DONE.items():
        value = request.get(name)
        if value is not None and value not in harmless:
            raise WorkerError.unsupported(name, f"This model does not support '{name}'.")
    if request.get("modalities") not in (None, ["text"]):
        raise WorkerError.unsupported("modalities", "This model answers with text only.")


def read_token_limit(request: JsonObject, default: int | None) -> int | None:
    """`max_completion_tokens` or `max_tokens`, else the model's default; None is as much as the context holds."""
    for name in ("max_completion_tokens", "max_tokens"):
        if request.get(name) is not None:
            return _whole(request, name, 0, 1 << 31)
    return default


def read_choices(request: JsonObject, limit: int) -> tuple[int, int | None]:
    """`n` and `best_of`."""
    n = _whole(request, "n", 1, 128, 1) or 1
    best_of = _whole(request, "best_of", 1, 128)
    for name, value in (("n", n), ("best_of", best_of)):
        if value is not None and value > limit:
            raise WorkerError.invalid(name, f"'{name}' is {value}; this server makes at most {limit} at a time.")
    return n, best_of


def engine_seed(seed: int | None, choice: int) -> int | None:
    """The seed of one choice in the engine's 32 bits, of which the highest value means "any"."""
    return None if seed is None else (seed + choice) % 0xFFFFFFFF


def _number(request: JsonObject, name: str, least: float, most: float, default: float) -> float:
    value = request.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise WorkerError.invalid(name, f"'{name}' must be a number from {least} to {most}.")
    return float(value)


def _whole(request: JsonObject, name: str, least: int, most: int, default: int | None = None) -> int | None:
    value = request.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise WorkerError.invalid(name, f"'{name}' must be a whole number from {least} to {most}.")
    return value


def _flag(request: JsonObject, name: str, *, default: bool) -> bool:
    value = request.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise WorkerError.invalid(name, f"'{name}' must be true or false.")
    return value


def _stops(value: Any) -> tuple[str, ...]:
    stops = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) and stop for stop in stops):
        raise WorkerError.invalid("stop", "'stop' must be a text or a list of texts, none of them empty.")
    if len(stops) > _STOPS_LIMIT or any(len(stop) > _STOP_CHARACTERS_LIMIT for stop in stops):
        raise WorkerError.invalid(
            "stop", f"'stop' takes at most {_STOPS_LIMIT} texts of at most {_STOP_CHARACTERS_LIMIT} characters."
        )
    return tuple(stops)


def _token_ids(value: Any, name: str, vocabulary_size: int) -> list[int]:
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > _TOKEN_IDS_LIMIT:
        raise WorkerError.invalid(name, f"'{name}' must be a list of at most {_TOKEN_IDS_LIMIT} token ids.")
    if not all(is_token(token, vocabulary_size) for token in value):
        raise WorkerError.invalid(name, f"'{name}' has entries that are not token ids of this model.")
    return value


def is_token(value: Any, vocabulary_size: int) -> bool:
    """Whether a JSON value is one of the model's token ids."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < vocabulary_size


def _top_logprobs(request: JsonObject) -> int | None:
    """How many alternatives are wanted beside each token; None is no log probabilities at all."""
    wanted = request.get("logprobs")
    top = _whole(request, "top_logprobs", 0, _TOP_LOGPROBS_LIMIT)
    if wanted is None or wanted is False:
        if top:
            raise WorkerError.invalid("top_logprobs", "'top_logprobs' needs 'logprobs'.")
        return None
    if wanted is True:
        return top or 0
    return _whole(request, "logprobs", 0, _TOP_LOGPROBS_LIMIT)


def _bias(value: Any, vocabulary_size: int) -> tuple[tuple[int, float], ...]:
    if value is None:
        return ()
    if not isinstance(value, dict) or len(value) > _BIAS_LIMIT:
        raise WorkerError.invalid("logit_bias", f"'logit_bias' must map at most {_BIAS_LIMIT} token ids to numbers.")
    biases = []
    for key, bias in value.items():
        token = int(key) if key.isascii() and key.isdigit() and len(key) < 10 else -1
        is_number = isinstance(bias, int | float) and not isinstance(bias, bool) and -100 <= bias <= 100
        if not is_token(token, vocabulary_size) or not is_number:
            raise WorkerError.invalid("logit_bias", "'logit_bias' maps token ids of this model to -100 … 100.")
        biases.append((token, float(bias)))
    return tuple(biases)
