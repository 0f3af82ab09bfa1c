"""Fragments of tool calls come out one call after the other, and nothing is lost."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from modelport.core.events import ToolCallDelta
from modelport.dialects.openai_shape.tool_order import ToolCallOrder


def ordered(*fragments: ToolCallDelta) -> list[ToolCallDelta]:
    order = ToolCallOrder()
    sent = [each for fragment in fragments for each in order.push(fragment)]
    return sent + order.end()


def test_fragments_of_one_call_pass_at_once() -> None:
    order = ToolCallOrder()
    first = ToolCallDelta(0, "c", "f")
    assert order.push(first) == [first]
    assert order.push(ToolCallDelta(0, arguments="{")) == [ToolCallDelta(0, arguments="{")]


def test_the_next_call_passes_at_once_when_the_one_before_is_whole() -> None:
    order = ToolCallOrder()
    order.push(ToolCallDelta(0, "c", "f", '{"a":'))
    order.push(ToolCallDelta(0, arguments="1} "))
    second = ToolCallDelta(1, "d", "g")
    assert order.push(second) == [second]


def test_an_interleaved_call_waits_for_the_one_before_it() -> None:
    zero, one, two = ToolCallDelta(0, "c", "f"), ToolCallDelta(1, "d", "g", "{}"), ToolCallDelta(0, arguments="{}")
    order = ToolCallOrder()
    assert order.push(zero) == [zero]
    assert order.push(one) == []
    assert order.push(two) == [two]
    assert order.end() == [one]


def test_a_call_that_never_gets_whole_lets_the_next_one_pass_at_the_end() -> None:
    zero, one = ToolCallDelta(0, "c", "f", '{"a'), ToolCallDelta(1, "d", "g")
    assert ordered(zero, one) == [zero, one]


calls = st.lists(
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)
    .map(json.dumps)
    .flatmap(
        lambda text: st.lists(st.integers(0, len(text)), max_size=3).map(
            lambda cuts: [text[a:b] for a, b in zip([0, *sorted(cuts)], [*sorted(cuts), len(text)], strict=True)]
        )
    ),
    min_size=1,
    max_size=4,
)


@given(calls, st.randoms(use_true_random=False))
def test_any_interleaving_comes_out_in_runs(pieces: list[list[str]], random: object) -> None:
    waiting = [
        [ToolCallDelta(i, f"c{i}", "f"), *(ToolCallDelta(i, arguments=piece) for piece in texts)]
        for i, texts in enumerate(pieces)
    ]
    mixed: list[ToolCallDelta] = []
    while any(waiting):
        mixed.append(random.choice([queue for queue in waiting if queue]).pop(0))  # type: ignore[attr-defined]
    sent = ordered(*mixed)
    runs = [fragment.index for i, fragment in enumerate(sent) if i == 0 or sent[i - 1].index != fragment.index]
    assert len(runs) == len(set(runs)) == len(pieces)
    for i, texts in enumerate(pieces):
        own = [fragment for fragment in sent if fragment.index == i]
        assert own[0].id == f"c{i}"
        assert "".join(fragment.arguments for fragment in own) == "".join(texts)
