"""Two votes on prompt attacks: which one blocks, which one annotates, and of which text."""

from __future__ import annotations

import pytest
from classify_double import WordClassify
from test_classifier import LEVELS

from modelport.core.ports.safety import FilterOutageError, Question, Verdicts
from modelport.core.ports.stages import NeedsWaiting
from modelport.core.safety import Category, Severity, Source
from modelport.safety.prompt_attack import WHOLE_CHARACTERS, PromptAttack

ATTACKS = frozenset({Category.JAILBREAK, Category.INDIRECT_ATTACK})


async def judged(text: str, classify: WordClassify | None = None, *, untrusted: bool = False) -> Verdicts:
    question = Question(text, Source.PROMPT, ATTACKS, untrusted)
    found = PromptAttack(classify or WordClassify(), LEVELS).judge(question)
    assert isinstance(found, NeedsWaiting)
    resumed = await found.resume()
    assert isinstance(resumed, tuple)
    return resumed


async def test_guardians_vote_blocks() -> None:
    (found,) = await judged("guardian=0.90")
    assert (found.category, found.severity, found.score) == (Category.JAILBREAK, Severity.HIGH, 0.9)


async def test_guardian_has_to_be_surer_of_a_piece_than_of_the_whole() -> None:
    assert [one.severity for one in await judged("guardian=0.82")] == [Severity.HIGH]
    long = "Nothing. " * (WHOLE_CHARACTERS // 9 + 1)
    assert await judged(long + "guardian=0.82") == ()
    (found,) = await judged(long + "guardian=0.87")
    assert found.start > WHOLE_CHARACTERS - 300


@pytest.mark.parametrize(("score", "severities"), [(0.4, []), (0.41, [Severity.LOW]), (0.91, [Severity.HIGH])])
async def test_the_head_annotates_first_and_blocks_where_it_is_nearly_sure(
    score: float, severities: list[Severity]
) -> None:
    assert [one.severity for one in await judged(f"attack={score:.2f} guardian=0.80")] == severities


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
