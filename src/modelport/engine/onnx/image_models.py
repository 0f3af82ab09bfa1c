"""Two ways from pixels to vectors that share a space with texts: an image model of the operator's own, or ConSE.

ConSE (convex combination of semantic embeddings) needs no network trained on images with texts: an ImageNet classifier
says how probable each of its thousand labels is, and the image's vector is the mean of the likeliest labels' text
vectors, weighted so. It knows the objects that ImageNet names and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from modelport.engine.onnx.images import Pixels, Preparation
from modelport.engine.onnx.session import ModelFileError, embedding_output, number_option, open_session
from modelport.engine.onnx.text import Vectors, unit

CONSE_OUTPUT = "probabilities"
_LIKELIEST = 20
_CONSE_PREPARATION = Preparation(224, (127 / 255,) * 3, (128 / 255,) * 3)
_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_DEVIATION = (0.26862954, 0.26130258, 0.27577711)


class ImageModel:
    """A loaded image model: `embed` gives one unit vector per image."""

    def __init__(self, options: Mapping[str, Any], weights: Path, threads: int) -> None:
        self._session = open_session(weights, threads)
        self._input = self._session.get_inputs()[0]
        shape = self._input.shape
        if len(shape) != 4:
            raise ModelFileError(f"{weights} is no image model: its first input has {len(shape)} axes, not 4.")
        self.batch_limit = shape[0] if isinstance(shape[0], int) else None
        outputs = [output.name for output in self._session.get_outputs()]
        self._labels: Vectors | None = None
        if outputs == [CONSE_OUTPUT]:
            self._labels = _label_vectors()
            self._output = CONSE_OUTPUT
            self.preparation = _CONSE_PREPARATION
        else:
            self._output, rank = embedding_output(self._session)
            if rank != 2:
                raise ModelFileError(f"{weights} gives no embedding: its output {self._output!r} has {rank} axes.")
            self.preparation = _preparation(options, shape)
        size = self.preparation.size
        self.dimensions = self._probe(np.zeros((3, size, size), dtype=np.float32))

    @property
    def patches(self) -> int:
        """What one image counts in `usage`: its squares of 32 by 32 pixels."""
        return max(1, (self.preparation.size // 32) ** 2)

    def embed(self, images: Sequence[Pixels]) -> Vectors:
        """One unit vector per image."""
        batch = np.stack(images)
        if self._input.type == "tensor(float16)":
            batch = batch.astype(np.float16)
        made = np.asarray(self._session.run([self._output], {self._input.name: batch})[0], dtype=np.float32)
        return unit(made if self._labels is None else conse(made, self._labels))

    def _probe(self, image: Pixels) -> int:
        """One run, so that what cannot work fails when opening."""
        try:
            return int(self.embed([image]).shape[1])
        except Exception as error:  # the runtime's exceptions have no common base but Exception
            reason = (str(error).strip().splitlines() or [""])[0]
            raise ModelFileError(
                f"The image model cannot read {image.shape[1]} by {image.shape[2]} pixels: {reason}"
            ) from error


def conse(probabilities: Vectors, labels: Vectors) -> Vectors:
    """The mean of the likeliest labels' vectors, each weighted by its probability."""
    count = min(_LIKELIEST, probabilities.shape[1])
    likeliest = np.argpartition(-probabilities, count - 1, axis=1)[:, :count]
    share = np.take_along_axis(probabilities, likeliest, axis=1)
    share = share / np.maximum(share.sum(axis=1, keepdims=True), 1e-12)
    mixed: Vectors = np.einsum("nk,nkd->nd", share, labels[likeliest])
    return mixed


def _label_vectors() -> Vectors:
    packed = resources.files("modelport.engine.onnx") / "data" / "imagenet_label_vectors.npz"
    with resources.as_file(packed) as path, np.load(path, allow_pickle=False) as arrays:
        return unit(arrays["vectors"].astype(np.float32))


def _preparation(options: Mapping[str, Any], shape: Sequence[Any]) -> Preparation:
    """How the operator's model wants its images: the options, else its own input size and CLIP's numbers."""
    own = shape[2] if isinstance(shape[2], int) else 224
    size = number_option(options, "size", own, 8, 2048)
    if isinstance(shape[2], int) and size != shape[2]:
        raise ModelFileError(f"The model reads images of {shape[2]} by {shape[2]} pixels; 'size' cannot be {size}.")
    return Preparation(size, _three(options, "mean", _CLIP_MEAN), _three(options, "std", _CLIP_DEVIATION))


def _three(options: Mapping[str, Any], name: str, default: tuple[float, float, float]) -> tuple[float, float, float]:
    value = options.get(name)
    if value is None:
        return default
    if (
        not isinstance(value, Sequence)
        or len(value) != 3
        or not all(isinstance(one, int | float) and not isinstance(one, bool) for one in value)
        or (name == "std" and not all(one > 0 for one in value))
    ):
        raise ModelFileError(f"'{name}' must be three numbers, one per colour, not {value!r}.")
    return float(value[0]), float(value[1]), float(value[2])
