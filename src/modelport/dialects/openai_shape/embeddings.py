"""An embeddings call's body, of texts or pictures: one typed decode when it is as its schema says, the slow walk when
not."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from modelport.core.requests import EmbeddingsRequest, EncodingFormat, ImageEmbeddingsRequest, ImageInput
from modelport.dialects.fields import FieldWalk, Place, split_fields
from modelport.dialects.openai_shape import bounds
from modelport.dialects.openai_shape.completions import inputs_of, walk_inputs

InputType = Literal["text", "query", "document"]

_Dimensions = Annotated[int, Meta(ge=1, le=bounds.TOKEN_LIMIT)]
_FORMATS: tuple[str, ...] = get_args(EncodingFormat)
_TYPES: tuple[str, ...] = get_args(InputType)


class EmbeddingsOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The fields of a call with texts. A list is one text as token ids, or several texts."""

    input: str | tuple[str | bounds.TokenId | tuple[bounds.TokenId, ...], ...]
    model: str | None = None
    dimensions: _Dimensions | None = None
    encoding_format: EncodingFormat | None = None
    input_type: InputType | None = None


class ImageEmbeddingsOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The fields of a call with pictures."""

    input: Annotated[tuple[ImageInput, ...], Meta(min_length=1, max_length=bounds.INPUTS_LIMIT)]
    model: str | None = None
    dimensions: _Dimensions | None = None
    encoding_format: EncodingFormat | None = None
    input_type: InputType | None = None


_TEXTS = msgspec.json.Decoder(EmbeddingsOptions)
_IMAGES = msgspec.json.Decoder(ImageEmbeddingsOptions)


def decode_texts_fast(body: bytes) -> EmbeddingsRequest | None:
    """The request, if the body is just as the schema says; None leaves the verdict to `decode_texts_slow`."""
    try:
        options = _TEXTS.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    input = inputs_of(options.input, bounds.INPUTS_LIMIT)
    if input is None:
        return None
    return EmbeddingsRequest(
        input=input,
        model=options.model,
        dimensions=options.dimensions,
        encoding_format=options.encoding_format or "float",
        input_type=options.input_type,
        body_bytes=len(body),
    )


def decode_images_fast(body: bytes) -> ImageEmbeddingsRequest | None:
    """The request, if the body is just as the schema says; None leaves the verdict to `decode_images_slow`."""
    try:
        options = _IMAGES.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return ImageEmbeddingsRequest(
        input=options.input,
        model=options.model,
        dimensions=options.dimensions,
        encoding_format=options.encoding_format or "float",
        input_type=options.input_type,
        body_bytes=len(body),
    )


def decode_texts_slow(fields: dict[str, Any], body_bytes: int) -> EmbeddingsRequest:
    """The request, from a body that is a JSON object. Raises InvalidParameters."""
    walk = FieldWalk()
    given, options = _options(walk, fields)
    input: tuple[str | tuple[int, ...], ...] = ()
    if "input" in given:
        input = walk_inputs(walk, given["input"], ("body", "input"), bounds.INPUTS_LIMIT)
    else:
        walk.missing(("body", "input"), given)
    walk.finish()
    return EmbeddingsRequest(input=input, **options, body_bytes=body_bytes)


def decode_images_slow(fields: dict[str, Any], body_bytes: int) -> ImageEmbeddingsRequest:
    """The request, from a body that is a JSON object. Raises InvalidParameters."""
    walk = FieldWalk()
    given, options = _options(walk, fields)
    items: list[Any] | None = []
    if "input" in given:
        items = walk.items(given["input"], ("body", "input"), 1, bounds.INPUTS_LIMIT)
    else:
        walk.missing(("body", "input"), given)
    images = [_image(walk, item, ("body", "input", str(i))) for i, item in enumerate(items or [])]
    walk.finish()
    input = tuple(image for image in images if image is not None)
    return ImageEmbeddingsRequest(input=input, **options, body_bytes=body_bytes)


def _options(walk: FieldWalk, fields: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    names = EmbeddingsOptions.__struct_fields__
    given, extra = split_fields(fields, names)
    options: dict[str, Any] = {"extra": extra}
    if "model" in given:
        options["model"] = walk.string(given["model"], ("body", "model"))
    if "dimensions" in given:
        options["dimensions"] = walk.integer(given["dimensions"], ("body", "dimensions"), 1, bounds.TOKEN_LIMIT)
    if "encoding_format" in given:
        options["encoding_format"] = walk.literal(given["encoding_format"], ("body", "encoding_format"), _FORMATS)
    if "input_type" in given:
        options["input_type"] = walk.literal(given["input_type"], ("body", "input_type"), _TYPES)
    return given, options


def _image(walk: FieldWalk, value: Any, place: Place) -> ImageInput | None:
    fields = walk.mapping(value, place)
    if fields is None:
        return None
    image = text = None
    if fields.get("image") is None:
        walk.missing((*place, "image"), fields)
    else:
        image = walk.string(fields["image"], (*place, "image"))
    if fields.get("text") is not None:
        text = walk.string(fields["text"], (*place, "text"))
    return None if image is None else ImageInput(image, text)
