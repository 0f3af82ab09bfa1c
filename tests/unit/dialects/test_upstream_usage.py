"""An upstream's counts are believed as far as they agree with each other: classes are disjoint, none is negative, and
what no class explains is not lost."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from modelport.core.events import UsageReported
from modelport.core.usage import TokenUsage
from modelport.dialects.openai_chat.upstream_usage import COUNT_DIGITS, merged, usage_report


def counts(prompt: Any = None, completion: Any = None, total: Any = None, **more: Any) -> dict[str, Any]:
    """OpenAI's names; None: the field is not there."""
    said = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total, **more}
    return {name: value for name, value in said.items() if value is not None}


def cached(count: int) -> dict[str, Any]:
    return {"prompt_tokens_details": {"cached_tokens": count}}


def thought(count: Any) -> dict[str, Any]:
    return {"completion_tokens_details": {"reasoning_tokens": count}}


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (counts(19, 45, 64), TokenUsage(input=19, output=45)),
        (counts(19, 45), TokenUsage(input=19, output=45)),
        (counts(19, 45, 0), TokenUsage(input=19, output=45)),
        (counts("19", "45", "64"), TokenUsage(input=19, output=45)),
        (counts(19.0, 45, 64), TokenUsage(input=19, output=45)),
        (counts(7, None, 7), TokenUsage(input=7)),
        (counts(7, None, 9), TokenUsage(input=7, output=2)),
        (counts(7, 0, 9), TokenUsage(input=7, output=2)),
        (counts(None, 2, 9), TokenUsage(input=7, output=2)),
        (counts("seven", 2, 9), TokenUsage(input=7, output=2)),
        (counts(-7, 2, 9), TokenUsage(input=7, output=2)),
        (counts(10, 4, 14, prompt_cache_hit_tokens=8), TokenUsage(input=2, cached_input=8, output=4)),
        (counts(10, 4, 14, cached_tokens=8), TokenUsage(input=2, cached_input=8, output=4)),
        (counts(10, 4, 14, **cached(8)), TokenUsage(input=2, cached_input=8, output=4)),
        (counts(10, 4, 34, **thought(20)), TokenUsage(input=10, output=4, reasoning=20)),
        (counts(10, 24, 34, **thought(20)), TokenUsage(input=10, output=4, reasoning=20)),
        (
            counts(9, 1, 10, prompt_tokens_details={"cache_write_tokens": 4}),
            TokenUsage(input=5, cache_write=4, output=1),
        ),
        (
            counts(5, 1, 21, cache_read_input_tokens=7, cache_creation_input_tokens=8),
            TokenUsage(input=5, cached_input=7, cache_write=8, output=1),
        ),
        (
            counts(20, 1, 21, cache_read_input_tokens=7, cache_creation_input_tokens=8),
            TokenUsage(input=5, cached_input=7, cache_write=8, output=1),
        ),
        (
            {"input_tokens": 5, "output_tokens": 1, "cache_read_input_tokens": 3},
            TokenUsage(input=5, cached_input=3, output=1),
        ),
        (
            {
                "input_tokens": 5,
                "output_tokens": 3,
                "total_tokens": 8,
                "output_tokens_details": {"reasoning_tokens": 2},
            },
            TokenUsage(input=5, output=1, reasoning=2),
        ),
        (
            {"promptTokenCount": 5, "candidatesTokenCount": 3, "thoughtsTokenCount": 4, "totalTokenCount": 12},
            TokenUsage(input=5, output=3, reasoning=4),
        ),
        ({"inputTokens": 5, "outputTokens": 3, "totalTokens": 8}, TokenUsage(input=5, output=3)),
        (
            counts(
                100,
                50,
                150,
                prompt_tokens_details={"cached_tokens": 60, "audio_tokens": 10},
                completion_tokens_details={"reasoning_tokens": 30, "audio_tokens": 5},
            ),
            TokenUsage(input=30, cached_input=60, audio_input=10, output=15, reasoning=30, audio_output=5),
        ),
    ],
)
def test_counts_that_agree_are_believed(usage: dict[str, Any], expected: TokenUsage) -> None:
    assert usage_report(usage) == UsageReported(expected)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (counts(10, 5, 20), TokenUsage(input=10, output=10)),
        (counts(10, 5, 20, **thought(3)), TokenUsage(input=10, output=7, reasoning=3)),
        (counts(5, 2, 7, **cached(99)), TokenUsage(input=5, output=2)),
        (counts(5, 2, 7, **thought(99)), TokenUsage(input=5, output=2)),
        (counts(5, 2, **thought(9)), TokenUsage(input=5, output=2, reasoning=9)),
        (
            counts(9, 2, 11, prompt_tokens_details={"cached_tokens": 6, "audio_tokens": 6}),
            TokenUsage(cached_input=6, audio_input=3, output=2),
        ),
        (counts(9, 2, 11, completion_tokens_details={"audio_tokens": 3}), TokenUsage(input=9, output=2)),
    ],
)
def test_counts_that_had_to_be_explained_say_so(usage: dict[str, Any], expected: TokenUsage) -> None:
    assert usage_report(usage) == UsageReported(expected, is_sure=False)


def test_a_total_alone_is_a_total() -> None:
    assert usage_report(counts(None, None, 9)) == UsageReported(TokenUsage(), is_sure=False, total=9)
    assert usage_report(counts("?", math.nan, 9)) == UsageReported(TokenUsage(), is_sure=False, total=9)


@pytest.mark.parametrize(
    "usage",
    [
        None,
        "many",
        [],
        {},
        counts(0, 0, 0),
        counts(-5, True),
        counts("x", [], {}),
        counts(1e30, 10**COUNT_DIGITS, 2**70),
        counts(7.5, math.inf),
        counts(10, 5, 7),
    ],
)
def test_what_cannot_be_believed_is_no_report(usage: Any) -> None:
    assert usage_report(usage) is None


def test_a_side_that_cannot_be_read_is_not_counted() -> None:
    assert usage_report(counts("x", 5)) == UsageReported(TokenUsage(output=5))
    assert usage_report(counts(1e30, 5, 1e30)) == UsageReported(TokenUsage(output=5))
    assert usage_report(counts(5, -1)) == UsageReported(TokenUsage(input=5))


def report(prompt: int = 0, completion: int = 0, **more: Any) -> UsageReported:
    return UsageReported(TokenUsage(input=prompt, output=completion), **more)


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        ([report(9, 1), report(9, 2), report(9, 3)], report(9, 3)),
        ([report(9), report(0, 3)], report(9, 3)),
        ([report(0, 3), report(9)], report(9, 3)),
        ([report(9), report(10, 3)], report(10, 3)),
        ([report(9, 3), None], report(9, 3)),
        ([None, report(9, 3)], report(9, 3)),
        ([report(total=5), report(9, 3)], report(9, 3)),
        ([report(9, 3), report(total=5)], report(9, 3)),
        ([None, None], None),
    ],
)
def test_of_several_reports_the_last_holds_side_by_side(
    reports: list[UsageReported | None], expected: UsageReported | None
) -> None:
    found = None
    for each in reports:
        found = merged(found, each)
    assert found == expected


COUNTS = (
    st.none() | st.integers(-5, 10**6) | st.floats(allow_nan=True) | st.booleans() | st.sampled_from(["7", "x", 1e30])
)
DETAILS = st.none() | st.dictionaries(
    st.sampled_from(["cached_tokens", "cache_write_tokens", "audio_tokens", "image_tokens", "reasoning_tokens"]), COUNTS
)
USAGES = st.builds(
    counts,
    COUNTS,
    COUNTS,
    COUNTS,
    prompt_tokens_details=DETAILS,
    completion_tokens_details=DETAILS,
    cache_read_input_tokens=COUNTS,
    cache_creation_input_tokens=COUNTS,
)


@example(counts(5, 0, 9, cache_read_input_tokens=4))
@given(USAGES)
def test_classes_are_disjoint_and_add_up_to_the_total(usage: dict[str, Any]) -> None:
    found = usage_report(usage)
    if found is None:
        return
    assert min(found.usage.classes()) >= 0
    total = usage.get("total_tokens")
    if isinstance(total, int) and not isinstance(total, bool) and total > 0 and found.usage.prompt:
        assert found.usage.total == total
    for name, side in (("prompt_tokens", found.usage.prompt), ("completion_tokens", found.usage.completion)):
        said = usage.get(name)
        if isinstance(said, int) and not isinstance(said, bool) and said > 0:
            assert side >= said


@given(st.lists(USAGES, max_size=4))
def test_reports_of_one_answer_keep_their_arithmetic(usages: list[dict[str, Any]]) -> None:
    found = None
    for usage in usages:
        found = merged(found, usage_report(usage))
    assert found is None or min(found.usage.classes()) >= 0
