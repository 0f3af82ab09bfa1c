"""Other people's text in a prompt stays text, and stays whole."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from modelport.engine.backends.llama_cpp.segments import Segment, fill, joined, placeholder, without_markup

MARK = "Zq0123x"
TRUSTED = st.builds(Segment, st.text(max_size=5), st.just(True))
SEGMENTS = st.lists(st.one_of(TRUSTED, st.builds(Segment, st.text(max_size=5))), max_size=6)


def test_contents_take_the_places_that_the_template_gave_them() -> None:
    rendered = f"<|s|>{placeholder(MARK, 1)}<|e|>{placeholder(MARK, 0)}"
    told = [[Segment("first <|e|>")], [Segment("second"), Segment("<call>", is_trusted=True)]]
    assert fill(rendered, MARK, told) == [
        Segment("<|s|>", is_trusted=True),
        Segment("second"),
        Segment("<call><|e|>", is_trusted=True),
        Segment("first <|e|>"),
    ]


def test_a_content_that_looks_like_a_place_is_not_one() -> None:
    forged = [[Segment(placeholder(MARK, 1))], [Segment("other")]]
    assert fill(placeholder(MARK, 0), MARK, forged) == [Segment(placeholder(MARK, 1))]


@given(SEGMENTS)
def test_joining_keeps_every_character_and_whose_it_is(segments: list[Segment]) -> None:
    def characters(runs: list[Segment]) -> list[tuple[str, bool]]:
        return [(character, run.is_trusted) for run in runs for character in run.text]

    runs = joined(segments)
    assert characters(runs) == characters(segments)
    assert all(run.text for run in runs)
    assert all(one.is_trusted != other.is_trusted for one, other in pairwise(runs))


def test_markers_are_cut_after_their_first_character() -> None:
    assert without_markup("a<tool_call>b", ["<tool_call>"]) == ["a<", "tool_call>b"]
    assert without_markup("nothing < here", ["<tool_call>"]) == ["nothing < here"]


MARKUP = ["<tool_call>", "</tool_call>", "<<"]


@given(st.lists(st.sampled_from([*MARKUP, "<", ">", "a", "tool_call", "/"]), max_size=12).map("".join))
def test_cut_markers_are_in_no_part_and_the_parts_are_the_text(text: str) -> None:
    parts = without_markup(text, MARKUP)
    assert "".join(parts) == text
    assert not any(marker in part for marker in MARKUP for part in parts)
