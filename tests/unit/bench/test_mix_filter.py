"""bench.mix_filter: what its rows compare."""

from __future__ import annotations

import pytest
from bench import mix_filter, mix_forms


@pytest.mark.parametrize("form", mix_forms.FORMS, ids=lambda form: form.name)
def test_a_number_makes_each_sentence_another_text_and_the_rest_is_the_form(form: mix_forms.Form) -> None:
    first, second = (mix_filter.body(form, number, stream=form.is_chat) for number in (1000, 1001))
    assert first != second
    assert first.replace(b"1000", "fünf".encode()) == form.body(form.is_chat)
    assert first.replace(b"1000", b"1001") == second


def test_the_rows_are_those_of_the_mix_and_one_more_text_of_the_plain_form() -> None:
    rows = mix_filter.rows_of(mix_forms.FORMS)
    new = [(form.name, stream) for form, stream, text in rows if text == mix_filter.NEW]
    wanted = [form for form in mix_forms.FORMS if form.store == "memory"]
    assert new == [(form.name, stream) for form in wanted for stream in form.kinds]
    assert [row for row in rows if row[2] == mix_filter.SAME] == [
        (mix_forms.PLAIN, stream, mix_filter.SAME) for stream in (False, True)
    ]


def test_the_table_has_each_figure_without_and_with_the_policy() -> None:
    spent = mix_filter.Spent(cpu=0.004, firsts=[0.001, 0.001], wholes=[0.002, 0.002])
    row = {"without": spent.figures(), "filtered": {**spent.figures(), "cpu_ms": 30.0}}
    printed = mix_filter.table("Microsoft.DefaultV2", {"plain, whole, the same text": row})
    assert "2.00 → 30.00" in printed
    assert "500.00 → 500.00" in printed
