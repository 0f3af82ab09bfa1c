"""What judging costs: processor time of all processes together, for prompts and for streamed sentences that no one has
judged before."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from typing import Any, Final

from bench.safety.frozen import Sample
from bench.safety.judged import ATTACKS, classifying, resumed
from modelport.core.ports.safety import Question, SafetyFilter
from modelport.core.ports.stages import NeedsWaiting
from modelport.core.safety import HARMS, Source
from modelport.engine.supervisor import Supervisor
from modelport.safety.classifier import Classifier
from modelport.safety.levels import trained_levels
from modelport.safety.prompt_attack import PromptAttack

PROMPTS: Final = 40
PROMPT_CHARACTERS: Final = 1024
STREAMED_TOKENS: Final = 100
CHARACTERS_PER_TOKEN: Final = 4
BAR_MILLISECONDS: Final = 40.0
CATEGORIES: Final = frozenset(HARMS) | ATTACKS


def prompts(samples: Sequence[Sample], seed: int) -> list[str]:
    """Texts of 1 KB, of harmless sentences in ever new orders, each of them a little changed."""
    source = random.Random(seed)
    sentences = [sample.text for sample in samples if sample.set == "benign" and sample.text.isascii()]
    found = []
    for number in range(PROMPTS):
        text = ""
        while len(text) < PROMPT_CHARACTERS:
            text += f"{source.choice(sentences)[:-1]} {number}{source.randrange(1000)}. "
        found.append(text[:PROMPT_CHARACTERS])
    return found


def price_figures(samples: Sequence[Sample]) -> dict[str, Any]:
    """Milliseconds for one prompt, for the same prompt again, and for 100 streamed tokens sentence by sentence."""
    return asyncio.run(_measure(samples))


async def _measure(samples: Sequence[Sample]) -> dict[str, Any]:
    async with classifying() as (classify, supervisor):
        levels = trained_levels()
        both: tuple[SafetyFilter, ...] = (Classifier(classify, levels), PromptAttack(classify, levels))
        await _judge(both, "A first text, by which the heads and Guardian's model are loaded.", Source.PROMPT)
        texts = prompts(samples, 1)
        fresh = await _timed(supervisor, both, texts, Source.PROMPT)
        again = await _timed(supervisor, both, texts, Source.PROMPT)
        sentences = [sentence for text in prompts(samples, 2) for sentence in _sentences(text)]
        streamed = await _timed(supervisor, both, sentences, Source.COMPLETION)
    answers = sum(map(len, sentences)) / CHARACTERS_PER_TOKEN / STREAMED_TOKENS
    per_sentence = len(sentences) / answers
    return {
        "prompt_1kb": fresh,
        "prompt_1kb_again": again,
        "streamed_100_tokens": {
            "cpu_ms": round(streamed["cpu_ms"] * per_sentence, 1),
            "latency_ms_of_a_sentence": streamed["latency_ms"],
        },
        "bar_cpu_ms_prompt_1kb": BAR_MILLISECONDS,
        "holds": fresh["cpu_ms"] <= BAR_MILLISECONDS,
    }


def _sentences(text: str) -> list[str]:
    return [f"{sentence}." for sentence in text.split(". ") if sentence]


async def _timed(
    supervisor: Supervisor, filters: Sequence[SafetyFilter], texts: Sequence[str], source: Source
) -> dict[str, float]:
    """One text after the other: milliseconds of processor time of both processes, and the median wait."""
    pid = next(iter(supervisor.workers.values())).process_id
    assert pid is not None
    before, waits = time.process_time() + cpu_seconds(pid), []
    for text in texts:
        began = time.perf_counter()
        await _judge(filters, text, source)
        waits.append(time.perf_counter() - began)
    spent = time.process_time() + cpu_seconds(pid) - before
    return {
        "cpu_ms": round(1000 * spent / len(texts), 2),
        "latency_ms": round(1000 * sorted(waits)[len(waits) // 2], 2),
    }


async def _judge(filters: Sequence[SafetyFilter], text: str, source: Source) -> None:
    asked = [filter_.judge(Question(text, source, CATEGORIES)) for filter_ in filters]
    await asyncio.gather(*(resumed(found) for found in asked if isinstance(found, NeedsWaiting)))


def cpu_seconds(pid: int) -> float:
    """Processor time of another process, to a nanosecond, by the clock that clock_getcpuclockid(3) names."""
    return time.clock_gettime((~pid << 3) | 2)
