"""The quick reading of a usual answer and the slow one of any agree."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from modelport.core.answers import PlainAnswer
from modelport.core.errors import ModelportError
from modelport.core.events import Event, FinishReason, UsageReported
from modelport.core.usage import TokenUsage
from modelport.dialects.openai_chat.upstream import UpstreamCodec
from modelport.dialects.openai_chat.upstream_chunks import ChunkReader
from modelport.dialects.openai_chat.upstream_simple import usual_events

counts = st.one_of(st.none(), st.integers(-1, 9), st.just("3"), st.just(True))
details = st.one_of(
    counts,
    st.dictionaries(
        st.sampled_from(["cached_tokens", "audio_tokens", "reasoning_tokens", "accepted_prediction_tokens", "x"]),
        st.one_of(st.integers(0, 4), counts, st.just(1.0)),
    ),
)
usages = st.one_of(
    st.fixed_dictionaries(
        {"prompt_tokens": st.integers(1, 9), "completion_tokens": st.integers(1, 9)},
        optional={
            "total_tokens": st.integers(2, 18),
            "prompt_tokens_details": details,
            "completion_tokens_details": details,
        },
    ),
    st.none(),
    st.just([]),
    st.dictionaries(
        st.sampled_from(["prompt_tokens", "completion_tokens", "total_tokens", "reasoning_tokens"]), counts
    ),
    st.fixed_dictionaries({name: st.integers(0, 9) for name in ("prompt_tokens", "completion_tokens", "total_tokens")}),
)
odd = st.sampled_from([None, "", "x", [], {}, 0, {"a": 1}])
messages = st.fixed_dictionaries(
    {"content": st.one_of(st.text(), st.none(), st.just([{"text": "a"}]))},
    optional=dict.fromkeys(
        ("tool_calls", "function_call", "reasoning", "reasoning_content", "refusal", "role", "annotations", "audio"),
        odd,
    ),
)
choices = st.fixed_dictionaries(
    {},
    optional={
        "message": st.one_of(messages, odd),
        "index": st.one_of(st.integers(-1, 1), st.none()),
        "finish_reason": st.sampled_from([None, "", "stop", "LENGTH", "tool_calls", "error", "eos", 3]),
        "logprobs": odd,
        "text": odd,
        "delta": odd,
        "content_filter_results": odd,
        "stop_reason": odd,
    },
)
answers = st.fixed_dictionaries(
    {"choices": st.lists(choices, max_size=2)},
    optional={
        "model": odd,
        "id": odd,
        "usage": st.one_of(usages, st.just({"prompt_tokens": 1, "completion_tokens": 1, "service_tier": "standard"})),
        "x_groq": st.just({"usage": {"prompt_tokens": 1}}),
        "error": odd,
        "service_tier": st.sampled_from([None, "", "default", "priority", 3]),
        "system_fingerprint": odd,
        "prompt_filter_results": odd,
        "kv_transfer_params": odd,
        "unknown": odd,
    },
)


def slowly(answer: dict[str, Any]) -> list[Event]:
    reader = ChunkReader(1)
    return reader.chunk(answer) + reader.finish(is_clean=True)


@example(
    {
        "choices": [{"message": {"content": "a"}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 9},
    }
)
@given(answers)
def test_whatever_is_read_quickly_is_read_slowly_alike(answer: dict[str, Any]) -> None:
    quick = usual_events(msgspec.json.encode(answer))
    if quick is None:
        return
    assert not answer.get("error")
    try:
        assert quick == slowly(answer)
    except ModelportError as refused:
        raise AssertionError(f"read slowly it is refused: {refused}") from refused


def test_the_usual_answer_is_read_quickly() -> None:
    message = {"role": "assistant", "content": "Hello", "tool_calls": None, "refusal": None}
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    answer = {"id": "c", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}
    assert usual_events(msgspec.json.encode(answer)) == slowly(answer)


def test_the_codec_gives_a_whole_answer_or_leaves_it_to_the_decoder() -> None:
    codec, choices = UpstreamCodec(), [{"message": {"content": "a"}, "finish_reason": "length"}]
    answer = {"id": "c", "choices": choices, "usage": {"prompt_tokens": 3, "completion_tokens": 1}}
    body = msgspec.json.encode(answer)
    assert codec.whole_answer(body) == PlainAnswer("a", FinishReason.LENGTH, None, "c", 3, 1)
    for other in (b"", b"data: [DONE]\n\n", body[:-1], b"\xef\xbb\xbf" + body, b'{"error":{"message":"no"}}'):
        assert codec.whole_answer(other) is None
    two = msgspec.json.encode({**answer, "choices": [*choices, {**choices[0], "index": 1}]})
    assert codec.whole_answer(two) is None


def test_counts_with_details_are_read_quickly() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 8, "total_tokens": 17}
    usage["prompt_tokens_details"] = {"cached_tokens": 3, "audio_tokens": 1}  # type: ignore[assignment]
    usage["completion_tokens_details"] = {"reasoning_tokens": 2, "audio_tokens": 1}  # type: ignore[assignment]
    answer = {"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}], "usage": usage}
    quick = usual_events(msgspec.json.encode(answer))
    assert quick is not None
    assert quick == slowly(answer)
    assert quick[-1].usage == TokenUsage(5, 3, 5, 2, 1, 1)  # type: ignore[union-attr]


def test_details_that_are_zeros_say_nothing() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 8, "prompt_tokens_details": {"cached_tokens": 0}}
    answer = {"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}], "usage": usage}
    assert UpstreamCodec().whole_answer(msgspec.json.encode(answer)) == PlainAnswer(
        "a", FinishReason.STOP, None, None, 9, 8
    )


def test_a_tier_that_is_not_the_usual_one_is_left_to_the_slow_reading() -> None:
    choices = [{"message": {"content": "a"}, "finish_reason": "stop"}]
    answer = {"choices": choices, "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
    assert usual_events(msgspec.json.encode({**answer, "service_tier": "priority"})) is None
    quick = usual_events(msgspec.json.encode({**answer, "service_tier": "default"}))
    assert quick is not None
    assert quick[-1] == UsageReported(TokenUsage(input=1, output=1), "default")
