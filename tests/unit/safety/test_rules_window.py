"""What leaves of a text that grows: never a match, and in the end everything."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from blocklists import judged, question, rules, streamed
from modelport.core.safety import Category
from modelport.safety.rules.filter import RulesFilter
from modelport.safety.rules.folding import FOLDED
from modelport.safety.rules.window import PIECE, LiteralSearch, RegexSearch, RulesStream

ENTRIES = ("chopping tomatoes", "kill", "kill him", "ass", "c++", "項目", "$50 off", "a b")
REGEXES = (r"\bacme-\d{3}\b", r"x{2,4}y", r"[ab]?secret")
LITERALS_ONLY, BOTH = rules(*ENTRIES), rules(*ENTRIES, regexes=REGEXES)
PIECES = st.sampled_from(
    [
        *ENTRIES,
        *(
            "acme-123",
            "acme-1234",
            "xxy",
            "xxxxx",
            "secret",
            "asecret",
            "k1ll",
            "k!ll",
            "k i l l",
            "ki.ll",
            "KILL",
            "кill",
        ),
        *(
            "s",
            "er",
            "c",
            "+",
            "!",
            "$",
            " ",
            "  ",
            ".",
            "'",
            "\n",
            "\u200b",
            "\u0301",
            "0",
            "1",
            "é",
            "項",
            "a",
            "the",
            "\ud800",
        ),
        *(
            "k*ll",
            "k_ll",
            "kiiill",
            "kkiillll",
            "k*",
            "*ll",
            "f_",
            "ii",
            "iii",
            "choppingtomatoes",
            "cho*ping",
            "t_matoes",
        ),
        *("kk", "ll", "killl", "ass*", "asss", "ma*toes", "hhiimm"),
        *("chopping ", "tomatoes", "chop", "ping", "kil", "l", "acme-", "50 off", "ｋｉｌｌ", "ﬁle"),
    ]
)
TEXTS = st.lists(PIECES, max_size=14).map("".join)


def chunked(text: str, cuts: list[int]) -> list[str]:
    """The text in pieces that end at these places."""
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[start:end] for start, end in pairwise(places)]


def released(found: RulesFilter, chunks: list[str], window: int) -> tuple[str, bool]:
    """What a client gets whose stream is cut at the first verdict, and whether it was cut."""
    stream, text, before = streamed(found, window), "".join(chunks), 0
    for chunk in [*chunks, None]:
        count, verdicts = stream.end() if chunk is None else stream.feed(chunk)
        assert before <= count <= len(text)
        before = count
        if verdicts:
            assert count <= min(verdict.start for verdict in verdicts)
            return text[: min(verdict.start for verdict in verdicts)], True
    return text[:before], False


@pytest.mark.parametrize("found", [LITERALS_ONLY, BOTH], ids=["literals", "with regexes"])
@pytest.mark.parametrize("window", [1000, 20])
@settings(max_examples=150, deadline=None)
@given(text=TEXTS, cuts=st.lists(st.integers(0, 200), max_size=30))
@example(text="kill! him", cuts=[4, 5])
@example(text="k!ll! him", cuts=[5])
@example(text="chopping tomatoesxxy", cuts=[])
@example(text="k!ll+kill+", cuts=[])
@example(text="I like c++ best", cuts=[8, 9, 10])
@example(text="a cho*ping t_matoes dish", cuts=[5, 6, 8, 13])
@example(text="to kiiiill now", cuts=[5, 6, 7, 8, 9])
@example(text="to kkiillll now", cuts=[4, 5, 6, 7])
@example(text="choppingtomatoes", cuts=[8])
@example(text="k*ll項目", cuts=[])
@example(text="killkillxxxxxserkiiill*llass+ass*killassassacme-1234", cuts=[132])
def test_no_match_leaves_whatever_the_chunks(found: RulesFilter, window: int, text: str, cuts: list[int]) -> None:
    got, is_cut = released(found, chunked(text, cuts), window)
    within = [
        verdict for verdict in judged(found, text) if len(FOLDED.apply(text[verdict.start : verdict.end])) <= window
    ]
    for verdict in judged(found, got):
        assert len(FOLDED.apply(got[verdict.start : verdict.end])) > window
    assert is_cut or not within
    assert is_cut or got == text


@settings(max_examples=150, deadline=None)
@given(text=TEXTS, cuts=st.lists(st.integers(0, 200), max_size=30))
def test_a_stream_finds_what_the_whole_text_has(text: str, cuts: list[int]) -> None:
    stream = streamed(BOTH, 1000)
    found = [verdict for chunk in chunked(text, cuts) for verdict in stream.feed(chunk)[1]]
    count, rest = stream.end()
    of_stream = {v.entry: (v.start, v.end, v.score) for v in [*found, *rest]}
    of_whole = {v.entry: (v.start, v.end, v.score) for v in judged(BOTH, text)}
    assert {entry: span[1:] for entry, span in of_stream.items()} == {
        entry: span[1:] for entry, span in of_whole.items()
    }
    for entry, (start, _, _) in of_stream.items():
        before = text[start : of_whole[entry][0]]
        assert not before or " " not in before
    assert count == len(text) or rest


def test_literals_hold_back_what_may_be_their_beginning_alone() -> None:
    stream = streamed(rules("chopping tomatoes"), 1000)
    counts = [stream.feed(piece)[0] for piece in ("Hello, ", "chop", " it ", "a chopping ", "board")]
    assert counts == [7, 7, 15, 17, 31]
    assert stream.end() == (31, ())


def test_what_may_become_a_masked_or_drawn_out_entry_is_held_back_and_no_more() -> None:
    stream = streamed(rules("kill him", "bully"), 1000)
    pieces = ("a k", "*", "l", "l", "ed c", "*t; a k_ll_all and k", "ii", "t", " kii", "ill ", "hiiiim ")
    found = [stream.feed(piece) for piece in pieces]
    assert [count for count, _ in found] == [2, 2, 2, 2, 10, 29, 29, 33, 34, 34, 34]
    assert [verdict.entry for _, verdicts in found for verdict in verdicts] == ["kill him"]


def test_regexes_hold_back_the_window() -> None:
    stream = streamed(rules(regexes=["a{3}"]), 10)
    assert [stream.feed("0123 ")[0] for _ in range(4)] == [0, 0, 5, 10]
    assert stream.end() == (20, ())


def test_a_verdict_is_reported_once_and_its_text_leaves_with_the_next_call() -> None:
    stream = streamed(rules("kill"), 1000)
    count, (verdict,) = stream.feed("to kill is ")
    assert (count, verdict.start, verdict.end, verdict.blocklist, verdict.entry) == (3, 3, 7, "house", "kill")
    assert stream.feed("bad, kill") == (16, ())
    assert stream.end() == (20, ())


def test_categories_that_are_not_asked_for_are_not_found() -> None:
    stream = rules("kill").stream(question("", categories=frozenset({Category.PROFANITY})), 1000)
    stream.feed("kill that shit")
    assert [verdict.category for verdict in stream.end()[1]] == [Category.PROFANITY]


def test_what_is_kept_of_a_long_stream_is_the_window() -> None:
    kept = streamed(BOTH, 100)
    stream = kept.stream
    assert isinstance(stream, RulesStream)
    for _ in range(300):
        kept.feed("\u200b" * 50 + "kil" + " word" * 20)
    literals, regexes = stream._searches
    assert isinstance(literals, LiteralSearch) and isinstance(regexes, RegexSearch)
    readings = (literals._reading, regexes._plain, regexes._folded)
    assert max(len(reading.text) for reading in readings) < 400
    assert max(len(reading._segments) for reading in readings) < 40


@pytest.mark.parametrize("glued", ["xkill him ", "xx-xkill him? "])
def test_a_part_of_a_word_hides_no_match_behind_it(glued: str) -> None:
    found = rules("kill him")
    at = glued.index("kill") + 1
    stream = streamed(found, 1000)
    pieces = (glued[:at], glued[at:], "I kill him ", "now")
    assert [verdict.entry for piece in pieces for verdict in stream.feed(piece)[1]] == ["kill him"]
    filler = "word " * (PIECE // 5) + " " * (PIECE % 5)
    text = filler[: PIECE - at] + glued + "I kill him now"  # a long text is searched in pieces, too
    assert [verdict.start for verdict in judged(found, text)] == [text.rindex("kill him")]
