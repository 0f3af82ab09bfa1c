"""The process of the development issuer: two listeners on loopback, and files that clients read."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import uvicorn

from modelport.config.listen import is_loopback
from modelport.config.tls import RenewedCertificate
from modelport.core.roles import Role
from modelport.identity import endpoints
from modelport.identity.environment import as_shell, environment_file, federated_token_file, variables
from modelport.identity.http import Answerer, IdentityApp
from modelport.identity.identities import FOLDER, Directory, IdentityFault, replace_private
from modelport.identity.issuing import ASSERTION_SECONDS, Issuer
from modelport.identity.signing import SigningKeys

TICK_SECONDS: Final = 1.0
CONNECTIONS: Final = 200
LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "[::1]")
AUDIENCES: Final = (
    "https://cognitiveservices.azure.com",
    "https://ml.azure.com",
    "https://ai.azure.com",
)
ROLES: Final = tuple(role.value for role in Role)


@dataclass(frozen=True, slots=True)
class IssuerOptions:
    """What the operator chose. `rotate_seconds` None: one key for good."""

    token_seconds: int = 3600
    rotate_seconds: float | None = None
    version: Literal["1.0", "2.0"] = "1.0"
    imds: bool = False


class IdentityServer:
    """From listening sockets and a directory to answers; writes what clients and `modelport serve` read."""

    def __init__(
        self,
        directory: Directory,
        certificate: RenewedCertificate,
        listeners: tuple[socket.socket, socket.socket],
        options: IssuerOptions,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`listeners`: of the authority, and of managed identities. Raises IdentityFault, OSError, ConfigError."""
        for listener in listeners:
            if not is_loopback(listener.getsockname()[0]):
                raise IdentityFault("a development issuer listens on loopback only")
        self.options = options
        self._certificate = certificate
        self._listeners = listeners
        self._now = now
        self.authority, self.managed = f"https://{_address(listeners[0])}", f"http://{_address(listeners[1])}"
        keys = SigningKeys(
            directory.folder / "signing-keys.json",
            now,
            token_seconds=options.token_seconds,
            rotate_seconds=options.rotate_seconds,
        )
        self.issuer = Issuer(
            directory, keys, now, authority=self.authority, token_seconds=options.token_seconds, version=options.version
        )
        self._written_at = 0.0

    @property
    def directory(self) -> Directory:
        """Its tenant and identities."""
        return self.issuer.directory

    @property
    def ca_file(self) -> Path:
        """What clients trust."""
        return self._certificate.authority

    def oidc_entry(self) -> dict[str, Any]:
        """The entry of `auth.oidc` that makes a server accept these tokens."""
        return {
            "issuer": self.issuer.issuer,
            "audiences": list(AUDIENCES),
            "ca": str(self.ca_file),
            "roles": [{"claim": "roles", "value": role, "role": role} for role in ROLES],
        }

    def variables(self, identity_name: str | None = None) -> dict[str, str]:
        """The environment of a client that acts as this identity; None: the first one."""
        named = {found.name: found for found in self.directory.identities}
        identity = named[identity_name] if identity_name is not None else self.directory.identities[0]
        return variables(
            self.directory,
            identity,
            authority=self.authority,
            managed=self.managed,
            ca_file=self.ca_file,
            imds=self.options.imds,
        )

    def write_files(self) -> None:
        """The federated tokens, each identity's environment, and the entry for `modelport serve --identity dev`."""
        for identity in self.directory.identities:
            token = self.issuer.assertion(identity)
            replace_private(federated_token_file(self.directory, identity), token.encode())
            shell = as_shell(self.variables(identity.name))
            replace_private(environment_file(self.directory, identity), shell.encode())
        replace_private(entry_file(self.directory.folder.parent), json.dumps(self.oidc_entry()).encode())
        self._written_at = self._now()

    async def serve(self, on_ready: Callable[[], None]) -> None:
        """Until SIGINT or SIGTERM. `on_ready` is called when clients can connect."""
        self.write_files()
        managed = partial(endpoints.managed_identity, self.issuer, imds=self.options.imds)
        servers = [
            _server(partial(endpoints.authority, self.issuer), self._listeners[0], self._certificate.context),
            _server(managed, self._listeners[1], None),
        ]
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, _stop, servers)
        keeper = asyncio.create_task(self._keep())
        try:
            on_ready()  # the sockets listen: a connection waits there for a moment
            await asyncio.gather(
                *(server.serve(sockets=[found]) for server, found in zip(servers, self._listeners, strict=True))
            )
        finally:
            keeper.cancel()

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.issuer.keys.rotate_if_due()
            self._certificate.renew_if_due()
            if self._now() > self._written_at + ASSERTION_SECONDS / 2:
                self.write_files()


class _QuietServer(uvicorn.Server):
    """Leaves signals to the process: there are two of these."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def entry_file(data_dir: Path) -> Path:
    """Where the running, or last, issuer of a data directory wrote its entry of `auth.oidc`."""
    return data_dir / FOLDER / "oidc.json"


def _server(answer: Answerer, listener: socket.socket, context: ssl.SSLContext | None) -> uvicorn.Server:
    port = listener.getsockname()[1]
    config = uvicorn.Config(
        IdentityApp(answer, [f"{name}:{port}" for name in LOOPBACK_NAMES]),
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=2,
        ssl_context_factory=(lambda *_: context) if context is not None else None,
    )
    return _QuietServer(config)


def _stop(servers: Sequence[uvicorn.Server]) -> None:
    for server in servers:
        server.should_exit = True


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
