"""Opens the control plane at a server's start: the secrets key, the store, and what the two hold."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from msgspec import structs

from modelport.app.configuration import UNLOADABLE, ControlState
from modelport.app.control.forms import ConfigForms
from modelport.app.control.host import ConfigurationFile, Server, ServingHost, prices_of
from modelport.app.control.store import ThreadedStore
from modelport.app.key_uses import KeyUses
from modelport.app.ledger import database_address
from modelport.config.faults import ConfigError, Fault
from modelport.config.secrets import Secret, generated_key
from modelport.config.settings import Settings
from modelport.config.sources import Flags
from modelport.control.plane import LocalControlPlane
from modelport.core.clock import Clock
from modelport.core.errors import ModelportError
from modelport.core.ports.control import ControlStore, ControlStoreUnavailable, StoredState
from modelport.core.ports.states import StoreState
from modelport.stores.sealing import Sealer
from modelport.stores.sql.address import DatabaseAddress

SECRETS_KEY: Final = "secrets-key"
"""The file in the data directory."""
FINGERPRINT: Final = "secrets_key"
"""The store's name for it."""
FOLLOW_SECONDS: Final = 1.0

_logger = logging.getLogger("modelport.control")


class OtherSecretsKey(Exception):
    """The store's secrets are sealed with another key."""


@dataclass
class OpenedControl:
    """The control plane before it serves: `settings` and `state` are what the server begins with."""

    file: ConfigurationFile
    store: ThreadedStore
    forms: ConfigForms
    settings: Settings
    state: ControlState
    objects: StoredState
    name: str
    path: Path | None
    """SQLite's file."""
    is_loaded: bool

    def plane(self, generated: Secret | None, server: Server, clock: Clock) -> ControlPlaneOfServer:
        """The control plane of a server that serves `settings`."""
        host = ServingHost(self.file, self.state, generated, server)
        plane = LocalControlPlane(self.store, self.forms, host, clock, self.objects)
        return ControlPlaneOfServer(self, host, plane, clock)


class ControlPlaneOfServer:
    """A control plane that serves, and follows what other servers of the same store change."""

    def __init__(self, opened: OpenedControl, host: ServingHost, plane: LocalControlPlane, clock: Clock) -> None:
        self.host = host
        self.plane = plane
        self.key_uses = KeyUses(opened.store, clock)
        self._opened = opened
        self.failure: str | None = None if opened.is_loaded else "its objects were not read yet"
        self._is_remote = opened.name == "postgresql"
        self._contact = time.monotonic()

    @property
    def served_version(self) -> int:
        """Of the objects that are served."""
        return self.plane.version

    @property
    def is_failing(self) -> bool:
        """Whether the store is away, or holds what cannot be served here."""
        return self.failure is not None

    def states(self) -> list[StoreState]:
        """How the store is."""
        name = f"control plane ({self._opened.name})"
        if self.failure is not None:
            return [StoreState(name, "degraded", f"version {self.plane.version} is served: {self.failure}")]
        return [StoreState(name, "ready", f"version {self.plane.version} is served")]

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Until the block ends."""
        following = asyncio.create_task(self._follow(), name="control plane")
        writing = asyncio.create_task(self.key_uses.write_repeatedly(), name="key uses")
        try:
            yield
        finally:
            for task in (following, writing):
                task.cancel()
            await asyncio.gather(following, writing, return_exceptions=True)
            await self.plane.write_refusals(is_last=True)
            await self.key_uses.write()
            await asyncio.to_thread(self._opened.store.close)

    async def reread(self) -> None:
        """Serves the file as it is now, with the stored objects. Raises UNLOADABLE, ModelportError."""
        before = self.host.file.state
        await asyncio.to_thread(self.host.file.read)
        try:
            await asyncio.to_thread(self.host.file.loaded, ())  # the file must start a server by itself
            await self.plane.again()
        except BaseException:
            self.host.file.state = before
            raise
        for warning in self.host.warnings:
            _logger.warning("%s", warning)

    async def _follow(self) -> None:
        store = self._opened.store
        while True:
            await self.plane.write_refusals()
            try:
                if not self._opened.is_loaded or self._is_remote:
                    await store.wait(FOLLOW_SECONDS)
                else:
                    await asyncio.sleep(FOLLOW_SECONDS)
                if self._opened.is_loaded and not store.is_open and not await asyncio.to_thread(self._has_objects):
                    continue  # nothing was ever stored, by this server or another one of the same data directory
                is_behind = self.plane.is_behind or not self._opened.is_loaded
                if is_behind or await store.version() != self.plane.version:
                    await self.plane.follow()
                self._opened.is_loaded = True
                await self._in_contact()
            except (ControlStoreUnavailable, OtherSecretsKey) as error:
                await self._out_of_contact(str(error))
                await asyncio.sleep(FOLLOW_SECONDS)
            except (ModelportError, *UNLOADABLE) as error:
                self._note(str(error))
                await asyncio.sleep(FOLLOW_SECONDS)

    def _has_objects(self) -> bool:
        path = self._opened.path
        return path is not None and has_objects(path)

    async def _in_contact(self) -> None:
        self._contact = time.monotonic()
        self._opened.store.away = self.failure = None
        if self.host.is_stale:
            self.host.is_stale = False
            await self.plane.again()
            _logger.info("the control plane's store is back: calls are answered again")

    async def _out_of_contact(self, reason: str) -> None:
        self._note(reason)
        self._opened.store.away = reason
        seconds = self._opened.settings.control.stale_seconds
        if not self.host.is_stale and time.monotonic() - self._contact > seconds:
            self.host.is_stale = True
            await self.plane.again()
            _logger.error("the control plane's store has been away for %g s: calls are refused", seconds)

    def _note(self, reason: str) -> None:
        if self.failure != reason:
            _logger.error("the control plane goes on with version %d: %s", self.plane.version, reason)
        self.failure = reason


async def open_control(
    settings: Settings, config: Path | None, flags: Flags, environ: Mapping[str, str]
) -> OpenedControl:
    """`settings`: the file's. Raises ConfigError, also for another secrets key or for objects that do not fit the file;
    OSError, DriverMissing."""
    return await asyncio.to_thread(_opened, settings, config, flags, environ)


def _opened(settings: Settings, config: Path | None, flags: Flags, environ: Mapping[str, str]) -> OpenedControl:
    address = database_address(settings)
    key = settings.secrets_key or generated_key(settings.server.data_dir, SECRETS_KEY).secret
    sealer = Sealer(key.reveal())
    file = ConfigurationFile(config, flags, environ)
    file.know(settings)
    forms = ConfigForms(sealer, settings.server.data_dir)
    store = ThreadedStore(lambda: opened_store(address, sealer))
    control = ControlState(salt=sealer.salt)
    name, path = address.kind, address.path
    opened = OpenedControl(file, store, forms, settings, control, StoredState(), name, path, is_loaded=True)
    if address.path is not None:
        from modelport.stores.sql.control_peek import peeked  # with it comes sqlite3, which a worker does without

        peek = peeked(address.path)
        if peek.claims.get(FINGERPRINT, sealer.fingerprint) != sealer.fingerprint:
            raise other_key(settings)
        if not peek.version:
            return opened
    try:
        state = store.read()
    except OtherSecretsKey:
        raise other_key(settings) from None
    except ControlStoreUnavailable as error:
        _logger.error("the server begins without the objects of the control plane: %s", error)
        opened.is_loaded = False
        return opened
    objects = tuple(structs.replace(o, body=forms.opened(o.kind, o.name, o.body)) for o in state.objects)
    opened.objects = StoredState(state.version, objects)
    opened.settings = file.loaded(objects).settings
    opened.state = structs.replace(control, version=state.version, prices=prices_of(objects))
    return opened


def has_objects(path: Path) -> bool:
    """Whether anything was ever stored."""
    from modelport.stores.sql.control_peek import peeked

    return peeked(path).version > 0


def opened_store(address: DatabaseAddress, sealer: Sealer) -> ControlStore:
    """Raises ControlStoreUnavailable, OtherSecretsKey."""
    from modelport.stores.sql.control import SqlControlStore

    store = SqlControlStore(address)
    if store.claim(FINGERPRINT, sealer.fingerprint) != sealer.fingerprint:
        store.close()
        raise OtherSecretsKey("its secrets are sealed with another secrets key")
    return store


def other_key(settings: Settings) -> ConfigError:
    """The start is refused: the server could read no secret, and would know no key."""
    where = settings.secrets_key.origin if settings.secrets_key is not None else f"the file {SECRETS_KEY}"
    what = f"the control plane's store was sealed with another key than that of {where}; restore that key"
    return ConfigError([Fault("configuration", None, "secrets_key", what)])
