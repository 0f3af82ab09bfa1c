"""A whole answer is its chunks, added up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from modelport.engine.folding import fold_chat, fold_completion

IDENTITY = {"id": "chatcmpl-1", "created": 5, "model": "m"}
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


async def stream(chunks: list[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
    for chunk in chunks:
        yield {**IDENTITY, **chunk}


def part(index: int, delta: dict[str, Any], reason: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": delta, "logprobs": None, "finish_reason": reason, **fields}]}


async def test_choices_that_interleave_come_out_in_their_order() -> None:
    chunks = [
        part(1, {"role": "assistant", "content": ""}),
        part(0, {"role": "assistant", "content": ""}),
        part(1, {"content": "b"}, logprobs={"content": [{"token": "b"}]}),
        part(0, {"content": "a"}),
        part(1, {"content": "B"}, logprobs={"content": [{"token": "B"}]}),
        part(1, {}, "stop"),
        part(0, {}, "length"),
        {"choices": [], "usage": USAGE},
    ]
    whole = await fold_chat(stream(chunks))
    assert whole == {
        **IDENTITY,
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "a", "tool_calls": None},
                "finish_reason": "length",
                "logprobs": None,
            },
            {
                "index": 1,
                "message": {"role": "assistant", "content": "bB", "tool_calls": None},
                "finish_reason": "stop",
                "logprobs": {"content": [{"token": "b"}, {"token": "B"}]},
            },
        ],
        "usage": USAGE,
    }


async def test_fragments_of_tool_calls_become_calls() -> None:
    head = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}
    chunks = [
        part(0, {"role": "assistant", "content": ""}),
        part(0, {"tool_calls": [{"index": 0, **head}]}),
        part(0, {"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]}),
        part(0, {"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]}),
        part(0, {}, "tool_calls"),
        {"choices": [], "usage": USAGE},
    ]
    for _ in range(2):  # folding leaves the chunks as they were
        message = (await fold_chat(stream(chunks)))["choices"][0]["message"]
        function = {"name": "f", "arguments": '{"a": 1}'}
        assert message == {"role": "assistant", "content": None, "tool_calls": [{**head, "function": function}]}


async def test_older_log_probabilities_are_lists_that_grow() -> None:
    def piece(text: str, at: int) -> dict[str, Any]:
        found = {"tokens": [text], "token_logprobs": [-1.0], "top_logprobs": [{}], "text_offset": [at]}
        return {"choices": [{"index": 0, "text": text, "logprobs": found, "finish_reason": None}]}

    end = {"choices": [{"index": 0, "text": "", "logprobs": None, "finish_reason": "stop"}]}
    whole = await fold_completion(stream([piece("a", 0), piece("b", 1), end, {"choices": [], "usage": USAGE}]))
    assert whole["choices"][0]["text"] == "ab"
    assert whole["choices"][0]["logprobs"]["text_offset"] == [0, 1]
    assert whole["choices"][0]["finish_reason"] == "stop"
    assert whole["usage"] == USAGE
