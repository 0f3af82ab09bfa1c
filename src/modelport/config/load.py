"""The door: a path, the environment and flags → Settings, or a ConfigError that names every fault at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, Final

from pydantic import ValidationError

from modelport.config.adapters import ProviderCheck
from modelport.config.blocklists import unusable_entries
from modelport.config.crosschecks import Declared, budgets, findings, issuers, same_keys
from modelport.config.document import Document, read_file
from modelport.config.doubts import doubts
from modelport.config.embedded import embedded_models
from modelport.config.faults import ConfigError, Fault, Path
from modelport.config.landed import refusals
from modelport.config.messages import Explainer
from modelport.config.secrets import Secret, SecretSources
from modelport.config.settings import Settings
from modelport.config.sources import Flags, chosen_file, overlay
from modelport.config.stored import STORED, StoredEntry, lay_stored

_BY_ENTRY: Final = ("providers", "deployments", "keys", "content_filters", "blocklists", "projects", "policies")
NO_FLAGS: Final = Flags()


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, the file they came from, and what an operator should know although it is no fault."""

    settings: Settings
    file: FilePath | None
    warnings: tuple[str, ...]
    fault: Callable[[Path, str], Fault]
    """A fault at a place of the tree, with the line that the place came from."""


def load(
    path: FilePath | str | None,
    environ: Mapping[str, str],
    flags: Flags = NO_FLAGS,
) -> Settings:
    """As `read`, for those who have no use for warnings."""
    return read(path, environ, flags).settings


def read(
    path: FilePath | str | None,
    environ: Mapping[str, str],
    flags: Flags = NO_FLAGS,
    *,
    with_secrets: bool = True,
) -> Loaded:
    """Reads the file at `path`, else at MODELPORT_CONFIG, else none. Raises ConfigError and nothing else."""
    file = chosen_file(path, environ)
    document = Document({}) if file is None else read_file(file)
    return parse(document, file, environ, flags, with_secrets=with_secrets)


def parse(
    document: Document,
    file: FilePath | None,
    environ: Mapping[str, str],
    flags: Flags = NO_FLAGS,
    *,
    with_secrets: bool = True,
    stored: Sequence[StoredEntry] = (),
    known: dict[str, Secret] | None = None,
) -> Loaded:
    """The same for a document that is read already. `file` gives relative paths their start; `stored` are the control
    plane's objects; `known` are the secrets that were read for this document before, and gets those that are read."""
    laid = overlay(document.data, environ, flags)
    laid.data.setdefault("server", {})  # so that defaults, too, know this environment's home directory
    origins = {**laid.origins, **dict.fromkeys(lay_stored(laid.data, stored), STORED)}

    def place(path: Path) -> tuple[str, int | None]:
        for length in range(len(path), -1, -1):
            known = path[:length]
            if known in origins:
                return origins[known], None
            if known in document.lines:
                return str(file), document.lines[known]
        return str(file) if file is not None else "configuration", 1 if file is not None else None

    directory = file.absolute().parent if file is not None else FilePath.cwd()
    explainer = Explainer(laid.data, place)
    sources = SecretSources(environ, directory, are_read=with_secrets, known={} if known is None else known)
    check = _Check(laid.data, explainer, sources)
    settings = check.settings()
    faults = [*document.faults, *check.faults(document.faults)]
    slips: tuple[str, ...] = ()
    if settings is not None and settings.prices.file is not None:
        if settings.prices.file.is_file():
            from modelport.config.prices import read_prices

            try:
                _, slips = read_prices(settings.prices.file, settings.prices.currency)
            except ConfigError as exc:
                faults += exc.faults
        else:
            faults.append(explainer.fault(("prices", "file"), f"there is no file {str(settings.prices.file)!r}"))
    if faults or settings is None:
        raise ConfigError(sorted(faults, key=lambda fault: (fault.line or 0, fault.source)))
    noted = (str(explainer.fault(path, what)) for path, what in doubts(settings))
    return Loaded(settings, file, (*dict.fromkeys(check.sources.warnings), *noted, *slips), explainer.fault)


class _Check:
    """One pass over one configuration, collecting faults."""

    def __init__(self, data: Mapping[str, Any], explainer: Explainer, sources: SecretSources) -> None:
        self.sources = sources
        self._data = dict(data)
        self._explainer = explainer
        self._found: dict[Path, Fault] = {}

    def faults(self, told: Collection[Fault]) -> list[Fault]:
        """What was found, without what is told already about the same key."""
        keys = {fault.key for fault in told}
        return [fault for fault in self._found.values() if fault.key not in keys]

    def settings(self) -> Settings | None:
        declared = Declared.of(self._data, embedded_models())
        for path, what in refusals(self._data):
            self._note(path, self._explainer.fault(path, what))
        self._data = self._with_checked_providers()
        settings = self._validated()
        for path, what in findings(self._data, declared):
            self._note(path, self._explainer.fault(path, what))
        if settings is not None:
            for path, what in (
                *(*same_keys(settings), *issuers(settings), *budgets(settings)),
                *unusable_entries(settings),
            ):
                self._note(path, self._explainer.fault(path, what))
        return settings

    def _note(self, path: Path, fault: Fault) -> None:
        """One fault per place, and none inside a place that is refused as a whole."""
        if not any(path[:length] in self._found for length in range(1, len(path) + 1)):
            self._found[path] = fault

    def _with_checked_providers(self) -> dict[str, Any]:
        check = ProviderCheck(self._explainer, self.sources)
        data = dict(self._data)
        providers, deployments = data.get("providers"), data.get("deployments")
        if isinstance(providers, Mapping):
            data["providers"] = {
                name: self._checked(check, value, ("providers", name)) for name, value in providers.items()
            }
        if isinstance(deployments, Mapping):
            data["deployments"] = {
                name: {**value, "provider": self._checked(check, value["provider"], ("deployments", name, "provider"))}
                if isinstance(value, Mapping) and "provider" in value
                else value
                for name, value in deployments.items()
            }
        return data

    def _checked(self, check: ProviderCheck, value: Any, path: Path) -> Any:
        if not isinstance(value, Mapping):
            return value
        result, found = check.checked(value, path)
        for at, fault in found:
            self._note(at, fault)
        return result

    def _validated(self) -> Settings | None:
        """Settings of everything that is right so far. The second round is without the entries that had a fault."""
        data = self._data
        try:
            return Settings.model_validate(data, context=self.sources)
        except ValidationError as exc:
            for path, fault in self._explainer.explain(exc, Settings):
                self._note(path, fault)
                data = _without(data, path)
        try:
            return Settings.model_validate(data, context=self.sources)
        except ValidationError:
            return None  # the faults found so far are told; the rest shows when they are gone


def _without(data: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The data without the entry, or else the section, that the path is in."""
    rest = dict(data)
    section = rest.pop(str(path[0]), None) if path else None
    if len(path) > 1 and path[0] in _BY_ENTRY and isinstance(section, Mapping):
        rest[str(path[0])] = {name: value for name, value in section.items() if name != path[1]}
    return rest
