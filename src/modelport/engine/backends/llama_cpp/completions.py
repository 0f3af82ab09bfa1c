"""Text completions: a request in, `text_completion` objects out."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from modelport.engine.backend import JsonObject, WorkerError
from modelport.engine.backends.llama_cpp.answering import Tally, answer, read_plan, wants_running_usage
from modelport.engine.backends.llama_cpp.generate import Ending
from modelport.engine.backends.llama_cpp.model import Model
from modelport.engine.backends.llama_cpp.prompts import check_room
from modelport.engine.backends.llama_cpp.sampling import is_token, read_token_limit
from modelport.engine.backends.llama_cpp.segments import Segment

_PROMPTS_LIMIT: Final = 64
_USUAL_LIMIT_TOKENS: Final = 256
_REFUSED: Final = ("response_format", "tools", "tool_choice", "messages")


@dataclass(frozen=True, slots=True)
class _Prompt:
    """A prompt as sent to the engine, and as text where it is to be echoed."""

    tokens: list[int]
    echo: str | None


async def complete(request: JsonObject, model: Model) -> AsyncGenerator[JsonObject]:
    """The answer's chunks and then its usage; `Backend.completions`' promise."""
    plan = await read_plan(request, model, may_best_equal_n=True)
    for name in _REFUSED:
        if request.get(name) is not None:
            raise WorkerError.unsupported(name, f"Text completions do not take '{name}'.")
    if request.get("echo") and plan.sampling.top_logprobs is not None:
        raise WorkerError.unsupported("logprobs", "The engine gives no log probabilities of an echoed prompt.")
    prompts = await _prompts(request, model)
    asked = read_token_limit(request, model.settings.default_max_tokens)
    wanted = _USUAL_LIMIT_TOKENS if asked is None else asked
    limits = [check_room(len(prompt.tokens), wanted, model.context, "prompt") for prompt in prompts]
    tally = Tally(sum(len(prompt.tokens) for prompt in prompts))
    envelope = {
        "id": f"cmpl-{uuid.uuid4().hex}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": model.settings.name,
    }
    is_running = wants_running_usage(request)
    offsets: dict[int, int] = {}

    def chunk(*choices: JsonObject) -> JsonObject:
        whole: JsonObject = {**envelope, "choices": list(choices)}
        return {**whole, "usage": tally.usage()} if is_running else whole

    pieces = answer(model, plan, [prompt.tokens for prompt in prompts], limits, tally)
    async with aclosing(pieces):
        async for index, piece in pieces:
            if index not in offsets:
                echo = prompts[index // plan.n].echo or ""
                offsets[index] = len(echo)
                if echo:
                    yield chunk(_choice(index, echo))
            if isinstance(piece, Ending):
                yield chunk(_choice(index, "", reason=piece.reason))
                continue
            if piece.text or piece.logprobs is not None:
                logprobs = None if piece.logprobs is None else _legacy_logprobs(piece.logprobs, offsets[index])
                yield chunk(_choice(index, piece.text, logprobs))
            elif is_running:
                yield chunk()
            offsets[index] += len(piece.text)
    yield {**envelope, "choices": [], "usage": tally.usage()}


def _choice(index: int, text: str, logprobs: JsonObject | None = None, reason: str | None = None) -> JsonObject:
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}


def _legacy_logprobs(logprobs: JsonObject, offset: int) -> JsonObject:
    """The four parallel lists of the older API, with one entry each."""
    return {
        "tokens": [logprobs["token"]],
        "token_logprobs": [logprobs["logprob"]],
        "top_logprobs": [{top["token"]: top["logprob"] for top in logprobs["top_logprobs"]}],
        "text_offset": [offset],
    }


async def _prompts(request: JsonObject, model: Model) -> list[_Prompt]:
    echoes = request.get("echo")
    if echoes is not None and not isinstance(echoes, bool):
        raise WorkerError.invalid("echo", "'echo' must be true or false.")
    values = _as_list(request.get("prompt"), model)
    suffix = request.get("suffix") or None
    if suffix is not None and not isinstance(suffix, str):
        raise WorkerError.invalid("suffix", "'suffix' must be a text.")
    if suffix is not None and model.vocabulary.middle is None:
        raise WorkerError.unsupported("suffix", "This model cannot fill in the middle.")
    return [await _prompt(value, suffix, bool(echoes), model) for value in values]


async def _prompt(value: str | list[int], suffix: str | None, echoes: bool, model: Model) -> _Prompt:
    if isinstance(value, str):
        tokens = await model.tokeniser.encode([Segment(value)], begins=suffix is None, param="prompt")
    else:
        check_room(len(value), 0, model.context, "prompt")
        tokens = value
    if suffix is not None:
        middle = model.vocabulary.middle
        assert middle is not None
        after = await model.tokeniser.encode([Segment(suffix)], begins=False, param="suffix")
        tokens = [middle.prefix, *tokens, middle.suffix, *after, middle.middle]
    echo = None
    if echoes:
        echo = value if isinstance(value, str) else await model.tokeniser.decode(value)
    return _Prompt(tokens or _beginning(model), echo)


def _beginning(model: Model) -> list[int]:
    """What stands for an empty prompt: the engine needs one token to go on from."""
    return [model.vocabulary.beginning if model.vocabulary.beginning is not None else min(model.vocabulary.ends)]


def _as_list(prompt: Any, model: Model) -> Sequence[str | list[int]]:
    if prompt is None:
        return [""]
    if isinstance(prompt, str):
        return [prompt]
    if not isinstance(prompt, list) or not prompt:
        raise WorkerError.invalid("prompt", "'prompt' must be a text, token ids, or a list of either.")
    if len(prompt) > model.context and isinstance(prompt[0], int):
        check_room(len(prompt), None, model.context, "prompt")
    if _is_tokens(prompt, model):
        return [prompt]
    if len(prompt) > _PROMPTS_LIMIT:
        raise WorkerError.invalid("prompt", f"'prompt' takes at most {_PROMPTS_LIMIT} prompts.")
    if all(isinstance(one, str) for one in prompt) or all(_is_tokens(one, model) for one in prompt):
        return prompt
    raise WorkerError.invalid("prompt", "'prompt' must be a text, token ids of this model, or a list of either.")


def _is_tokens(value: Any, model: Model) -> bool:
    return isinstance(value, list) and bool(value) and all(is_token(token, model.vocabulary.size) for token in value)
