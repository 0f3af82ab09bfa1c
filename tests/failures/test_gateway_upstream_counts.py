"""What an upstream says it has counted, at a real server: booked as far as it can be believed; the record says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from modelport.core.usage import TokenUsage
from scripted_upstream import ScriptedUpstream, document, events
from served import Served

CHAT = "/v1/chat/completions"
TEXT = "word " * 40
LIKELY = 5
"""Tokens of the prompt by its length: two bytes, and what stands around a turn."""
BY_LENGTH = 50
"""Tokens of TEXT by its length."""
MODEL = {"format": "Custom", "name": "far", "version": "1"}


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def served(serve_module: Callable[..., Served], upstream: ScriptedUpstream) -> Served:
    config = {
        "providers": {"far": {"type": "openai_compatible", "base_url": upstream.url}},
        "deployments": {"far": {"model": MODEL, "provider": "far", "default": True}},
    }
    return serve_module(config)


def said(prompt: Any, completion: Any, total: Any = None, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total, **more}


USAGES: dict[str, tuple[Any, TokenUsage, str]] = {
    "as usual": (said(7, 40, 47), TokenUsage(input=7, output=40), "reported"),
    "digits as text": (said("7", 40, 47), TokenUsage(input=7, output=40), "reported"),
    "words": (said("seven", "forty", "x"), TokenUsage(input=LIKELY, output=BY_LENGTH), "estimated"),
    "only one is a number": (said("seven", 40), TokenUsage(input=LIKELY, output=40), "estimated"),
    "negative": (said(-7, -40, -47), TokenUsage(input=LIKELY, output=BY_LENGTH), "estimated"),
    "truths": (said(True, True, True), TokenUsage(input=LIKELY, output=BY_LENGTH), "estimated"),
    "huge": (said(1e30, 1e30, 2e30), TokenUsage(input=LIKELY, output=BY_LENGTH), "estimated"),
    "fractions": (said(7.5, 40.5, 60), TokenUsage(input=10, output=BY_LENGTH), "estimated"),
    "nothing for a text": (said(7, 0, 7), TokenUsage(input=7, output=BY_LENGTH), "estimated"),
    "less than the text can be": (said(7, 2, 9), TokenUsage(input=7, output=BY_LENGTH), "estimated"),
    "a total alone": ({"total_tokens": 60}, TokenUsage(input=10, output=BY_LENGTH), "estimated"),
    "more in all": (said(7, 40, 60), TokenUsage(input=7, output=53), "estimated"),
    "less in all": (said(700, 400, 10), TokenUsage(input=LIKELY, output=BY_LENGTH), "estimated"),
    "a cache larger than the prompt": (
        said(7, 40, 47, prompt_tokens_details={"cached_tokens": 99}),
        TokenUsage(input=7, output=40),
        "estimated",
    ),
    "more thoughts than words": (
        said(7, 40, 47, completion_tokens_details={"reasoning_tokens": 99}),
        TokenUsage(input=7, output=40),
        "estimated",
    ),
    "other words": ({"input_tokens": 7, "output_tokens": 40}, TokenUsage(input=7, output=40), "reported"),
}


def asked(**fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "Hi"}], **fields}


def delta(text: str | None = None, reason: str | None = None, **more: Any) -> dict[str, Any]:
    content = {} if text is None else {"content": text}
    return {"id": "u", "model": "m", "choices": [{"index": 0, "delta": content, "finish_reason": reason}], **more}


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("usage", "expected", "source"), USAGES.values(), ids=USAGES)
def test_counts_are_booked_as_far_as_they_can_be_believed(
    served: Served, upstream: ScriptedUpstream, streamed: bool, usage: Any, expected: TokenUsage, source: str
) -> None:
    if streamed:
        upstream.says(events(delta(TEXT), delta(reason="stop"), {"choices": [], "usage": usage}))
    else:
        message = {"role": "assistant", "content": TEXT}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        upstream.says(document({"id": "u", "model": "m", "choices": [choice], "usage": usage}))
    known = len(served.journal())
    options = {"stream": True, "stream_options": {"include_usage": True}} if streamed else {}
    got = served.call("POST", CHAT, asked(**options))
    assert got.status == 200
    (record,) = served.journal()[known:]
    assert (record.usage, record.usage_source) == (expected, source)
    assert got.usage["total_tokens"] == expected.total


def finished(**more: Any) -> dict[str, Any]:
    return delta(reason="stop", **more)


STREAMS: dict[str, tuple[list[Any], TokenUsage, str]] = {
    "with each event": (
        [delta("a", usage=said(7, 1, 8)), delta("b", usage=said(7, 2, 9)), finished(usage=said(7, 3, 10))],
        TokenUsage(input=7, output=3),
        "reported",
    ),
    "in two halves": (
        [delta("a", usage=said(7, 0, 7)), finished(usage={"completion_tokens": 3})],
        TokenUsage(input=7, output=3),
        "reported",
    ),
    "before the last event": (
        [delta("a"), delta(usage=said(7, 3, 10)), delta("b"), finished(usage=None)],
        TokenUsage(input=7, output=3),
        "reported",
    ),
    "with nothing at the end": (
        [delta("a", usage=said(7, 3, 10)), finished(), {"choices": [], "usage": said(0, 0, 0)}],
        TokenUsage(input=7, output=3),
        "reported",
    ),
}


@pytest.mark.parametrize(("chunks", "expected", "source"), STREAMS.values(), ids=STREAMS)
def test_counts_that_come_more_than_once(
    served: Served, upstream: ScriptedUpstream, chunks: list[Any], expected: TokenUsage, source: str
) -> None:
    upstream.says(events(*chunks))
    known = len(served.journal())
    assert served.call("POST", CHAT, asked(stream=True)).status == 200
    (record,) = served.journal()[known:]
    assert (record.usage, record.usage_source) == (expected, source)


@pytest.mark.parametrize(
    ("counts", "expected", "source"),
    [
        ([said(7, 2, 9), said(7, 3, 10)], TokenUsage(input=7, output=5), "reported"),
        ([said(7, 2, 9), None], TokenUsage(input=LIKELY, output=2 * BY_LENGTH), "estimated"),
    ],
    ids=["each", "one is missing"],
)
def test_counts_of_each_choice(
    served: Served, upstream: ScriptedUpstream, counts: list[Any], expected: TokenUsage, source: str
) -> None:
    text = TEXT if None in counts else "a"
    choices = [
        {"index": index, "message": {"content": text}, "finish_reason": "stop", "usage": usage}
        for index, usage in enumerate(counts)
    ]
    upstream.says(document({"model": "m", "choices": choices}))
    known = len(served.journal())
    assert served.call("POST", CHAT, asked(n=2)).status == 200
    (record,) = served.journal()[known:]
    assert (record.usage, record.usage_source) == (expected, source)
