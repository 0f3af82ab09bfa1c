"""What upstreams answer that is not the usual."""

from __future__ import annotations

from typing import Any

from .harness import chunked, whole
from .shared import answered

HALF = [answered()[:40]]
BEGUN = [b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(answered()) + HALF[0]]


def message(**fields: Any) -> bytes:
    """An answer with this message."""
    return answered(choices=[{"index": 0, "message": {"role": "assistant", **fields}, "finish_reason": "stop"}])


CALLS = [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}
DETAILED = {
    "prompt_tokens": 9,
    "completion_tokens": 5,
    "total_tokens": 14,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
ERROR = b'{"error": {"message": "m", "code": "c", "type": "t"}}'
ODDITIES: dict[str, tuple[list[bytes], str]] = {
    "500": (whole(ERROR, "500 Oh"), "keeps"),
    "429": (whole(ERROR, "429 Slow", "Retry-After: 3"), "keeps"),
    "401": (whole(ERROR, "401 No"), "keeps"),
    "404": (whole(b"<html>", "404 No"), "keeps"),
    "204": ([b"HTTP/1.1 204 No\r\n\r\n"], "keeps"),
    "302": (whole(b"", "302 Go", "Location: /"), "keeps"),
    "closes": ([], "closes"),
    "closes-in-the-head": ([b"HTTP/1.1 200 OK\r\n"], "closes"),
    "closes-in-the-body": (BEGUN, "closes"),
    "closes-in-an-error": ([b"HTTP/1.1 500 Oh\r\nContent-Length: 100\r\n\r\nabc"], "closes"),
    "no-http": ([b"\x16\x03\x01garbage\r\n\r\n"], "closes"),
    "garbage": (whole(b"\xff\xfe\0"), "keeps"),
    "empty": (whole(b""), "keeps"),
    "no-json": (whole(b"{"), "keeps"),
    "a-list": (whole(b"[]"), "keeps"),
    "an-object": (whole(b"{}"), "keeps"),
    "error-in-200": (whole(ERROR), "keeps"),
    "a-stream": (
        chunked(b'data: {"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'),
        "keeps",
    ),
    "tool-calls": (whole(message(content=None, tool_calls=CALLS)), "keeps"),
    "text-and-tool-calls": (whole(message(content="a", tool_calls=CALLS)), "keeps"),
    "reasoning": (whole(message(content="a", reasoning_content="hm")), "keeps"),
    "no-text": (whole(message(content="")), "keeps"),
    "null": (whole(message(content=None)), "keeps"),
    "refusal": (whole(message(content=None, refusal="no")), "keeps"),
    "two-choices": (whole(answered(choices=[CHOICE, {**CHOICE, "index": 1}])), "keeps"),
    "no-choices": (whole(answered(choices=[])), "keeps"),
    "other-index": (whole(answered(choices=[{**CHOICE, "index": 1}])), "keeps"),
    "no-usage": (whole(answered(usage=None)), "keeps"),
    "usage-of-zero": (whole(answered(usage={"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0})), "keeps"),
    "usage-without-answer": (whole(answered(usage={"prompt_tokens": 3, "completion_tokens": 0})), "keeps"),
    "usage-by-class": (whole(answered(usage=DETAILED)), "keeps"),
    "usage-beyond-the-reserved": (
        whole(answered(usage={"prompt_tokens": 900, "completion_tokens": 800, "total_tokens": 1700})),
        "keeps",
    ),
    "usage-of-nonsense": (whole(answered(usage={"prompt_tokens": -1, "completion_tokens": "x"})), "keeps"),
    "dear-tier": (whole(answered(service_tier="priority")), "keeps"),
    "usual-tier": (whole(answered(service_tier="default")), "keeps"),
    "filtered": (whole(answered(choices=[{**CHOICE, "finish_reason": "content_filter"}])), "keeps"),
    "length": (whole(answered(choices=[{**CHOICE, "finish_reason": "length"}])), "keeps"),
    "no-reason": (whole(answered(choices=[{**CHOICE, "finish_reason": None}])), "keeps"),
    "broken-reason": (whole(answered(choices=[{**CHOICE, "finish_reason": "error"}])), "keeps"),
    "no-model": (whole(answered(model=None, id=None)), "keeps"),
    "odd-model": (whole(answered('%b "\\ \u2028 \ud83d\ude42', model="100%b")), "keeps"),
    "in-chunks": (chunked(answered(), 10, 40), "keeps"),
    "until-close": ([b"HTTP/1.1 200 OK\r\n\r\n" + answered()], "closes"),
    "large": (whole(answered("x" * 100_000)), "keeps"),
    "more-than-said": (whole(answered() + b" \n"), "keeps"),
    "two-answers": ([whole(answered())[0] * 2], "keeps"),
}


NEAR: dict[str, tuple[bytes, dict[str, Any]]] = {
    "fits": (answered("short"), {}),
    "bytes-beyond": (answered("ä" * 60), {}),
    "bytes-far-beyond": (answered("x" * 1000), {}),
    "counted-beyond": (answered("x " * 400, usage=None), {}),
    "reported-beyond": (
        answered("short", usage={"prompt_tokens": 90, "completion_tokens": 80, "total_tokens": 170}),
        {},
    ),
    "counted-and-bounded": (answered("x " * 400, usage=None), {"max_tokens": 40}),
    "bounded-beyond": (answered("x" * 1000), {"max_tokens": 40}),
    "too-long-a-prompt": (answered(), {"messages": [{"role": "user", "content": "x" * 400}]}),
}
