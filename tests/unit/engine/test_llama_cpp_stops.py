"""Stop texts: nothing of one is ever shown, and nothing else is lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from modelport.engine.backends.llama_cpp.stops import Piece, StopTexts


def fed(stops: list[str], pieces: list[str], *, is_kept: bool = False) -> tuple[list[str], bool]:
    """What came out after each piece, and at the end."""
    cutter = StopTexts(stops, is_kept=is_kept)
    shown: list[str] = []
    for count, text in enumerate(pieces, start=1):
        shown.append("".join(piece.text for piece in cutter.feed(Piece(text, count))))
    shown.append("".join(piece.text for piece in cutter.flush()))
    return shown, cutter.stopped


def test_a_stop_text_across_pieces_is_cut_and_nothing_follows() -> None:
    assert fed(["END"], ["one E", "N", "D two", "three"]) == (["", "", "one ", "", ""], True)


def test_what_only_looked_like_a_stop_text_is_shown_later() -> None:
    assert fed(["END"], ["a", "E", "N", "O", "E"]) == (["a", "", "", "ENO", "", "E"], False)


def test_the_earliest_of_several_stop_texts_counts() -> None:
    assert fed(["bc", "cd", "d"], ["abcd"]) == (["a", ""], True)


def test_a_kept_stop_text_is_shown_whole_and_is_the_last() -> None:
    assert fed(["\n\n"], ["a\n", "\nb"], is_kept=True) == (["", "a\n\n", ""], True)


def test_pieces_keep_what_is_known_of_them() -> None:
    cutter = StopTexts(["x"])
    piece = Piece("ab", 1, 7, {"token": "ab"})
    assert cutter.feed(piece) == [piece]


ALPHABET = st.text(alphabet="abé", max_size=6)


@given(st.lists(ALPHABET.filter(bool), min_size=1, max_size=3), st.lists(ALPHABET, max_size=12))
def test_however_the_text_is_cut_into_pieces_the_same_is_shown(stops: list[str], pieces: list[str]) -> None:
    text = "".join(pieces)
    found = [text.index(stop) for stop in stops if stop in text]
    shown, stopped = fed(stops, pieces)
    assert stopped == bool(found)
    # A stop text that is complete earlier ends the text even if another one began before it.
    whole = "".join(shown)
    assert text.startswith(whole)
    assert not any(stop in whole for stop in stops)
    if not found:
        assert whole == text


@given(st.lists(ALPHABET.filter(bool), min_size=1, max_size=3), st.lists(ALPHABET, max_size=12))
def test_no_part_of_a_stop_text_is_shown_before_it_is_known(stops: list[str], pieces: list[str]) -> None:
    cutter, fed_text, shown = StopTexts(stops), "", ""
    for count, piece in enumerate(pieces, start=1):
        fed_text += piece
        shown += "".join(safe.text for safe in cutter.feed(Piece(piece, count)))
        held = fed_text[len(shown) :]
        if not cutter.stopped:
            reaches = [stop[:size] for stop in stops for size in range(1, len(stop))]
            longest = max((len(part) for part in reaches if fed_text.endswith(part)), default=0)
            assert len(held) >= longest
