"""What hides a text of a blocklist, and what only looks like it."""

from __future__ import annotations

import random
import unicodedata

import pytest

from blocklists import judged, matches, rules

ENTRIES = ("chopping tomatoes", "kill him", "cocaine", "grenade", "assassin")
LOOKS = {"a": "аɑα", "c": "сϲ", "e": "еҽ", "o": "оοօ", "p": "рρ", "i": "іι", "s": "ѕ", "h": "һ", "k": "кκ", "n": "ո"}
LEET = {"a": "4@", "e": "3€", "i": "1!", "o": "0", "s": "5$", "t": "7+"}
INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff\u00ad\u034f\u180e\ufe0f\U000e0061\u202e"
MARKS = "\u0301\u0335\u0336\u0489\u0353\u20dd"


def homoglyphs(text: str, dice: random.Random) -> str:
    return "".join(dice.choice(LOOKS.get(char, char)) for char in text)


def some_homoglyphs(text: str, dice: random.Random) -> str:
    return "".join(dice.choice(LOOKS.get(char, char) + char) for char in text)


def zero_width(text: str, dice: random.Random) -> str:
    return "".join(char + dice.choice(INVISIBLE) * dice.randint(0, 2) for char in text)


def combining(text: str, dice: random.Random) -> str:
    return "".join(char + dice.choice(MARKS) if char.isalpha() else char for char in text)


def full_width(text: str, dice: random.Random) -> str:
    return "".join("\u3000" if char == " " else chr(ord(char) + 0xFEE0) for char in text)


def mathematical(text: str, dice: random.Random) -> str:
    start = dice.choice((0x1D41A, 0x1D482, 0x1D4EA, 0x1D5EE, 0x1D68A))
    return "".join(chr(start + ord(char) - 97) if char.isalpha() else char for char in text)


def boxed(text: str, dice: random.Random) -> str:
    start = dice.choice((0x1F130, 0x1F150, 0x1F170, 0x24B6))
    return "".join(chr(start + ord(char) - 97) if char.isalpha() else char for char in text)


def joined(text: str, dice: random.Random) -> str:
    """Of short words a space stays: `killhim` is left alone."""
    return text.replace(" ", "") if len(text) > 8 else text


def masked(text: str, dice: random.Random) -> str:
    """One letter inside of each longer word."""
    words = text.split()
    places = [dice.randrange(1, len(word) - 1) if len(word) > 3 else -1 for word in words]
    return " ".join(
        f"{word[:place]}{dice.choice('*_#•■')}{word[place + 1 :]}" if place > 0 else word
        for word, place in zip(words, places, strict=True)
    )


def drawn_out(text: str, dice: random.Random) -> str:
    """Some letters three times or more."""
    chosen = dice.sample([index for index, char in enumerate(text) if char.isalpha()], 2)
    return "".join(char * dice.randint(3, 6) if index in chosen else char for index, char in enumerate(text))


def all_twice(text: str, dice: random.Random) -> str:
    return "".join(char * 2 if char.isalpha() else char for char in text)


def case(text: str, dice: random.Random) -> str:
    return "".join(dice.choice((char.upper(), char)) for char in text)


def leet(text: str, dice: random.Random) -> str:
    """One vowel of two at most: a word of digits alone is a number."""
    places = [index for index, char in enumerate(text) if char in LEET]
    chosen = dice.sample(places, min(len(places), 2))
    return "".join(dice.choice(LEET[char]) if index in chosen else char for index, char in enumerate(text))


def spaced(text: str, dice: random.Random) -> str:
    return "  ".join(" ".join(word) for word in text.split())


def dotted(text: str, dice: random.Random) -> str:
    return " ".join(dice.choice(".-_*·").join(word) for word in text.split())


def punctuated(text: str, dice: random.Random) -> str:
    """One sign inside of each longer word."""
    return " ".join(f"{word[:2]}{dice.choice('._*~')}{word[2:]}" if len(word) > 3 else word for word in text.split())


def one_spaced_word(text: str, dice: random.Random) -> str:
    words = text.split()
    chosen = dice.randrange(len(words))
    return " ".join(" ".join(word) if place == chosen else word for place, word in enumerate(words))


def broken_lines(text: str, dice: random.Random) -> str:
    return text.replace(" ", dice.choice(("\n", "\t", "   ", " \u2028", "\u00a0", "...", " - ")))


def control_characters(text: str, dice: random.Random) -> str:
    return "".join(char + dice.choice(("", "\0", "\x08", "\x1b")) for char in text)


def accents(text: str, dice: random.Random) -> str:
    return unicodedata.normalize("NFC", "".join(char + dice.choice(("", "\u0301", "\u0308")) for char in text))


DISGUISES = (
    *(homoglyphs, some_homoglyphs, zero_width, combining, full_width, mathematical, boxed, case, leet, spaced, dotted),
    *(punctuated, one_spaced_word, broken_lines, control_characters, accents, joined, masked, drawn_out, all_twice),
)
MIXED = (
    (case, zero_width),
    (leet, combining),
    (spaced, some_homoglyphs),
    (leet, case, zero_width),
    (spaced, full_width),
    (masked, case, some_homoglyphs),
    (masked, zero_width),
    (joined, leet),
    (drawn_out, case, zero_width),
    (drawn_out, full_width),
)


@pytest.mark.parametrize("disguise", DISGUISES, ids=lambda disguise: disguise.__name__)
@pytest.mark.parametrize("entry", ENTRIES)
def test_a_disguised_entry_is_found_where_it_stands(disguise, entry) -> None:
    found, dice = rules(*ENTRIES), random.Random(entry)
    for before, after in (("", ""), ("He said: ", " and left."), ("Über 5 €: «", "»"), ("(", "), ok?")):
        hidden = disguise(entry, dice)
        (verdict,) = judged(found, before + hidden + after)
        assert verdict.entry == entry
        assert verdict.start == len(before)
        assert hidden.startswith((before + hidden + after)[verdict.start : verdict.end])


@pytest.mark.parametrize("disguises", MIXED, ids=lambda mixed: "+".join(one.__name__ for one in mixed))
@pytest.mark.parametrize("entry", ENTRIES)
def test_disguises_do_not_help_each_other(disguises, entry) -> None:
    found, dice = rules(*ENTRIES), random.Random(entry)
    for _ in range(10):
        hidden = entry
        for disguise in disguises:
            hidden = disguise(hidden, dice)
        assert [verdict.entry for verdict in judged(found, f"so {hidden} now")] == [entry], hidden


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ("ass", "The class assessed the assets of a passenger, a55 and 455."),
        ("hell", "He'll say hello to Michelle; we’ll see a shell."),
        ("its", "It's late."),
        ("cunt", "Scunthorpe, in Lincolnshire."),
        ("tit", "A title of the constitution, petit."),
        ("sex", "Essex, Sussex and sextants."),
        ("rape", "Grape, drapery, rapeseed, and a scraper."),
        ("the rapist", "Ask the therapist."),
        ("let", "137 of 1337 and 13700."),
        ("137", "Let it be."),
        ("flat", "Fiat makes cars."),
        ("fiat", "A flat in town."),
        ("log", "Take 10g of it, at 10g each."),
        ("sin", "A 5in display."),
        ("bot", "Вот рот, а вот нос."),
        ("pot", "Рот."),
        ("us", "He said u s."),
        ("1234", "It costs 12.34 or 123-4."),
        ("kill", "Skills, killjoys, and Kilburn Lane; ki ll."),
        ("cum", "Document the circumstances (cumulative)."),
        ("coon", "Raccoons cocoon."),
        ("anal", "Analysis of a canal, banal."),
        ("user@example.com", "usera example com"),
        ("c++", "I like c and c+ best."),
        ("the rapist", "Ask the therapist; a psychotherapist."),
        ("kill him", "killhim"),
        ("cock pit", "In the cockpit."),
        ("diner", "After dinner, in the diiner."),
        ("raping", "Rapping and wrapping."),
        ("tapan", "Tapaan sinut."),
        ("god", "A goood thing, a gooood dog."),
        ("vil", "Henry VIII and Louis XVIII."),
        ("kill", "k_ll_all, k**l, *ill, kil*, x*k_ll, i*ll"),
        ("cat", "c*t and c_t"),
        ("kill", "k-ll, k.ll, k'll"),
        ("kill", "A skiiing trip to the mill."),
        ("allies", "All lies."),
        ("as", "Assess the asss."),
        ("मन", "मनुष्य"),
        ("дом", "Домой, и рядом."),
    ],
)
def test_a_benign_twin_is_not_found(entry: str, text: str) -> None:
    assert matches(rules(entry), text) == []


@pytest.mark.parametrize(
    ("entry", "text", "words"),
    [
        ("chopping tomatoes", "Chopping   tomatoes.", "Chopping   tomatoes"),
        ("it's", "It's late", "It's"),
        ("c++", "written in C++, badly", "C++"),
        ("user@example.com", "mail User@Example.com now", "User@Example.com"),
        ("項目", "新項目計画", "項目"),
        ("ฆ่า", "ไปฆ่าเขา", "ฆ่า"),
        ("살인", "살인을 했다", "살인"),
        ("война", "Война и мир", "Война"),
        ("straße", "in der STRASSE", "STRASSE"),
        ("file", "a ﬁle", "ﬁle"),
        ("1000", "1000 and 10,000", "1000"),
        ("١٢٣", "number 123", "123"),
        ("🔫", "a 🔫!", "🔫"),
        ("well-known", "a well known one", "well known"),
        ("usa", "In the U.S.A. today", "U.S.A"),
        ("kill yourself", "go k*ll yourself.", "k*ll yourself"),
        ("kill yourself", "go k_ll y#urself.", "k_ll y#urself"),
        ("kill yourself", "go killyourself!", "killyourself"),
        ("go kill yourself", "go killyourself!", "go killyourself"),
        ("kill yourself", "Kiiilll   yooourrrself", "Kiiilll   yooourrrself"),
        ("bull", "the b*ll", "b*ll"),
        ("ass", "an asssss", "asssss"),
        ("fuck", "ffuucckk it", "ffuucckk"),
    ],
)
def test_an_entry_is_found_in_its_own_script(entry: str, text: str, words: str) -> None:
    assert matches(rules(entry), text) == [(entry, words)]
