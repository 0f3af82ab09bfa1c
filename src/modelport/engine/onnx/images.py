"""Images out of data URLs, decoded within bounds, and made into what an image model reads."""

from __future__ import annotations

import base64
import binascii
import io
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from modelport.engine.backend import WorkerError

Pixels = npt.NDArray[np.float32]
"""One image: channels, rows, columns, in the order of its model."""

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
_DATA_URL = re.compile(r"data:(?P<kind>[\w.+/-]*)(?:;[\w=.+-]+)*?;base64,", re.IGNORECASE)
_REQUEST_IMAGES = 4
_WHITE = (255, 255, 255, 255)


@dataclass(frozen=True, slots=True)
class Preparation:
    """How an image becomes numbers: short side to `size`, centre cut out, then (value/255 - mean) / deviation."""

    size: int
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What is refused before it is decoded."""

    bytes_at_most: int
    pixels_at_most: int

    @property
    def request_pixels(self) -> int:
        """What is decoded for all images of one request. A large JPEG is decoded at a fraction of its size."""
        return _REQUEST_IMAGES * self.pixels_at_most


def image_bytes(url: str, limits: ImageLimits, param: str) -> bytes:
    """The file inside a data URL. Raises WorkerError."""
    match = _DATA_URL.match(url[:200])
    if match is None:
        if url[:8].lower().startswith(("http://", "https://")):
            raise WorkerError.unsupported(param, "Images are not fetched from the network: send a data URL.")
        raise WorkerError.invalid(param, "An image must be a data URL: 'data:image/png;base64,…'.")
    encoded = url[match.end() :]
    if len(encoded) * 3 // 4 > limits.bytes_at_most:
        raise WorkerError.invalid(param, f"The image is larger than {limits.bytes_at_most} bytes.")
    try:
        return base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise WorkerError.invalid(param, "The image's base64 cannot be decoded.") from error


def read_image(
    content: bytes, preparation: Preparation, limits: ImageLimits, param: str, pixels_left: int
) -> tuple[Pixels, int]:
    """The image as the model reads it, and how many of `pixels_left` remain for the request's other images. Raises
    WorkerError."""
    return decoded(
        content, limits, param, pixels_left, preparation.size * 2, lambda image: prepared(image, preparation)
    )


def decoded(
    content: bytes,
    limits: ImageLimits,
    param: str,
    pixels_left: int,
    enough: int,
    prepare: Callable[[Image.Image], Pixels],
) -> tuple[Pixels, int]:
    """What `prepare` makes of the image in RGB or RGBA, and how many of `pixels_left` remain. Sizes are checked before
    anything is decoded. `enough`: pixels of a side; more need not be decoded. Raises WorkerError."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            width, height = image.size
            if width * height > limits.pixels_at_most:
                raise WorkerError.invalid(param, f"The image has more than {limits.pixels_at_most} pixels.")
            if image.format == "JPEG":  # decodes at a fraction of the size where that is enough
                image.draft("RGB", (enough, enough))
            pixels_left -= image.width * image.height
            if pixels_left < 0:
                most = limits.request_pixels
                raise WorkerError.invalid(param, f"The images of one request have more than {most} pixels together.")
            return prepare(_upright(image)), pixels_left
    except (UnidentifiedImageError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _unreadable(param) from error
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, OverflowError, MemoryError) as error:
        raise _unreadable(param) from error


def prepared(image: Image.Image, preparation: Preparation) -> Pixels:
    """An RGB or RGBA image, cut, scaled and normalised, with white behind what is transparent.

    Cutting comes first, so that a long thin image costs no more; the ground comes last, at the small size.
    """
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    size = preparation.size
    square = image.resize(
        (size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side), reducing_gap=2.0
    )
    values = np.asarray(on_white(square), dtype=np.float32) / 255.0
    normal = (values - np.array(preparation.mean, np.float32)) / np.array(preparation.deviation, np.float32)
    return np.ascontiguousarray(normal.transpose(2, 0, 1), dtype=np.float32)


def on_white(image: Image.Image) -> Image.Image:
    """An RGB or RGBA image in RGB, with white behind what is transparent."""
    if image.mode != "RGBA":
        return image
    ground = Image.new("RGBA", image.size, _WHITE)
    ground.alpha_composite(image)
    return ground.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    """As the camera held it, in RGB, or in RGBA if it has anything transparent."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode in ("I", "I;16", "I;16B", "I;16L"):
        numbers = np.asarray(upright)
        upright = Image.fromarray((np.clip(numbers, 0, 65535) >> 8).astype(np.uint8))
    if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
        return upright.convert("RGBA")
    return upright.convert("RGB")


def _unreadable(param: str) -> WorkerError:
    return WorkerError.invalid(param, f"The image cannot be read; it must be one of {', '.join(FORMATS)}.")
