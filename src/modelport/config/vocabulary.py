"""Which keys exist at which place of the settings tree, read from the types themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from modelport.config.faults import Path
from modelport.config.section import Section


def sections_at(root: type[BaseModel], path: Path) -> tuple[type[BaseModel], ...]:
    """The models that the value at `path` may be; empty when it is no section."""
    found: tuple[Any, ...] = (root,)
    for part in path:
        found = tuple(inner for annotation in found for inner in _inside(annotation, part))
    return tuple(model for annotation in found for model in _models(annotation))


def keys_at(root: type[BaseModel], path: Path) -> tuple[str, ...]:
    """The keys that may be written at `path`."""
    return tuple(dict.fromkeys(name for model in sections_at(root, path) for name in model.model_fields))


def places_of(root: type[BaseModel], key: str, path: Path = ()) -> Iterator[Path]:
    """Where in the tree a key of exactly this name belongs; names chosen by the operator appear as `NAME`."""
    for model in sections_at(root, path) if path else (root,):
        yield from _places(model, key, path)


def _places(model: type[BaseModel], key: str, path: Path) -> Iterator[Path]:
    for name, known in model.model_fields.items():
        if name == key:
            yield (*path, name)
        for annotation, steps in _below(known.annotation, (*path, name)):
            yield from _places(annotation, key, steps)


def _below(annotation: Any, path: Path) -> Iterator[tuple[type[BaseModel], Path]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation, path
        return
    arguments = get_args(annotation)
    if get_origin(annotation) is dict:
        yield from _below(arguments[1], (*path, "NAME"))
        return
    for argument in arguments:
        yield from _below(argument, path)


def _inside(annotation: Any, part: str | int) -> Iterator[Any]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        known = annotation.model_fields.get(str(part))
        if known is not None:
            yield known.annotation
    elif origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        yield arguments[1]
    elif origin in (tuple, list):
        yield arguments[0]
    else:
        for argument in arguments:
            yield from _inside(argument, part)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type):
        if issubclass(annotation, BaseModel):
            yield annotation
        return
    if get_origin(annotation) in (tuple, list, dict):
        return
    for argument in get_args(annotation):
        yield from _models(argument)
