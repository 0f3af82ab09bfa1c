"""Token counts on the wire: what another gateway reads back is what was metered here."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from modelport.core.usage import TokenUsage
from modelport.dialects.openai_chat.upstream_usage import usage_report
from modelport.dialects.openai_shape.usage_counts import usage_counts

COUNTED = ("input", "cached_input", "cache_write", "output", "reasoning", "audio_input", "audio_output")
USAGES = st.builds(TokenUsage, **dict.fromkeys(COUNTED, st.integers(0, 10**6)))


def written(usage: TokenUsage, always_detailed: bool) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(
        msgspec.json.encode(usage_counts(usage, always_detailed=always_detailed))
    )
    return found


@given(USAGES.filter(lambda usage: usage.total > 0), st.booleans())
def test_what_is_written_is_read_back_by_class(usage: TokenUsage, always_detailed: bool) -> None:
    report = usage_report(written(usage, always_detailed))
    assert report is not None
    assert (report.usage or report.total) == (usage if usage.prompt or usage.completion else 0)


def test_writes_to_a_cache_are_named_where_there_are_any() -> None:
    assert b"cache_write_tokens" not in msgspec.json.encode(usage_counts(TokenUsage(input=1), always_detailed=True))
    counts = written(TokenUsage(input=1, cache_write=2), False)
    assert counts["prompt_tokens"] == 3
    assert counts["prompt_tokens_details"]["cache_write_tokens"] == 2
