"""Tables that people read: words stay whole, numbers end in one column, sums agree, 80 columns are enough."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.cli.tables import laid_out
from modelport.cli.usage_table import usage_table
from modelport.core.usage import TokenUsage
from modelport.core.usage_reports import UsageRow


def row(name: str | None, calls: int, cost: str | None, currency: str | None = "USD", **tokens: int) -> UsageRow:
    return UsageRow(
        names={"deployment": name},
        calls=calls,
        unpriced_calls=calls if cost is None else 0,
        estimated_calls=0,
        tokens=TokenUsage(**tokens),
        cost=None if cost is None else Decimal(cost),
        currency=currency if cost is not None else None,
    )


def lines(rows: list[UsageRow], width: int | None = None) -> list[str]:
    return laid_out(*usage_table(rows, ["deployment"]), width=width)


def test_numbers_end_in_one_column_and_costs_at_one_point() -> None:
    table = lines([row("large", 1204, "12.5", input=91233, output=40110), row("s", 3, "0.000125", input=9, output=8)])
    assert table == [
        "deployment  calls  input  output   cost USD",
        "large        1204  91233   40110  12.500000",
        "s               3      9       8   0.000125",
        "----------  -----  -----  ------  ---------",
        "total        1207  91242   40118  12.500125",
    ]


def test_what_is_unknown_is_no_zero() -> None:
    assert lines([row("here", 2, None, input=5, output=6)]) == [
        "deployment  calls  input  output  cost  unpriced",
        "here            2      5       6     -         2",
        "----------  -----  -----  ------  ----  --------",
        "total           2      5       6     -         2",
    ]
    mixed = lines([row("here", 2, None, input=5), row("there", 1, "0.25", input=7), row(None, 4, "0")])
    assert mixed[-1].split() == ["total", "7", "12", "0", "0.25", "2"]
    assert mixed[3].split()[0] == "-"


def test_currencies_are_not_added_to_each_other() -> None:
    table = lines([row("a", 1, "1.5"), row("b", 2, "2", "EUR"), row("c", 4, "0.25"), row("d", 8, None)])
    assert table[0].split() == ["deployment", "calls", "input", "output", "cost", "currency", "unpriced"]
    assert [line.split()[0:2] + line.split()[4:6] for line in table[-2:]] == [
        ["total", "13", "1.75", "USD"],
        ["total", "2", "2.00", "EUR"],
    ]


def test_classes_of_tokens_have_a_column_where_they_were_used() -> None:
    tokens = dict.fromkeys(TokenUsage.__struct_fields__, 5)
    head = lines([row("a", 1, "1", **tokens)])[0]
    assert head.split("  ")[0] == "deployment"
    for word in ("cached", "written", "audio in", "image", "output", "reasoning", "audio out"):
        assert f"  {word}" in head
    assert "cached" not in lines([row("a", 1, "1")])[0]


def test_no_call_is_a_heading_alone() -> None:
    assert lines([]) == ["deployment  calls  input  output  cost"]


NAMES = ["gpt-4o", "a-name-that-is-much-longer-than-anything-that-a-terminal-has-room-for", "Mistral-Large-2411"]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_terminal_is_wide_enough_and_no_word_is_broken(width: int) -> None:
    rows = [row(name, 10**6, "1234.123456", input=10**9, output=10**8) for name in NAMES]
    table = lines(rows, width)
    assert max(map(len, table)) <= width
    assert len(table) == len(rows) + 3, "one line each"
    assert all(f" {10**9} " in line for line in table[1:4])
    for line, name in zip(table[1:4], NAMES, strict=True):
        shown = line.split()[0]
        assert shown == name or (shown.endswith("…") and name.startswith(shown[:-1]))


def test_piped_nothing_is_cut() -> None:
    assert NAMES[1] in lines([row(name, 1, "1") for name in NAMES])[2]


def test_a_text_wraps_between_its_words() -> None:
    table = laid_out(("name", "what"), [("x", "one two-three four")], width=16)
    assert table == ["name  what", "x     one", "      two-three", "      four"]


WORDS: Any = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=12)


@given(st.lists(st.tuples(WORDS, st.lists(WORDS, min_size=1, max_size=6).map(" ".join)), max_size=5))
def test_every_word_is_there_whole(rows: list[tuple[str, str]]) -> None:
    table = laid_out(("a", "b"), rows, width=40)
    assert max(map(len, table)) <= 40
    assert sorted(" ".join(table[1:]).split()) == sorted(" ".join(map(" ".join, rows)).split())
