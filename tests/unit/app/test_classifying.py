"""Which worker classifies for the safety filters, and when one is started for them alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelport.app import classifying, filters
from modelport.app.classifying import MINILM, is_classifying, open_classify, with_classifying
from modelport.app.filters import adapters_of, no_filters
from modelport.config.settings import EngineSettings, Settings
from modelport.core.ports.safety import FilterOutageError
from modelport.engine.supervisor import WorkerSpec
from modelport.engine.weights.places import image_judge_weights

OPTIONS = {"weights": "/weights/model.onnx", "tokenizer": MINILM}
CHAT = WorkerSpec("smol", "llama_cpp", {"weights": "/weights/smol.gguf"})
ENGINE = EngineSettings()


@pytest.fixture(autouse=True)
def weights(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    found: dict[str, Any] = {"options": OPTIONS}
    monkeypatch.setattr(classifying, "minilm_options", lambda data_dir: found["options"])
    return found


def added(*specs: WorkerSpec) -> list[WorkerSpec]:
    found = list(with_classifying(list(specs), Path("/data"), ENGINE))
    assert found[: len(specs)] == list(specs)
    return found[len(specs) :]


def test_a_worker_is_started_where_nothing_embeds() -> None:
    (spec,) = added(CHAT)
    assert (spec.name, spec.backend) == (MINILM, "onnx_embeddings")
    assert is_classifying(spec, OPTIONS)


def test_the_worker_of_a_deployment_is_used() -> None:
    assert added(WorkerSpec(MINILM, "onnx_embeddings", {**OPTIONS, "queue": 5})) == []


def test_another_model_of_that_name_does_not_classify() -> None:
    (spec,) = added(WorkerSpec(MINILM, "onnx_embeddings", {"weights": "/other/model.onnx"}))
    assert spec.name == f"{MINILM}.safety"


def test_without_weights_nothing_is_started(weights: dict[str, Any]) -> None:
    weights["options"] = None
    assert added(CHAT) == []


async def test_without_a_worker_the_filter_has_an_outage() -> None:
    with pytest.raises(FilterOutageError, match="no worker"):
        await open_classify(dict, OPTIONS).scores(["text"])


def test_where_the_package_is_missing_nothing_scores_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "minilm_options", lambda data_dir: OPTIONS)
    for weights, has_it in ((Path("/weights/open-nsfw.onnx"), True), (None, False)):
        monkeypatch.setattr(filters, "image_judge_weights", lambda weights=weights: weights)
        assert ("score_images" in adapters_of(Settings(), no_filters())) is has_it


def test_a_package_that_is_not_installed_has_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert image_judge_weights() is None
