"""Two votes on prompt attacks: which one blocks, which one annotates, and of which text."""

from __future__ import annotations

import pytest
from classify_double import WordClassify
from test_classifier import LEVELS

from modelport.core.ports.safety import FilterOutageError, Question, Verdicts
from modelport.core.ports.stages import NeedsWaiting
from modelport.core.safety import Category, Severity, Source
from modelport.safety.prompt_attack import PromptAttack

ATTACKS = frozenset({Category.JAILBREAK, Category.INDIRECT_ATTACK})


async def judged(
    text: str, classify: WordClassify | None = None, *, untrusted: bool = False, wants_safe: bool = False
) -> Verdicts:
    question = Question(text, Source.PROMPT, ATTACKS, untrusted, wants_safe=wants_safe)
    found = PromptAttack(classify or WordClassify(), LEVELS).judge(question)
    assert isinstance(found, NeedsWaiting)
    resumed = await found.resume()
    assert isinstance(resumed, tuple)
    return resumed


async def test_the_score_of_what_is_no_attack_is_told_to_who_wants_it() -> None:
    (found,) = await judged("attack=0.40", wants_safe=True)
    assert (found.category, found.severity, found.score) == (Category.JAILBREAK, Severity.SAFE, 0.4)


@pytest.mark.parametrize(
    ("text", "severities"),
    [
        ("guardian=0.92", []),
        ("guardian=0.93", [Severity.HIGH]),
        ("attack=0.40", []),
        ("attack=0.41", [Severity.LOW]),
        ("attack=0.91", [Severity.HIGH]),
        ("attack=0.41 guardian=0.80", [Severity.LOW]),
        ("attack=0.41 guardian=0.81", [Severity.HIGH]),
    ],
)
async def test_one_vote_blocks_where_it_is_nearly_sure_and_two_where_each_is_less_so(
    text: str, severities: list[Severity]
) -> None:
    found = await judged(text)
    assert [one.severity for one in found] == severities
    assert all(one.category is Category.JAILBREAK for one in found)


async def test_one_piece_of_a_long_text_is_enough() -> None:
    long = "Nothing. " * 1000
    assert await judged(long) == ()
    (found,) = await judged(long + "guardian=0.95")
    assert found.start > 8500


async def test_text_that_others_wrote_holds_indirect_attacks() -> None:
    (found,) = await judged("guardian=0.95", untrusted=True)
    assert found.category is Category.INDIRECT_ATTACK


async def test_completions_and_other_categories_are_not_judged() -> None:
    filter_ = PromptAttack(WordClassify(), LEVELS)
    assert filter_.judge(Question("guardian=0.95", Source.COMPLETION, ATTACKS)) == ()
    assert filter_.judge(Question("guardian=0.95", Source.PROMPT, frozenset({Category.HATE}))) == ()
    only_jailbreak = frozenset({Category.JAILBREAK})
    assert filter_.judge(Question("guardian=0.95", Source.PROMPT, only_jailbreak, untrusted=True)) == ()


async def test_an_outage_of_either_model_is_one_of_the_filter() -> None:
    classify = WordClassify()
    classify.is_down = True
    with pytest.raises(FilterOutageError):
        await judged("text", classify)
