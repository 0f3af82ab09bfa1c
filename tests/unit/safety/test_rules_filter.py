"""The rules filter as a whole: regular expressions, verdicts, time."""

from __future__ import annotations

import asyncio
import gc
from weakref import ref

import pytest

from blocklists import entries, judged, matches, question, rules
from modelport.core.ports.safety import BlocklistEntry, FilterParts, FilterUnavailableError
from modelport.core.ports.stages import NeedsWaiting, passed
from modelport.core.safety import Category, Severity, Verdict
from modelport.safety.rules.compiled import swear_words
from modelport.safety.rules.filter import RulesFilter, open_filter
from modelport.safety.rules.matching import literal_of
from modelport.safety.rules.regexes import fault_of
from modelport.safety.rules.widths import ENDLESS, longest_match
from modelport.safety.rules.window import PIECE


def test_a_verdict_says_what_was_found_and_by_what() -> None:
    (verdict,) = judged(rules("chopping tomatoes"), "No ｃhopping\u200b t0matoes, please.")
    assert verdict == Verdict(
        category=Category.CUSTOM_BLOCKLISTS,
        severity=Severity.HIGH,
        score=0.9,
        start=3,
        end=21,
        filter="rules",
        version="1",
        blocklist="house",
        entry="chopping tomatoes",
    )


LISTS = FilterParts(blocklists={"colours": entries("red", "blue"), "moods": entries("blue"), "rude": entries("shit")})


def test_the_lists_that_are_asked_for_count_and_each_entry_is_reported_once() -> None:
    found = open_filter(LISTS)
    text = "blue red blue, shit"

    def verdicts(*lists: str) -> list[tuple[str | None, str | None, int]]:
        outcome = found.judge(question(text, *lists))
        assert isinstance(outcome, tuple)
        return [(v.blocklist, v.entry, v.start) for v in outcome]

    assert verdicts("colours", "moods") == [("colours", "blue", 0), ("moods", "blue", 0), ("colours", "red", 5)]
    assert verdicts("moods") == [("moods", "blue", 0)]
    assert verdicts("deleted") == []


def test_swear_words_are_another_category() -> None:
    found = open_filter(LISTS)
    assert [v.category for v in judged(rules("shit"), "sh!t")] == [Category.CUSTOM_BLOCKLISTS]
    both = found.judge(question("sh!t", "rude", categories=frozenset(Category)))
    assert isinstance(both, tuple) and {v.category for v in both} == {Category.PROFANITY, Category.CUSTOM_BLOCKLISTS}
    swears = frozenset({Category.PROFANITY})
    (only,) = found.judge(question("shit", "rude", categories=swears))  # type: ignore[misc]
    assert (only.blocklist, only.entry) == (None, "shit")
    assert found.judge(question("shit", categories=frozenset({Category.HATE}))) == ()
    benign = "Scunthorpe's shiitake cocktails, Dick and Fanny; the bass titled assassins."
    assert found.judge(question(benign, categories=swears)) == ()


def test_the_swear_words_are_different_ones() -> None:
    folded = [literal_of(None, word).folded for word in swear_words() if word != "scheiße"]  # type: ignore[arg-type]
    assert len(set(folded)) == len(folded) > 50


@pytest.mark.parametrize(
    ("pattern", "text", "words"),
    [
        (r"project\s{1,9}x", "The PROJECT  X files", "PROJECT  X"),
        (r"project\s{1,9}x", "Ｐroject\u200b x", "Ｐroject\u200b x"),
        (r"project x", "рrоjесt х", "рrоjесt х"),
        (r"проект\s?х", "Про\u00adект Х", "Про\u00adект Х"),
        (r"(?-i:ACME)-\d+", "acme-1 ACME-22", "ACME-22"),
        (r"é{2}", "caféé", "éé"),
        (r"\p{Han}{2}", "a 項目 b", "項目"),
    ],
)
def test_a_regular_expression_is_found_in_plain_and_folded_text(pattern: str, text: str, words: str) -> None:
    assert matches(rules(regexes=[pattern]), text) == [(pattern, words)]


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        (r"(?=a)b", "look-around and backreferences are not linear"),
        (r"(?<!x)y", "look-around and backreferences are not linear"),
        (r"(a)\1", "look-around and backreferences are not linear"),
        ("(", "is not a regular expression of RE2"),
        ("a{1001}", "invalid repetition size"),
        ("((a{1000}){1000})", "invalid repetition size"),
        (r"\pL{1000}", "too large"),
        ("\ud800", "half of a surrogate pair"),
        ("a*", "matches an empty text"),
        ("|x", "matches an empty text"),
        (r"\b", "matches an empty text"),
    ],
)
def test_what_re2_cannot_do_is_refused_with_the_reason(pattern: str, said: str) -> None:
    assert said in (fault_of(pattern) or "")


def test_what_re2_can_do_is_no_fault(capfd: pytest.CaptureFixture[str]) -> None:
    for pattern in (r"project\s+x", r"(?i)a|b", r"\p{Greek}+", r"[[:alpha:]]{3}", r"^x$"):
        assert fault_of(pattern) is None
    fault_of("(")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("pattern", "width"),
    [
        ("abc", 3),
        (r"a{3}b?", 4),
        (r"a{2,5}|x{7}", 7),
        (r"(foo|barbaz)\b", 6),
        (r"(?i:ab)(?P<name>x){2}", 4),
        (r"[^\]a-z]{4}[[:alpha:]][]x]", 6),
        (r"\pL\p{Greek}\x{10FFFF}\x41\141\.", 6),
        (r"\Qa.b*\E", 4),
        (r"^a$\z", 1),
        (r"(a{10}){10}", 100),
        ("x{", 2),
        (r"(?i)a(?s).", 2),
        (r"a{0}b", 1),
        (r"project\s+x", ENDLESS),
        (r"a*?", ENDLESS),
        (r"(a{2,}|b)c", ENDLESS),
        (r"a{2}{3}", 6),
        ("(" * 200 + "a" + ")" * 200, ENDLESS),
        ("|" * 3, 0),
    ],
)
def test_how_long_a_match_can_be(pattern: str, width: float) -> None:
    assert longest_match(pattern) == width


async def resumed(found: RulesFilter, text: str) -> tuple[Verdict, ...]:
    outcome = found.judge(question(text))
    return passed(await outcome.resume() if isinstance(outcome, NeedsWaiting) else outcome)


def test_a_match_of_a_long_text_is_found_where_it_stands() -> None:
    text = "Über a " * 3_000 + "k1ll" + " and so on" * 1_000 + " project x"
    (literal, regex) = judged(rules("kill", regexes=["project x"]), text)
    assert (text[literal.start : literal.end], text[regex.start : regex.end]) == ("k1ll", "project x")


def test_a_match_of_a_long_text_is_found_across_its_pieces() -> None:
    found = rules(
        "chopping tomatoes", regexes=["salads[^.]{1,1000}[^.]{1,1000}[^.]{1,1000}[^.]{1,1000}[^.]{1,1000}end"]
    )
    for start in range(PIECE - 20, PIECE + 2):
        text = "a" * start + " chopping tomatoes, salads" + " to" * 1_500 + " end."
        assert [verdict.start for verdict in judged(found, text)] == [start + 1, start + 20]


async def test_verdicts_do_not_cross_calls() -> None:
    found = rules(*(f"word{number}" for number in range(100)))
    texts = [f"{'x ' * PIECE}word{number % 100} y" for number in range(60)]
    answers = await asyncio.gather(*(resumed(found, text) for text in texts))
    assert [[v.entry for v in verdicts] for verdicts in answers] == [[f"word{n % 100}"] for n in range(60)]


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "text",
    [
        "a" * 200_000,
        "a " * 100_000,
        "ab" * 100_000,
        "a\u0301" * 100_000,
        "\u200b" * 200_000,
        "!" * 100_000,
        "\ud800" * 100_000,
        "\U0001f130" * 100_000,
        "".join(map(chr, range(0x20, 0x8000))),
        "ﷺ" * 20_000,
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!" * 5_000,
    ],
    ids=[
        "letters",
        "spaced",
        "candidates",
        "marks",
        "invisible",
        "symbols",
        "surrogates",
        "boxed",
        "all",
        "long",
        "bomb",
    ],
)
async def test_hostile_text_takes_bounded_time(text: str) -> None:
    found = rules("ab", "aba", "kill", "a b a", regexes=["(a+)+x", "(a|aa)+y", "(.{0,50}a){20}z", r"(\w+\s?)+!{3}"])
    await resumed(found, text)


@pytest.mark.parametrize(
    ("exact", "regex", "said"),
    [
        ("\u200b", None, "the entry 'e' of the blocklist 'house' has nothing but invisible characters"),
        (" ", None, "nothing but invisible characters"),
        (None, "(?=a)b", "look-around"),
        (
            None,
            r"project\s+x",
            r"(window_chars) .*; write project\\s{1,9}x, or let .* `window_chars: whole`",
        ),
        (None, r"\bno *\s*way", r"write \\bno {0,9}\\s{0,9}way, or let"),
        (None, r"\\s+", r"bound its repetitions .*, or let the content filter have `window_chars: whole`"),
        (None, "a{600}b{401}", "can match more than the 1000 characters"),
    ],
)
def test_an_entry_that_cannot_be_looked_for_is_refused_at_load(exact: str | None, regex: str | None, said: str) -> None:
    lists = {"house": (BlocklistEntry("e", exact=exact, regex=regex),)}
    parts = FilterParts(blocklists=lists, windows={"house": 1000})
    with pytest.raises(
        FilterUnavailableError, match=said.replace("(w", r"\(w").replace("s) ", r"s\) ").replace("{", r"\{")
    ):
        open_filter(parts)


def test_expressions_that_are_too_large_together_are_refused() -> None:
    many = entries(regexes=[rf"\pL{{12}}{number}" for number in range(30)])
    with pytest.raises(FilterUnavailableError, match="of the blocklist 'house' are too large together, from"):
        open_filter(FilterParts(blocklists={"house": many}))


def test_a_list_that_no_filter_uses_is_forgotten() -> None:
    found = rules("kill", "forgotten")
    (kept,) = map(ref, found.lists(question("")))
    assert kept() is not None
    del found
    gc.collect()
    assert kept() is None


def test_the_same_lists_are_compiled_once() -> None:
    first, second, other = rules("kill"), rules("kill"), rules("other")
    asked = question("")
    assert first.lists(asked)[0] is second.lists(asked)[0]
    assert other.lists(asked)[0] is not first.lists(asked)[0]
