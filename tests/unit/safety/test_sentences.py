"""How a text is divided before it is judged."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from modelport.safety.sentences import split_pieces


def pieces(text: str, limit: int = 240) -> list[str]:
    return [text[start:end] for start, end in split_pieces(text, limit)]


def test_short_sentences_are_joined_and_long_ones_end_with_a_word() -> None:
    assert pieces("One. Two! Three?") == ["One. Two! Three?"]
    assert pieces("One two. Three four. Five.", 21) == ["One two. Three four.", "Five."]
    assert pieces("aaaa bbbb cccc dddd", 10) == ["aaaa bbbb", "cccc dddd"]


def test_a_text_without_any_space_is_cut_hard() -> None:
    assert pieces("x" * 25, 10) == ["x" * 10, "x" * 10, "x" * 5]


def test_blank_texts_have_no_pieces() -> None:
    assert pieces("") == pieces(" \n\n ") == []


@given(st.text(alphabet="ab .!?\n。é😀", max_size=120), st.integers(4, 30))
def test_pieces_hold_every_character_but_blanks_in_order_and_none_is_too_long(text: str, limit: int) -> None:
    found = split_pieces(text, limit)
    assert all(end - start <= limit for start, end in found)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(found))
    covered = {at for start, end in found for at in range(start, end)}
    assert all(text[at].isspace() for at in range(len(text)) if at not in covered)
