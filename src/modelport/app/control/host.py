"""The file's configuration and the stored objects as one: validated as the file is, and served by every process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from msgspec import structs

from modelport.app.configuration import UNLOADABLE, Configuration, ControlState, configure
from modelport.app.control.policies import violations_of
from modelport.app.redactor import secrets_of
from modelport.app.snapshot import embedded_deployments
from modelport.config.document import Document, read_file
from modelport.config.faults import ConfigError, Fault, dotted
from modelport.config.literals import shown_provider
from modelport.config.load import Loaded, parse
from modelport.config.preflight import problems
from modelport.config.secrets import Secret
from modelport.config.settings import Settings
from modelport.config.sources import Flags, chosen_file
from modelport.config.stored import SECTIONS, StoredEntry
from modelport.control.plane import ACCOUNT
from modelport.core.ports.control import (
    Body,
    InvalidResource,
    Origin,
    PolicyViolation,
    Resource,
    ResourceConflict,
    StoredObject,
)

BLOCKLISTS: Final = "blocklists"


class NotNow(Exception):
    """The server cannot take up a change while it runs; the text says why."""


class Server(Protocol):
    """One process, or several, that take up what is prepared."""

    def check(self, new: Configuration, *, has_objects: bool) -> None:
        """Raises NotNow for what only a restart can take up. `has_objects`: some of it is not in the file."""
        ...

    async def serve(self, settings: Settings, control: ControlState) -> None:
        """Every process serves it when this returns."""
        ...


@dataclass(frozen=True)
class Prepared:
    """What `apply` takes. `control` has no version yet."""

    settings: Settings
    control: ControlState


class ConfigurationFile:
    """The document that the server was started with, or has read last."""

    def __init__(self, config: Path | None, flags: Flags, environ: Mapping[str, str]) -> None:
        """Raises ConfigError."""
        self._config = config
        self._flags = flags
        self._environ = environ
        self.read()

    def read(self) -> None:
        """Reads it again. Raises ConfigError; the document is the one before then."""
        file = chosen_file(self._config, self._environ)
        document = Document({}) if file is None else read_file(file)
        self._file, self._document = file, document
        self._secrets: dict[str, Secret] = {}
        self.resources = tuple(self._resources())

    def know(self, settings: Settings) -> None:
        """The secrets that the server begins with: a change over the API reads none of them again."""
        self._secrets.update({secret.origin: secret for secret in secrets_of(settings)})

    @property
    def state(self) -> tuple[Path | None, Document, dict[str, Secret], tuple[Resource, ...]]:
        """What was read, to be able to go back to it."""
        return self._file, self._document, self._secrets, self.resources

    @state.setter
    def state(self, state: tuple[Path | None, Document, dict[str, Secret], tuple[Resource, ...]]) -> None:
        self._file, self._document, self._secrets, self.resources = state

    def loaded(self, objects: Sequence[StoredObject]) -> Loaded:
        """The file with these objects. Raises ConfigError, also for what keeps a server from starting."""
        document = self._document
        if self._is_without_deployments and any(o.kind == "deployments" for o in objects):
            data = {**document.data, "deployments": built_in_deployments()}
            document = Document(data, document.lines, document.faults)
        entries = tuple(entries_of(objects))
        loaded = parse(document, self._file, self._environ, self._flags, stored=entries, known=self._secrets)
        if found := list(problems(loaded.settings)):
            raise ConfigError(loaded.fault(item.path, item.what) for item in found)
        return loaded

    @property
    def _is_without_deployments(self) -> bool:
        return not self._document.data.get("deployments") and self._flags.model is None

    def _resources(self) -> Iterator[Resource]:
        for section in SECTIONS:
            for name, key, body in named(section, self._document.data.get(section)):
                line = self._document.lines.get((section, key))
                yield given(
                    section, name, shown(section, body), "file", f"{self._file}:{line}" if line else str(self._file)
                )
        if self._is_without_deployments:
            for name, body in built_in_deployments().items():
                yield given("deployments", name, body, "built_in", None)


class ServingHost:
    """control.plane_ports.Host."""

    failures: tuple[type[Exception], ...] = UNLOADABLE

    def __init__(
        self, file: ConfigurationFile, control: ControlState, generated: Secret | None, server: Server
    ) -> None:
        self.file = file
        self._control = control
        self.generated = generated
        self.is_stale = False
        """The store has been away for too long: calls are refused."""
        self.warnings: tuple[str, ...] = ()
        """Of what was prepared last: what an operator should know although it is no fault."""
        self._server = server

    def given(self) -> Sequence[Resource]:
        """Host"""
        return self.file.resources

    async def prepare(self, objects: Sequence[StoredObject], subject: tuple[str, str] | None) -> Prepared:
        """Host"""
        try:
            prepared, new = await asyncio.to_thread(self._prepared, objects)
            self._server.check(new, has_objects=bool(objects))
            return prepared
        except NotNow as error:
            raise ResourceConflict(f"{error}.") from error
        except ConfigError as error:
            if subject is None:
                raise
            raise worded(error, objects, subject) from None
        except UNLOADABLE as error:
            if subject is None:
                raise
            raise InvalidResource(f"This cannot be served: {error}.") from None

    def violations(
        self, prepared: Prepared, deployment: str | None, policy: str | None = None
    ) -> Sequence[PolicyViolation]:
        """Host"""
        return violations_of(prepared.settings, deployment, policy)

    async def apply(self, prepared: Prepared, version: int) -> None:
        """Host"""
        control = structs.replace(prepared.control, version=version, is_stale=self.is_stale)
        await self._server.serve(prepared.settings, control)

    def _passed_over(self, objects: Sequence[StoredObject]) -> Iterator[str]:
        """Stored objects whose name the file has now."""
        taken = {(resource.kind, resource.name.lower()): resource.place for resource in self.file.resources}
        for o in objects:
            kind = "keys" if o.kind == ACCOUNT else o.kind
            if (place := taken.get((kind, o.name.lower()))) is not None:
                yield f"{place}: stored {o.kind} {o.name!r} is passed over: the file has the same name"

    def _prepared(self, objects: Sequence[StoredObject]) -> tuple[Prepared, Configuration]:
        loaded = self.file.loaded(objects)
        settings, self.warnings = loaded.settings, (*loaded.warnings, *self._passed_over(objects))
        control = structs.replace(self._control, prices=prices_of(objects))
        # What cannot be served is refused before it is stored.
        return Prepared(settings, control), configure(settings, self.generated, control=control)


def entries_of(objects: Sequence[StoredObject]) -> Iterator[StoredEntry]:
    """What the objects are in the configuration."""
    for o in objects:
        if o.kind in SECTIONS:
            yield StoredEntry(o.kind, o.name, o.body)
        elif o.kind == ACCOUNT:
            yield StoredEntry("keys", ACCOUNT, o.body)


def prices_of(objects: Sequence[StoredObject]) -> tuple[Body, ...]:
    """The stored prices, in the price list's words."""
    return tuple(o.body for o in objects if o.kind == "prices")


def built_in_deployments() -> dict[str, Body]:
    """What is deployed where neither the file nor a flag deploys anything, in the file's words."""
    return {
        name: found.model_dump(mode="json", exclude_unset=True, exclude_none=True)
        for name, found in embedded_deployments().items()
    }


def named(section: str, value: Any) -> Iterator[tuple[str, str | int, Body]]:
    """Name, key and body of each entry of a section; a catalogue's entries are named by model and version."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            body = {"items": item} if section == BLOCKLISTS and isinstance(item, list) else item
            yield str(key), key, dict(body) if isinstance(body, Mapping) else {}
    elif isinstance(value, list):
        seen: set[str] = set()
        for index, item in enumerate(value):
            if isinstance(item, Mapping):
                name = str(item.get("name"))
                name = f"{name}-{item.get('version', 1)}" if name.lower() in seen else name
                seen.add(name.lower())
                yield name, index, dict(item)


def shown(section: str, body: Body) -> Body:
    """An entry of the file without the secrets that are written in it."""
    if section == "providers":
        return shown_provider(body)
    if section == "deployments" and isinstance(inline := body.get("provider"), Mapping):
        return {**body, "provider": shown_provider(inline)}
    return body


def given(kind: str, name: str, body: Body, origin: Origin, place: str | None) -> Resource:
    """One that cannot be changed over the API."""
    return Resource(kind=kind, name=name, body=body, origin=origin, place=place)


def worded(error: ConfigError, objects: Sequence[StoredObject], subject: tuple[str, str] | None) -> InvalidResource:
    """The configuration's faults as the API says them: places inside the body that was sent."""
    base = base_of(objects, subject)
    faults = [(inside(fault, base), fault.what) for fault in error.faults]
    told = "; ".join(f"{place}: {what}" if place else what for place, what in faults)
    return InvalidResource(f"This is not valid: {told}.", faults)


def base_of(objects: Sequence[StoredObject], subject: tuple[str, str] | None) -> str | None:
    """The dotted place of the object that has changed; None: of none."""
    if subject is None or subject[0] == "models":
        return None
    return dotted(subject)


def inside(fault: Fault, base: str | None) -> str:
    """The place of a fault; inside of the object where it is about that."""
    if base is not None and (fault.key == base or fault.key.startswith((f"{base}.", f"{base}["))):
        return fault.key[len(base) :].lstrip(".")
    return fault.key
