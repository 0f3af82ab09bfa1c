"""The worker that classifies for the safety filters: the embedded MiniLM's, be it there for a deployment or for them
alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from modelport.app.runtime import catalogue_options, spec_of
from modelport.config.settings import Settings
from modelport.core.ports.safety import Classify
from modelport.engine.classifying import WorkerClassify
from modelport.engine.service import EngineWorker
from modelport.engine.supervisor import WorkerSpec
from modelport.safety.remembering import RememberedClassify

BACKEND: Final = "onnx_embeddings"
MINILM: Final = "all-minilm-l6-v2"


def classifying_spec(settings: Settings, specs: Sequence[WorkerSpec]) -> WorkerSpec:
    """Of these workers the one that can classify, else the spec of one more. Raises WeightsError."""
    for spec in specs:
        if spec.backend == BACKEND and spec.options.get("tokenizer") == MINILM:
            return spec
    return spec_of(MINILM, BACKEND, catalogue_options(MINILM, settings.server.data_dir), settings.engine)


def open_classify(workers: Callable[[], Mapping[str, EngineWorker]], name: str) -> Classify:
    """The adapter `classify` of the safety filters. `workers` are the current ones, `name` the classifying one's."""
    return RememberedClassify(WorkerClassify(lambda: workers().get(name)))
