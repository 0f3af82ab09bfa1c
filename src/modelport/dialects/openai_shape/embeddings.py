"""Embeddings calls with texts and with pictures, from their bodies."""

from __future__ import annotations

from typing import Any, Final

from modelport.core.requests import EmbeddingsRequest, ImageEmbeddingsRequest
from modelport.dialects.openai_shape import bounds, parameters
from modelport.dialects.openai_shape.inputs import inputs_of
from modelport.dialects.openai_shape.schema import BodySchema


def _settle_texts(options: Any) -> bool | None:
    """See BodySchema."""
    options.input = inputs_of(options.input, bounds.INPUTS_LIMIT)
    return None if options.input is None else _settle_images(options)


def _settle_images(options: Any) -> bool | None:
    """See BodySchema."""
    options.encoding_format = options.encoding_format or "float"
    return False


EMBEDDINGS: Final = BodySchema(EmbeddingsRequest, parameters.EMBEDDINGS, _settle_texts)
IMAGE_EMBEDDINGS: Final = BodySchema(ImageEmbeddingsRequest, parameters.IMAGE_EMBEDDINGS, _settle_images)
