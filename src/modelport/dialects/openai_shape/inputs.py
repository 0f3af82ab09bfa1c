"""What text completions and embeddings are made from: texts, lists of token ids, pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from modelport.core.requests import ImageInput
from modelport.dialects.fields import FieldWalk, Place, Read, Shape, many
from modelport.dialects.openai_shape import bounds

Inputs = tuple[str | tuple[int, ...], ...]


def inputs_of(value: str | Sequence[Any], limit: int) -> Inputs | None:
    """A text, a list of token ids, or a list of either, in its one form; None if they are mixed, empty or too many."""
    if isinstance(value, str):
        return (value,)
    if not value:
        return None
    kind = type(value[0])
    if any(type(item) is not kind for item in value):
        return None
    if kind is int:
        return (tuple(value),)
    if len(value) > limit or (kind is tuple and not all(value)):
        return None
    return tuple(value)


def reader(limit: int) -> Read:
    """The same, leniently, for at most so many: names what is mixed, empty or too many."""

    def read(walk: FieldWalk, value: Any, place: Place) -> Inputs:
        if isinstance(value, str):
            return (value,)
        if not isinstance(value, list):
            walk.refuse("string_type", place, "Input should be a valid string or a list", value)
            return ()
        if value and isinstance(value[0], int | float):
            return (_token_ids(walk, value, place),)
        items = walk.items(value, place, 1, limit) or []
        kind: type = list if items and isinstance(items[0], list) else str
        inputs: list[str | tuple[int, ...]] = []
        for i, item in enumerate(items):
            place_of_item = (*place, str(i))
            if kind is list:
                ids = walk.items(item, place_of_item, 1, bounds.TOKEN_LIMIT)
                inputs.append(_token_ids(walk, ids or [], place_of_item))
            else:
                inputs.append(walk.string(item, place_of_item) or "")
        return tuple(inputs)

    return read


def _token_ids(walk: FieldWalk, values: list[Any], place: Place) -> tuple[int, ...]:
    ids = [walk.integer(value, (*place, str(i)), 0, bounds.TOKEN_LIMIT) for i, value in enumerate(values)]
    return tuple(id for id in ids if id is not None)


_IMAGE: Final = Shape(ImageInput, {"image": FieldWalk.string, "text": FieldWalk.string}, ("image",))
images: Final = many(_IMAGE.read, 1, bounds.INPUTS_LIMIT)
"""A list of pictures."""
