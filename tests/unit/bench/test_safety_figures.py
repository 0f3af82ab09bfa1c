"""The figures of the safety filters: what is frozen is unchanged, what is printed is what was measured."""

from __future__ import annotations

import json

import pytest
from bench.safety.frozen import HARMS, check_hashes, frozen_samples
from bench.safety.judged import Judged
from bench.safety.page import MIX, PAGE, SAFETY, page_text
from bench.safety.quality import auc, blocking_harms, quality_figures, rank_correlation
from bench.written import RESULTS

from modelport.core.safety import Category, Severity, Verdict
from modelport.safety.levels import trained_levels


def test_the_test_sets_are_the_frozen_ones() -> None:
    check_hashes()
    samples = frozen_samples()
    assert sum(sample.set == "benign" and sample.category in HARMS for sample in samples) >= 500
    assert {sample.category for sample in samples if sample.set == "scored"} == set(HARMS)


def test_the_page_and_the_policies_say_what_was_measured() -> None:
    results, mix = (json.loads((RESULTS / name).read_text(encoding="utf-8")) for name in (SAFETY, MIX))
    assert PAGE.read_text(encoding="utf-8") == page_text(results, mix)
    levels = trained_levels()
    assert results["version"] == levels.version
    assert levels.annotate_only == {harm for harm in HARMS if harm not in results["quality"]["blocking"]}


def test_auc_and_ranks() -> None:
    assert auc([2, 3], [0, 1]) == 1
    assert auc([1], [1]) == 0.5
    assert rank_correlation([1, 2, 3], [10, 20, 90]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3], [9, 5, 1]) == pytest.approx(-1)


def judged_by(*wrong: str, missed: tuple[str, ...] = ()) -> list[Judged]:
    """All frozen texts, judged rightly, but `wrong` names a head for each of so many look-alikes, and the heads
    in `missed` find nothing."""
    heads = iter(wrong)
    found = []
    for sample in frozen_samples():
        head: str | None = None
        if sample.set == "scored" and (sample.score or 0) >= 0.5:
            head = (
                sample.category if sample.category not in missed else "sexual" if sample.category != "sexual" else None
            )
        elif sample.set == "benign" and sample.category in HARMS:
            head = next(heads, None)
        verdicts = () if head is None else (Verdict(Category(head), Severity.MEDIUM, 0.9, 0, 1, "double", "1"),)
        scores = {name: float(name == head) for name in (*HARMS, "attack")}
        found.append(Judged(sample, scores, verdicts))
    return found


def test_categories_block_while_their_false_alarms_together_stay_below_the_bar() -> None:
    figures = quality_figures(judged_by(*["hate"] * 8, *["violence"] * 2, *["sexual"] * 1))
    assert figures["blocking"] == ["sexual", "violence", "self_harm"]
    assert figures["look_alikes_blocked"]["found"] == 3
    assert figures["look_alikes_flagged_by_any"]["found"] == 11
    assert figures["harms"]["hate"]["severe_found"]["share"] == 1


def test_a_category_that_finds_too_little_does_not_block() -> None:
    judged = judged_by(missed=("self_harm",))
    harms = quality_figures(judged)["harms"]
    assert blocking_harms(harms, judged) == ["hate", "sexual", "violence"]
