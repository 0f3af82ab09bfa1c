"""The worker that classifies for the safety filters: the embedded MiniLM's, whether a deployment wants it or only they
do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from modelport.app.runtime import spec_of
from modelport.config.settings import EngineSettings
from modelport.core.ports.safety import Classify, ScoreImages
from modelport.engine.classifying import WorkerClassify
from modelport.engine.service import EngineWorker
from modelport.engine.supervisor import WorkerSpec
from modelport.engine.weights.faults import WeightsError
from modelport.engine.weights.places import worker_options
from modelport.safety.remembering import RememberedClassify, RememberedImages

BACKEND: Final = "onnx_embeddings"
MINILM: Final = "all-minilm-l6-v2"


def minilm_options(data_dir: Path) -> dict[str, Any] | None:
    """Where its weights are; None: not here, or damaged."""
    try:
        return worker_options(MINILM, data_dir)
    except WeightsError:
        return None


def with_classifying(specs: list[WorkerSpec], data_dir: Path, engine: EngineSettings) -> Iterator[WorkerSpec]:
    """These workers, and one more if none of them can classify."""
    yield from specs
    options = minilm_options(data_dir)
    if options is not None and not any(is_classifying(spec, options) for spec in specs):
        is_taken = any(spec.name == MINILM for spec in specs)
        yield spec_of(f"{MINILM}.safety" if is_taken else MINILM, BACKEND, options, engine)


def is_classifying(spec: WorkerSpec, options: Mapping[str, Any]) -> bool:
    """Whether this worker has the embedded MiniLM."""
    return spec.backend == BACKEND and options.items() <= spec.options.items()


def open_classify(workers: Callable[[], Mapping[str, EngineWorker]], options: Mapping[str, Any]) -> Classify:
    """The adapter `classify` of the safety filters, over the current ones of these workers."""

    return RememberedClassify(worker_classify(workers, options))


def open_score_images(workers: Callable[[], Mapping[str, EngineWorker]], options: Mapping[str, Any]) -> ScoreImages:
    """The adapter `score_images`, over the same worker."""
    return RememberedImages(worker_classify(workers, options).image_score)


def worker_classify(workers: Callable[[], Mapping[str, EngineWorker]], options: Mapping[str, Any]) -> WorkerClassify:
    """The one of these workers that classifies."""

    def find() -> EngineWorker | None:
        return next((worker for worker in workers().values() if is_classifying(worker.spec, options)), None)

    return WorkerClassify(find)
