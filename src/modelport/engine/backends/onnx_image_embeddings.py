"""Image embeddings by ONNX Runtime, texts in the same space: the embedded ConSE model, or the operator's own pair.

Options: `weights` (the image model), `text_weights` and `tokenizer` (the text model; without them, only images),
`size`, `mean`, `std` (how the image model wants its images; default: its input's size, CLIP's numbers), `max_tokens`,
`pooling`, `inputs` (at most, per request), `image_bytes`, `image_pixels` (at most, per image), `threads`, `queue`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelport.engine.backend import JsonObject, Operation, Options, WorkerError
from modelport.engine.onnx import dialect
from modelport.engine.onnx.batching import Batcher
from modelport.engine.onnx.image_models import ImageModel
from modelport.engine.onnx.images import ImageLimits, Pixels, image_bytes, read_image
from modelport.engine.onnx.session import ModelFileError, number_option, path_option, thread_count
from modelport.engine.onnx.text import TEXTS_AT_A_TIME, TextModel, TokenIds, Vectors, unit

_BATCH_IMAGES = 8
_BATCH_TEXTS = 32
_BATCH_TOKENS = 4096
_IMAGES_AT_MOST = 64
_TEXTS_AT_MOST = 2048
_IMAGE_BYTES_AT_MOST = 20_000_000
_IMAGE_PIXELS_AT_MOST = 50_000_000


async def open(options: Options) -> OnnxImageEmbeddings:
    """Loads the weights, in a thread. Raises ModelFileError with a reason for the operator."""
    return await asyncio.to_thread(OnnxImageEmbeddings, options)


@dataclass(frozen=True, slots=True)
class _Input:
    """One entry of `input`: a picture, a text, or both."""

    url: str | None
    text: str | None
    param: str


class OnnxImageEmbeddings:
    """An image model and, if there is one, the text model of the same space, each behind a batching queue."""

    operations: frozenset[Operation]

    def __init__(self, options: Options) -> None:
        weights = path_option(options, "weights")
        if weights is None:
            raise ModelFileError("The option 'weights' must name an ONNX file.")
        threads = thread_count(options.get("threads"))
        queue = number_option(options, "queue", 64, 0, 65_536)
        self._images = ImageModel(options, weights, threads)
        self._texts = _text_model(options, threads)
        self._check_one_space()
        self.operations = frozenset({"image_embeddings"} if self._texts is None else {"image_embeddings", "embeddings"})
        self._inputs_at_most = number_option(options, "inputs", _IMAGES_AT_MOST, 1, 10_000)
        self._limits = ImageLimits(
            number_option(options, "image_bytes", _IMAGE_BYTES_AT_MOST, 1, 1 << 40),
            number_option(options, "image_pixels", _IMAGE_PIXELS_AT_MOST, 1, 1 << 40),
        )
        self._image_batches: Batcher[Pixels] = Batcher(
            self._images.embed,
            lambda _: 1,
            batch_items=self._images.batch_limit or _BATCH_IMAGES,
            batch_size=_BATCH_IMAGES,
            waiting_requests=queue,
            waiting_items=4 * self._inputs_at_most,
        )
        self._text_batches = None if self._texts is None else _text_batcher(self._texts, queue)
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="read")
        self._requests = self._tokens = 0

    async def image_embeddings(self, request: JsonObject) -> JsonObject:
        """One vector per entry; a picture with a text gets the mean of both vectors, at length 1 again."""
        dialect.check_fields(request)
        as_base64 = dialect.wants_base64(request)
        dialect.dimensions(request, self._images.dimensions, may_cut=False)
        dialect.input_type(request)
        inputs = self._parsed(request)
        pixels, tokens = await self._read_all(inputs)
        vectors = await self._embedded(inputs, pixels, tokens)
        patches = self._images.patches * len(pixels)
        count = patches + sum(len(one.ids) for one in tokens)
        self._count(count)
        usage = {"prompt_tokens": count, "total_tokens": count}
        if pixels:
            usage |= {"prompt_patches": patches, "total_patches": patches}
        return dialect.answer(vectors, as_base64=as_base64, usage=usage)

    async def embeddings(self, request: JsonObject) -> JsonObject:
        """Vectors of texts, in the space of the images."""
        if self._texts is None or self._text_batches is None:
            raise NotImplementedError
        dialect.check_fields(request)
        as_base64 = dialect.wants_base64(request)
        dialect.dimensions(request, self._images.dimensions, may_cut=False)
        dialect.input_type(request)
        inputs = dialect.text_inputs(request, _TEXTS_AT_MOST)
        texts = [one for one in inputs if isinstance(one, str)]
        if len(texts) < len(inputs):
            raise WorkerError.unsupported("input", "This model takes texts, not token ids.")
        tokens: list[TokenIds] = []
        for at in range(0, len(texts), TEXTS_AT_A_TIME):
            some = texts[at : at + TEXTS_AT_A_TIME]
            tokens += await asyncio.get_running_loop().run_in_executor(self._reading, self._texts.tokenized, some)
        vectors = await self._text_batches.submit(tokens)
        count = sum(len(one.ids) for one in tokens)
        self._count(count)
        return dialect.answer(vectors, as_base64=as_base64, usage={"prompt_tokens": count, "total_tokens": count})

    def chat(self, request: JsonObject) -> AsyncIterator[JsonObject]:
        """An embedding model writes no text."""
        raise NotImplementedError

    def completions(self, request: JsonObject) -> AsyncIterator[JsonObject]:
        """An embedding model writes no text."""
        raise NotImplementedError

    async def tokenize(self, request: JsonObject) -> JsonObject:
        """The number of tokens that the text model would read."""
        texts = request.get("texts", [request.get("text")])
        if self._texts is None or not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise WorkerError.invalid("text", "'text' must be a text, or 'texts' a list of texts.")
        tokens = self._texts.tokenized(texts) if texts else []
        return {"count": sum(len(one.ids) for one in tokens)}

    def facts(self) -> JsonObject:
        """What the model is."""
        return {
            "context_length": self._texts.max_tokens if self._texts else None,
            "dimensions": self._images.dimensions,
            "image_size": self._images.preparation.size,
            "inputs_at_most": self._inputs_at_most,
            "slots": 1,
        }

    def load(self) -> JsonObject:
        """What it is doing, and what it has done since it was opened."""
        queues = [queue for queue in (self._image_batches, self._text_batches) if queue is not None]
        return {
            "busy_slots": int(any(queue.busy for queue in queues)),
            "queue_length": sum(queue.waiting for queue in queues),
            "requests": self._requests,
            "tokens": self._tokens,
            "batches": sum(queue.batches for queue in queues),
        }

    async def close(self) -> None:
        """Ends the threads."""
        await self._image_batches.close()
        if self._text_batches is not None:
            await self._text_batches.close()
        self._reading.shutdown(cancel_futures=True)

    def _parsed(self, request: JsonObject) -> list[_Input]:
        """The entries of `input`, checked before any image is decoded."""
        entries = request.get("input")
        if not isinstance(entries, list) or not entries:
            raise WorkerError.invalid("input", "'input' must be a list of at least one {'image': …}.")
        if len(entries) > self._inputs_at_most:
            raise WorkerError.invalid(
                "input", f"'input' has {len(entries)} entries; at most {self._inputs_at_most} are allowed."
            )
        return [self._entry(entry, f"input.{index}") for index, entry in enumerate(entries)]

    def _entry(self, entry: Any, param: str) -> _Input:
        if not isinstance(entry, dict) or not entry.keys() <= {"image", "text"}:
            raise WorkerError.invalid(param, "An entry of 'input' is an object with 'image' and perhaps 'text'.")
        url, text = entry.get("image"), entry.get("text")
        if (url is not None and not isinstance(url, str)) or (text is not None and not isinstance(text, str)):
            raise WorkerError.invalid(param, "'image' and 'text' must be strings.")
        if url is None and text is None:
            raise WorkerError.invalid(f"{param}.image", "'image' is required.")
        if text is not None and self._texts is None:
            raise WorkerError.unsupported(f"{param}.text", "This model takes images without texts.")
        return _Input(url, text, param)

    async def _read_all(self, inputs: Sequence[_Input]) -> tuple[list[Pixels], list[TokenIds]]:
        """The pictures and the texts, each in the order of the entries that have one. One entry at a time, so that no
        request waits for all of another's."""
        pixels: list[Pixels] = []
        tokens: list[TokenIds] = []
        pixels_left = self._limits.request_pixels
        for one in inputs:
            image, ids, pixels_left = await asyncio.get_running_loop().run_in_executor(
                self._reading, self._read, one, pixels_left
            )
            pixels += image
            tokens += ids
        return pixels, tokens

    def _read(self, one: _Input, pixels_left: int) -> tuple[list[Pixels], list[TokenIds], int]:
        """What the entry has of both, and how many pixels may still be decoded."""
        pixels = []
        if one.url is not None:
            param = f"{one.param}.image"
            content = image_bytes(one.url, self._limits, param)
            image, pixels_left = read_image(content, self._images.preparation, self._limits, param, pixels_left)
            pixels.append(image)
        tokens = self._texts.tokenized([one.text]) if self._texts is not None and one.text is not None else []
        return pixels, tokens, pixels_left

    async def _embedded(self, inputs: Sequence[_Input], pixels: list[Pixels], tokens: list[TokenIds]) -> Vectors:
        """One vector per entry."""
        summed: Vectors = np.zeros((len(inputs), self._images.dimensions), dtype=np.float32)
        if pixels:
            rows = [index for index, one in enumerate(inputs) if one.url is not None]
            summed[rows] += await self._image_batches.submit(pixels)
        if tokens and self._text_batches is not None:
            rows = [index for index, one in enumerate(inputs) if one.text is not None]
            summed[rows] += await self._text_batches.submit(tokens)
        return unit(summed)

    def _check_one_space(self) -> None:
        if self._texts is not None and self._texts.dimensions != self._images.dimensions:
            raise ModelFileError(
                f"The image model has {self._images.dimensions} dimensions and the text model "
                f"{self._texts.dimensions}: they are no pair."
            )

    def _count(self, tokens: int) -> None:
        self._requests += 1
        self._tokens += tokens


def _text_model(options: Options, threads: int) -> TextModel | None:
    weights = path_option(options, "text_weights")
    return None if weights is None else TextModel(options, weights, threads)


def _text_batcher(texts: TextModel, queue: int) -> Batcher[TokenIds]:
    return Batcher(
        texts.embed,
        lambda one: len(one.ids),
        batch_items=texts.batch_limit or _BATCH_TEXTS,
        batch_size=max(_BATCH_TOKENS, texts.max_tokens),
        waiting_requests=queue,
        waiting_items=4 * _TEXTS_AT_MOST,
    )
