"""The exact bytes of streams: the same events on every surface. A surface's column of one case is the file
`<case>.<surface>.sse` beside this one. `python tests/golden/streams/test_golden_streams.py` writes them anew: look at
the difference before you commit it, every client does."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelport.core.answers import AnswerHead
from modelport.core.errors import EngineFailed
from modelport.core.events import (
    Answered,
    ChoiceFinished,
    Event,
    ExtraFields,
    FinishReason,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    UsageReported,
)
from modelport.core.usage import TokenUsage
from modelport.dialects.azure_inference import answers as azure_inference
from modelport.dialects.openai_chat import answers as openai_chat
from modelport.dialects.openai_shape.stream import ChunkStream

HERE = Path(__file__).parent
AZURE_HEAD = AnswerHead("f9a9e06e5c844339aee30ecb9f61ca8b", 1739300519, "mistral-large")
OPENAI_HEAD = AnswerHead("chatcmpl-0123456789abcdefghijABCDEFGHI", 1739300519, "gpt-4o")
USAGE = UsageReported(TokenUsage(input=19, output=45))
STOP = ChoiceFinished(FinishReason.STOP)

CASES: dict[str, list[Event]] = {
    "text": [
        Answered("upstream-name"),
        TextDelta("The"),
        TextDelta(' line\nbreak, "quotes", 한국어 and 👍'),
        TextDelta(""),
        STOP,
        USAGE,
    ],
    "length": [TextDelta("The"), ChoiceFinished(FinishReason.LENGTH), USAGE],
    "filtered": [TextDelta("The"), ChoiceFinished(FinishReason.CONTENT_FILTER), USAGE],
    "reasoning": [ReasoningDelta("Let me"), ReasoningDelta(" see."), TextDelta("Yes"), TextDelta("."), STOP, USAGE],
    "tools": [
        ToolCallDelta(0, "call_a", "get_weather"),
        ToolCallDelta(0, arguments='{"city":'),
        ToolCallDelta(0, arguments='"Paris"}'),
        ToolCallDelta(1, "call_b", "get_time", "{}"),
        ChoiceFinished(FinishReason.TOOL_CALLS),
        USAGE,
    ],
    "interleaved_tools": [
        TextDelta("Calling."),
        ToolCallDelta(0, "call_a", "get_weather"),
        ToolCallDelta(1, "call_b", "get_time"),
        ToolCallDelta(0, arguments="{"),
        ToolCallDelta(1, arguments="{"),
        ToolCallDelta(1, arguments="}"),
        ToolCallDelta(0, arguments="}"),
        ChoiceFinished(FinishReason.TOOL_CALLS),
        USAGE,
    ],
    "two_choices": [
        TextDelta("a", 0),
        TextDelta("b", 1),
        ChoiceFinished(FinishReason.STOP, 0),
        TextDelta("c", 1),
        ChoiceFinished(FinishReason.LENGTH, 1),
        USAGE,
    ],
    "logprobs": [
        TextDelta(
            "Hi", logprobs={"content": [{"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": []}]}
        ),
        STOP,
        USAGE,
    ],
    "extra": [
        TextDelta("The", extra=ExtraFields({"system_fingerprint": "fp"}, {"content_filter_results": {}})),
        TextDelta("", extra=ExtraFields(message={"annotations": [{"type": "url_citation"}]})),
        ToolCallDelta(0, "call_a", "look", "{}", extra={"extra_content": {"s": 1}, "function": {"signed": True}}),
        ChoiceFinished(FinishReason.TOOL_CALLS, extra=ExtraFields({"system_fingerprint": "fp"}, {"native": "end"})),
        USAGE,
    ],
    "refusal": [ReasoningDelta("Hm."), RefusalDelta("I will"), RefusalDelta(" not."), STOP, USAGE],
    "details": [
        TextDelta("x"),
        STOP,
        UsageReported(TokenUsage(input=10, cached_input=9, output=5, reasoning=40)),
    ],
}


def streams() -> dict[str, ChunkStream]:
    """A fresh one of each surface and setting."""
    return {
        "azure_inference": azure_inference.ChatStream(AZURE_HEAD),
        "azure_inference.usage_asked": azure_inference.ChatStream(AZURE_HEAD, include_usage=True, reasoning="field"),
        "openai_chat": openai_chat.ChatStream(OPENAI_HEAD),
        "openai_chat.usage_asked": openai_chat.ChatStream(OPENAI_HEAD, include_usage=True, reasoning="inline"),
        "azure_inference.completions": azure_inference.CompletionsStream(AZURE_HEAD),
        "openai_chat.completions": openai_chat.CompletionsStream(OPENAI_HEAD, include_usage=True),
    }


def written() -> dict[str, bytes]:
    """Every case on every surface, by file name."""
    files: dict[str, bytes] = {}
    for case, events in CASES.items():
        for name, stream in streams().items():
            files[f"{case}.{name}.sse"] = stream.feed(events) + stream.end()
    for name, stream in streams().items():
        broken = stream.feed([TextDelta("The")]) + stream.broken(EngineFailed("The model broke while it answered."))
        files[f"broken.{name}.sse"] = broken
    return files


@pytest.mark.parametrize("name", written())
def test_the_bytes_are_the_golden_ones(name: str) -> None:
    assert written()[name] == (HERE / name).read_bytes()


def test_no_golden_file_is_left_over() -> None:
    assert {path.name for path in HERE.glob("*.sse")} == set(written())


if __name__ == "__main__":
    for file_name, content in written().items():
        (HERE / file_name).write_bytes(content)
