"""Text embeddings by ONNX Runtime: the embedded MiniLM, or any sentence-transformer that the operator has as ONNX.

Options: `weights` (the model), `tokenizer` (a tokenizer.json, or the name `all-minilm-l6-v2`; default: beside the
weights), `max_tokens`, `pooling` (mean, cls, last), `prefixes` ({query: …, document: …}, written before the text as
`input_type` asks), `too_long` (cut, refuse), `dimensions` (whole, cut), `inputs` (at most, per request), `threads`,
`queue` (requests that may wait).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from modelport.engine.backend import JsonObject, Operation, Options, WorkerError
from modelport.engine.onnx import dialect
from modelport.engine.onnx.batching import Batcher
from modelport.engine.onnx.judge import Judge, can_judge
from modelport.engine.onnx.session import (
    ModelFileError,
    choice_option,
    number_option,
    path_option,
    thread_count,
)
from modelport.engine.onnx.text import TEXTS_AT_A_TIME, TextModel, TokenIds, unit

_BATCH_ITEMS = 32
_BATCH_TOKENS = 4096
_INPUTS_AT_MOST = 2048

Value = TypeVar("Value")


async def open(options: Options) -> OnnxEmbeddings:
    """Loads the weights, in a thread. Raises ModelFileError with a reason for the operator."""
    return await asyncio.to_thread(OnnxEmbeddings, options)


class OnnxEmbeddings:
    """A loaded text embedding model behind a queue that batches concurrent requests."""

    operations: frozenset[Operation] = frozenset({"embeddings"})

    def __init__(self, options: Options) -> None:
        weights = path_option(options, "weights")
        if weights is None:
            raise ModelFileError("The option 'weights' must name an ONNX file.")
        threads = thread_count(options.get("threads"))
        self._model = TextModel(options, weights, threads)
        self._prefixes = _prefixes(options)
        self._refuse_long = choice_option(options, "too_long", ("cut", "refuse")) == "refuse"
        self._may_cut_dimensions = choice_option(options, "dimensions", ("whole", "cut")) == "cut"
        self._inputs_at_most = number_option(options, "inputs", _INPUTS_AT_MOST, 1, 100_000)
        self._batcher = Batcher(
            self._model.embed,
            lambda one: len(one.ids),
            batch_items=self._model.batch_limit or _BATCH_ITEMS,
            batch_size=max(_BATCH_TOKENS, self._model.max_tokens),
            waiting_requests=number_option(options, "queue", 64, 0, 65_536),
            waiting_items=4 * self._inputs_at_most,
        )
        self._tokenizing = ThreadPoolExecutor(1, thread_name_prefix="tokenize")
        self._judge = Judge(weights, threads) if can_judge(options, weights) else None
        self._requests = self._tokens = 0

    async def embeddings(self, request: JsonObject) -> JsonObject:
        """Vectors for `input`, at length 1; `usage` counts the tokens that the model read."""
        dialect.check_fields(request)
        as_base64 = dialect.wants_base64(request)
        length = dialect.dimensions(request, self._model.dimensions, may_cut=self._may_cut_dimensions)
        prefix = self._prefixes.get(dialect.input_type(request), "")
        inputs = dialect.text_inputs(request, self._inputs_at_most)
        tokens = await self._tokenized(inputs, prefix)
        vectors = await self._batcher.submit(tokens)
        if length < self._model.dimensions:
            vectors = unit(vectors[:, :length])
        count = sum(len(one.ids) for one in tokens)
        self._requests += 1
        self._tokens += count
        return dialect.answer(vectors, as_base64=as_base64, usage={"prompt_tokens": count, "total_tokens": count})

    async def safety_scores(self, request: JsonObject) -> JsonObject:
        """modelport.engine.backend.SafetyBackend"""
        return await self._judging.scores(dialect.texts_to_judge(request, self._inputs_at_most))

    async def attack_scores(self, request: JsonObject) -> JsonObject:
        """modelport.engine.backend.SafetyBackend"""
        return await self._judging.attack_scores(dialect.texts_to_judge(request, self._inputs_at_most))

    async def image_score(self, request: JsonObject) -> JsonObject:
        """modelport.engine.backend.SafetyBackend"""
        url = request.get("image")
        if not isinstance(url, str):
            raise WorkerError.invalid("image", "'image' must be a data URL.")
        return await self._judging.image_score(url)

    @property
    def _judging(self) -> Judge:
        if self._judge is None:
            raise WorkerError(404, "not_found", "Only all-MiniLM-L6-v2 with int8 weights judges texts.")
        return self._judge

    async def image_embeddings(self, request: JsonObject) -> JsonObject:
        """A text model reads no images."""
        raise NotImplementedError

    def chat(self, request: JsonObject) -> AsyncIterator[JsonObject]:
        """An embedding model writes no text."""
        raise NotImplementedError

    def completions(self, request: JsonObject) -> AsyncIterator[JsonObject]:
        """An embedding model writes no text."""
        raise NotImplementedError

    async def tokenize(self, request: JsonObject) -> JsonObject:
        """The number of tokens that the model would read."""
        texts = request.get("texts", [request.get("text")])
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise WorkerError.invalid("text", "'text' must be a text, or 'texts' a list of texts.")
        tokens = await self._run(self._model.tokenized, texts) if texts else []
        return {"count": sum(len(one.ids) for one in tokens)}

    def facts(self) -> JsonObject:
        """What the model is."""
        return {
            "context_length": self._model.max_tokens,
            "dimensions": self._model.dimensions,
            "inputs_at_most": self._inputs_at_most,
            "slots": 1,
        }

    def load(self) -> JsonObject:
        """What it is doing, and what it has done since it was opened."""
        return {
            "busy_slots": int(self._batcher.busy),
            "queue_length": self._batcher.waiting,
            "requests": self._requests,
            "tokens": self._tokens,
            "batches": self._batcher.batches,
        }

    async def close(self) -> None:
        """Ends the threads."""
        await self._batcher.close()
        if self._judge is not None:
            await self._judge.close()
        self._tokenizing.shutdown(cancel_futures=True)

    async def _tokenized(self, inputs: Sequence[str] | Sequence[list[int]], prefix: str) -> list[TokenIds]:
        tokens: list[TokenIds] = []
        for at in range(0, len(inputs), TEXTS_AT_A_TIME):
            tokens += await self._run(self._read, inputs[at : at + TEXTS_AT_A_TIME], prefix)
        return tokens

    async def _run(self, function: Callable[..., Value], *arguments: Any) -> Value:
        return await asyncio.get_running_loop().run_in_executor(self._tokenizing, function, *arguments)

    def _read(self, inputs: Sequence[str] | Sequence[list[int]], prefix: str) -> list[TokenIds]:
        """The inputs as the model reads them."""
        texts = [prefix + one for one in inputs if isinstance(one, str)]
        tokens = (
            self._model.tokenized(texts)
            if texts
            else [self._model.wrapped(one) for one in inputs if not isinstance(one, str)]
        )
        if self._refuse_long and any(one.cut for one in tokens):
            raise WorkerError(
                400,
                "context_length_exceeded",
                f"This model's maximum context length is {self._model.max_tokens} tokens, and an input is longer. "
                "Please reduce your input.",
                param="input",
            )
        return tokens


def _prefixes(options: Mapping[str, Any]) -> dict[str, str]:
    prefixes = options.get("prefixes") or {}
    if not isinstance(prefixes, Mapping) or not all(
        key in dialect.INPUT_TYPES and isinstance(value, str) for key, value in prefixes.items()
    ):
        raise ModelFileError("'prefixes' maps text, query or document to the words written before such a text.")
    return dict(prefixes)
