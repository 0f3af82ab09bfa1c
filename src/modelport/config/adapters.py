"""The provider types that can be named, and what each adapter says about its own keys.

An adapter is found by name in `modelport.providers`, then among the installed entry points of that group; the embedded
engines are types too. An adapter module may have a pydantic model `Settings`: then its keys are checked here, before
anything starts.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.metadata import entry_points
from pathlib import Path as FilePath
from typing import Any, Final, get_args

from pydantic import BaseModel, SecretStr, ValidationError

from modelport.config.deployments import revealed
from modelport.config.embedded import EMBEDDED
from modelport.config.faults import Fault, Path, printable
from modelport.config.messages import Explainer
from modelport.config.secrets import (
    MASK,
    TRANSPARENT,
    Secret,
    SecretFault,
    SecretSources,
    expanded,
    is_reference,
    is_secret_name,
)
from modelport.config.section import shown, url_fault
from modelport.config.spelling import did_you_mean

_GROUP: Final = "modelport.providers"
_OURS: Final = ("type", "model", "region")

Faults = Iterator[tuple[Path, Fault]]


class AdapterFault(Exception):
    """The adapter is there and cannot be imported."""


def own_types() -> frozenset[str]:
    """The types that come with the package."""
    package = importlib.import_module(_GROUP)
    found = {module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_")}
    return frozenset(found.union(EMBEDDED))


def known_types() -> tuple[str, ...]:
    """Every value that `type` may have, in alphabetical order."""
    return tuple(sorted(own_types().union(point.name for point in entry_points(group=_GROUP))))


def settings_model(kind: str) -> type[BaseModel] | None:
    """The adapter's own `Settings`, if it has one. Raises AdapterFault."""
    if kind in EMBEDDED:
        return EMBEDDED[kind]
    try:
        module = adapter(kind)
    except (ImportError, AttributeError) as exc:  # what an entry point raises for a module or a name that is not there
        raise AdapterFault(f"the adapter {kind!r} cannot be imported: {exc}") from exc
    model = getattr(module, "Settings", None)
    return model if isinstance(model, type) and issubclass(model, BaseModel) else None


def adapter(kind: str) -> Any:
    """The module of a provider type: ours by name, then an installed plug-in's by entry point."""
    package = importlib.import_module(_GROUP)
    if any(module.name == kind for module in pkgutil.iter_modules(package.__path__)):
        return importlib.import_module(f"{_GROUP}.{kind}")
    return next(iter(entry_points(group=_GROUP, name=kind))).load()


class ProviderCheck:
    """Checks the provider mappings of one configuration and resolves their secrets."""

    def __init__(self, explainer: Explainer, sources: SecretSources) -> None:
        self._explainer = explainer
        self._sources = sources
        self._models: dict[str, type[BaseModel] | AdapterFault | None] = {}

    def checked(self, data: Mapping[str, Any], path: Path) -> tuple[dict[str, Any], list[tuple[Path, Fault]]]:
        """The mapping with secrets in place of references, and what is wrong with it."""
        found: list[tuple[Path, Fault]] = []
        result = {
            key: value if key in _OURS else self._resolved(value, (*path, key), key, found)
            for key, value in data.items()
        }
        kind = data.get("type")
        if isinstance(kind, str):
            result |= self._absolute_paths(kind, result)
            found.extend(self._kind_faults(kind, result, path))
        return result, found

    @cached_property
    def _types(self) -> tuple[str, ...]:
        return known_types()  # reads the metadata of everything installed

    def _is_known(self, kind: str) -> bool:
        return kind in own_types() or kind in self._types

    def _model(self, kind: str) -> type[BaseModel] | AdapterFault | None:
        """The adapter's `Settings`, looked up once."""
        if kind not in self._models:
            try:
                self._models[kind] = settings_model(kind) if self._is_known(kind) else None
            except AdapterFault as exc:
                self._models[kind] = exc
        return self._models[kind]

    def _absolute_paths(self, kind: str, data: Mapping[str, Any]) -> dict[str, str]:
        """What the adapter's `Settings` types as a path, and the file has as a relative one."""
        model = self._model(kind)
        if model is None or isinstance(model, AdapterFault):
            return {}
        names = path_fields(model)
        given = {name: data[name] for name in names if isinstance(data.get(name), str) and data[name]}
        given = {name: value for name, value in given.items() if "://" not in value}
        return {
            name: str(expanded(value, self._sources.directory, self._sources.environ)) for name, value in given.items()
        }

    def _resolved(self, value: Any, path: Path, key: str, found: list[tuple[Path, Fault]], depth: int = 0) -> Any:
        """A copy with secrets for references. Deep inside, where a script may say anything, only a reference under
        a secret's name is one."""
        if isinstance(value, Secret):
            return value
        if isinstance(value, Mapping):
            inside = depth if key in TRANSPARENT else depth + 1
            return {name: self._resolved(item, (*path, name), name, found, inside) for name, item in value.items()}
        if isinstance(value, list):
            return [self._resolved(item, (*path, index), key, found, depth) for index, item in enumerate(value)]
        is_named_secret = is_secret_name(key)
        is_due = is_named_secret and depth == 0 and value is not None and not isinstance(value, bool)
        may_refer = is_named_secret or depth == 0
        if is_due or (may_refer and isinstance(value, str) and is_reference(value)):
            return self._secret(value, path, found)
        return value

    def _secret(self, value: Any, path: Path, found: list[tuple[Path, Fault]]) -> Secret | None:
        try:
            return self._sources.resolve(value)
        except SecretFault as exc:
            found.append((path, self._explainer.fault(path, str(exc))))
            return None

    def _kind_faults(self, kind: str, data: Mapping[str, Any], path: Path) -> Faults:
        place = (*path, "type")
        if not self._is_known(kind):
            meant = did_you_mean(kind, self._types) or f"; known: {', '.join(self._types)}"
            what = f"{shown(kind)} is not a provider type{meant}"
            yield place, self._explainer.fault(place, what)
            return
        base_url = revealed(data.get("base_url"))
        if isinstance(base_url, str) and (fault := url_fault(base_url)) is not None:
            yield (*path, "base_url"), self._explainer.fault((*path, "base_url"), fault)
            return
        model = self._model(kind)
        if isinstance(model, AdapterFault):
            yield place, self._explainer.fault(place, printable(str(model), 300))
        elif model is not None:
            yield from self._own_faults(model, data, path)

    def _own_faults(self, model: type[BaseModel], data: Mapping[str, Any], path: Path) -> Faults:
        given = {key: value for key, value in data.items() if key not in _OURS or key in model.model_fields}
        try:
            model.model_validate(revealed(given))
        except ValidationError as exc:
            places = dict(_secrets(data, path))
            for at, fault in self._explainer.explain(exc, model, path, places):
                yield at, _without(fault, places.values())


def path_fields(model: type[BaseModel]) -> list[str]:
    """The settings that are typed as a path."""
    return [name for name, field in model.model_fields.items() if _holds(field.annotation, FilePath)]


def secret_fields(model: type[BaseModel]) -> list[str]:
    """The settings that hold a secret, whatever they are called."""
    return [name for name, field in model.model_fields.items() if _holds(field.annotation, SecretStr)]


def _holds(annotation: Any, kind: type) -> bool:
    return annotation is kind or any(_holds(argument, kind) for argument in get_args(annotation))


def _secrets(value: Any, path: Path) -> Iterator[tuple[Path, Secret]]:
    if isinstance(value, Secret):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _secrets(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _secrets(item, (*path, index))


def _without(fault: Fault, secrets: Any) -> Fault:
    """An adapter's own sentence may quote what it was given."""
    what = fault.what
    for secret in secrets:
        what = what.replace(secret.reveal(), MASK)
    return Fault(fault.source, fault.line, fault.key, what)
