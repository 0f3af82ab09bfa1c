"""Folds a stream of chunks into the whole answer that it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from modelport.engine.backend import JsonObject


async def fold_chat(chunks: AsyncIterator[JsonObject]) -> JsonObject:
    """One `chat.completion` of `chat.completion.chunk` objects."""
    first: JsonObject = {}
    usage: JsonObject = {}
    choices: dict[int, JsonObject] = {}
    async for chunk in chunks:
        first = first or chunk
        usage = chunk.get("usage") or usage
        for part in chunk["choices"]:
            choice = choices.setdefault(part["index"], _empty_choice(part["index"]))
            _add_delta(choice["message"], part["delta"])
            _add_logprobs(choice, part.get("logprobs"))
            choice["finish_reason"] = part["finish_reason"] or choice["finish_reason"]
    for choice in choices.values():
        message = choice["message"]
        message["tool_calls"] = [message["tool_calls"][index] for index in sorted(message["tool_calls"])] or None
        if message["tool_calls"] and not message["content"]:
            message["content"] = None
    return _answer(first, "chat.completion", choices, usage)


async def fold_completion(chunks: AsyncIterator[JsonObject]) -> JsonObject:
    """One `text_completion` of many."""
    first: JsonObject = {}
    usage: JsonObject = {}
    choices: dict[int, JsonObject] = {}
    async for chunk in chunks:
        first = first or chunk
        usage = chunk.get("usage") or usage
        for part in chunk["choices"]:
            empty = {"index": part["index"], "text": "", "logprobs": None, "finish_reason": None}
            choice = choices.setdefault(part["index"], empty)
            choice["text"] += part["text"]
            choice["finish_reason"] = part["finish_reason"] or choice["finish_reason"]
            _add_logprobs(choice, part.get("logprobs"))
    return _answer(first, "text_completion", choices, usage)


def _answer(first: JsonObject, kind: str, choices: dict[int, JsonObject], usage: JsonObject) -> JsonObject:
    identity = {key: first.get(key) for key in ("id", "created", "model")}
    return {**identity, "object": kind, "choices": [choices[index] for index in sorted(choices)], "usage": usage}


def _empty_choice(index: int) -> JsonObject:
    message = {"role": "assistant", "content": "", "tool_calls": {}}
    return {"index": index, "message": message, "finish_reason": None, "logprobs": None}


def _add_delta(message: JsonObject, delta: JsonObject) -> None:
    message["content"] += delta.get("content") or ""
    for fragment in delta.get("tool_calls") or ():
        calls: dict[int, Any] = message["tool_calls"]
        if fragment["index"] not in calls:
            call = {key: value for key, value in fragment.items() if key != "index"}
            calls[fragment["index"]] = {**call, "function": dict(fragment["function"])}
            continue
        calls[fragment["index"]]["function"]["arguments"] += fragment["function"]["arguments"]


def _add_logprobs(choice: JsonObject, logprobs: JsonObject | None) -> None:
    """Lists grow; the fragments of the stream are left as they are."""
    if logprobs is None:
        return
    so_far = choice["logprobs"] or {}
    choice["logprobs"] = {key: [*so_far.get(key, ()), *entries] for key, entries in logprobs.items()}
