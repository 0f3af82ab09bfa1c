"""bench.mix_filter: what its rows compare."""

from __future__ import annotations

import json

from bench import mix_filter, mix_forms


def test_a_number_makes_each_sentence_another_text_and_the_rest_is_the_plain_form() -> None:
    first, second = (json.loads(mix_filter.body("filtered", number, stream=True)) for number in (1000, 1001))
    sentences = [set(found["messages"][1]["content"].split("? ")) - {""} for found in (first, second)]
    assert not sentences[0] & sentences[1]
    plain = json.loads(mix_forms.PLAIN.body(stream=True))
    for found in (first, second):
        assert found["messages"][0] == plain["messages"][0]
        assert {**found, "messages": None, "model": None} == {**plain, "messages": None, "model": None}


def test_the_table_has_each_figure_without_and_with_the_policy() -> None:
    spent = mix_filter.Spent(cpu=0.004, firsts=[0.001, 0.001], wholes=[0.002, 0.002])
    row = {"without": spent.figures(), "filtered": {**spent.figures(), "cpu_ms": 30.0}}
    printed = mix_filter.table("Microsoft.DefaultV2", {"plain, whole, the same text": row})
    assert "2.00 → 30.00" in printed
    assert "500.00 → 500.00" in printed
