"""What the filters make of the heads' scores: severities, spans, outages."""

from __future__ import annotations

import asyncio

import pytest
from classify_double import WordClassify

from modelport.core.ports.safety import FilterOutageError, FilterParts, FilterUnavailableError, Question, Verdicts
from modelport.core.ports.stages import NeedsWaiting
from modelport.core.safety import HARMS, Category, Severity, Source
from modelport.safety import classifier
from modelport.safety.classifier import TEXT_CHARACTERS, Classifier
from modelport.safety.levels import AttackLevels, HarmLevels, Levels, Thresholds, trained_levels
from modelport.safety.remembering import PIECES_AT_ONCE, RememberedClassify

BINS = HarmLevels(low=0.2, medium=0.5, high=0.8)
LEVELS = Levels("v1", Thresholds(BINS, BINS, BINS, BINS, AttackLevels(0.4, 0.9)), frozenset({Category.SELF_HARM}))


async def judged(filter_: Classifier, text: str, categories: frozenset[Category] = frozenset(HARMS)) -> Verdicts:
    found = filter_.judge(Question(text, Source.PROMPT, categories))
    if isinstance(found, NeedsWaiting):
        resumed = await found.resume()
        assert isinstance(resumed, tuple)
        return resumed
    return found


async def test_the_highest_piece_gives_severity_score_and_span() -> None:
    text = "Nothing here. " * 20 + "violence=0.60 is here. " + "hate=0.90 and violence=0.10. " + "Nothing. " * 40
    found = await judged(Classifier(WordClassify(), LEVELS), text)
    assert [(one.category, one.severity, one.score) for one in found] == [
        (Category.HATE, Severity.HIGH, 0.9),
        (Category.VIOLENCE, Severity.MEDIUM, 0.6),
    ]
    for one in found:
        assert f"{one.category}=" in text[one.start : one.end]
        assert (one.filter, one.version) == ("classifier", "v1")


async def test_safe_categories_and_those_not_asked_for_have_no_verdict() -> None:
    filter_ = Classifier(WordClassify(), LEVELS)
    assert await judged(filter_, "violence=0.19 hate=0.20") == ()
    assert [one.severity for one in await judged(filter_, "sexual=0.21")] == [Severity.LOW]
    assert await judged(filter_, "sexual=0.99", frozenset({Category.HATE, Category.JAILBREAK})) == ()


async def test_scores_of_what_is_safe_are_told_to_who_wants_them() -> None:
    question = Question("hate=0.90 violence=0.19", Source.PROMPT, frozenset(HARMS), wants_safe=True)
    waiting = Classifier(WordClassify(), LEVELS).judge(question)
    assert isinstance(waiting, NeedsWaiting)
    found = await waiting.resume()
    assert isinstance(found, tuple)
    assert {one.category: (one.severity, one.score) for one in found} == {
        Category.HATE: (Severity.HIGH, 0.9),
        Category.SEXUAL: (Severity.SAFE, 0.0),
        Category.VIOLENCE: (Severity.SAFE, 0.19),
        Category.SELF_HARM: (Severity.SAFE, 0.0),
    }


async def test_nothing_is_asked_for_blank_texts_or_other_categories() -> None:
    classify = WordClassify()
    filter_ = Classifier(classify, LEVELS)
    assert filter_.judge(Question(" \n", Source.PROMPT, frozenset(HARMS))) == ()
    assert filter_.judge(Question("text", Source.PROMPT, frozenset({Category.JAILBREAK}))) == ()
    assert classify.asked == []


async def test_an_outage_and_a_text_without_end_are_outages_of_the_filter() -> None:
    classify = WordClassify()
    classify.is_down = True
    with pytest.raises(FilterOutageError):
        await judged(Classifier(classify, LEVELS), "text")
    with pytest.raises(FilterOutageError, match="1000000 characters"):
        await judged(Classifier(WordClassify(), LEVELS), "x" * (TEXT_CHARACTERS + 1))


async def test_spans_are_right_beside_astral_characters_and_lone_surrogates() -> None:
    text = "😀\ud800 fine. " * 30 + "sexual=0.95"
    (found,) = await judged(Classifier(WordClassify(), LEVELS), text)
    assert text[found.start : found.end].endswith("sexual=0.95")


async def test_a_piece_is_judged_once_however_many_ask_and_then_known() -> None:
    classify = WordClassify()
    classify.gate.clear()
    remembered = RememberedClassify(classify)
    asked = [asyncio.create_task(remembered.scores(["a", "violence=0.50", "a"])) for _ in range(3)]
    await asyncio.sleep(0)
    asked[0].cancel()  # who leaves ends nothing for the others
    await asyncio.sleep(0)
    classify.gate.set()
    for task in asked[1:]:
        assert [one["violence"] for one in await task] == [0.0, 0.5, 0.0]
    assert [one["violence"] for one in await remembered.scores(["violence=0.50", "b"])] == [0.5, 0.0]
    assert classify.asked == [["a", "violence=0.50"], ["b"]]


async def test_a_failure_is_not_remembered() -> None:
    classify = WordClassify()
    remembered = RememberedClassify(classify)
    classify.is_down = True
    with pytest.raises(FilterOutageError):
        await remembered.attack_scores(["guardian=0.90"])
    classify.is_down = False
    assert await remembered.attack_scores(["guardian=0.90"]) == [0.9]


async def test_a_long_text_is_judged_in_batches_so_that_a_caller_who_leaves_ends_the_work() -> None:
    classify = WordClassify()
    remembered = RememberedClassify(classify)
    await remembered.scores([str(number) for number in range(2 * PIECES_AT_ONCE + 1)])
    assert [len(batch) for batch in classify.asked] == [PIECES_AT_ONCE, PIECES_AT_ONCE, 1]


def test_without_a_worker_the_filter_says_what_is_missing() -> None:
    with pytest.raises(FilterUnavailableError, match="all-minilm-l6-v2"):
        classifier.open_filter(FilterParts())


def test_the_trained_thresholds_are_in_order() -> None:
    levels = trained_levels()
    for harm in HARMS:
        bins = levels.thresholds.of(harm)
        assert 0 < bins.low < bins.medium < bins.high < 1
    assert 0 < levels.thresholds.attack.annotate < levels.thresholds.attack.block < 1
