"""Whether upstreams, issuers and stores can be reached: a connection each, with TLS where the address says so."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from modelport.auth.oidc.issuers import names_of
from modelport.config.deployments import InlineProviderSettings
from modelport.config.settings import Settings
from modelport.providers.openai_compatible.endpoints import ENDPOINTS

SECONDS: Final = 5.0
PORTS: Final = {"http": 80, "https": 443, "redis": 6379, "rediss": 6379, "postgres": 5432, "postgresql": 5432}
WITH_TLS: Final = ("https", "rediss")


class Place(NamedTuple):
    """One address of the configuration. `failure`: why it cannot be reached; None if it can."""

    key: str
    address: str
    failure: str | None = None


class Wanted(NamedTuple):
    """A connection to try. `path`: a unix socket's instead of host and port."""

    key: str
    url: str
    path: str | None = None
    verify: bool = True
    authority: str | None = None


def connections(settings: Settings) -> list[Place]:
    """Every upstream, issuer and store, tried at the same time."""
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(probe, targets_of(settings)))


def targets_of(settings: Settings) -> Iterator[Wanted]:
    """What there is to reach."""
    for name, provider in settings.providers.items():
        yield from _upstream(f"providers.{name}", provider.options())
    for name, deployment in settings.deployments.items():
        if isinstance(deployment.provider, InlineProviderSettings):
            yield from _upstream(f"deployments.{name}.provider", deployment.provider.options())
    for index, entry in enumerate(settings.auth.oidc):
        authority = str(entry.ca) if entry.ca is not None else None
        reached = entry.proxy.reveal() if entry.proxy is not None else names_of(entry.issuer).discovery
        yield Wanted(f"auth.oidc[{index}]", reached, authority=authority)
    for key, secret in (("database_url", settings.database_url), ("redis_url", settings.redis_url)):
        if secret is not None and not secret.reveal().startswith("sqlite"):
            parts = urlsplit(secret.reveal())
            yield Wanted(key, secret.reveal(), parts.path if parts.scheme == "unix" else None)


def _upstream(key: str, options: dict[str, Any]) -> Iterator[Wanted]:
    host = options.get("host")
    known = ENDPOINTS[host].base_url if isinstance(host, str) and host in ENDPOINTS else None
    proxy, path, authority = options.get("proxy"), options.get("unix_socket"), options.get("ca_file")
    credential = options.get("credential") or {}
    places = {key: options.get("base_url") or known}
    places[f"{key}.credential"] = credential.get("token_url") or credential.get("authority")
    for place, url in places.items():
        if isinstance(to := url and (proxy or url), str):
            socket_path = str(path) if path and place == key else None
            verify = options.get("verify_tls") is not False
            yield Wanted(place, to, socket_path, verify, str(authority) if authority else None)


def probe(target: Wanted) -> Place:
    """Connects, and shakes hands where the address wants TLS."""
    parts = urlsplit(target.url)
    scheme = parts.scheme.partition("+")[0]
    host, port = parts.hostname or "localhost", parts.port or PORTS.get(scheme, 443)
    address = target.path or f"{scheme}://{host}:{port}"
    try:
        with _connected(target, host, port) as connection:
            if scheme in WITH_TLS and target.path is None:
                with _context(target).wrap_socket(connection, server_hostname=host):
                    pass
    except TimeoutError:
        return Place(target.key, address, f"does not answer within {SECONDS:g} s")
    except OSError as error:
        return Place(target.key, address, getattr(error, "verify_message", None) or error.strerror or str(error))
    return Place(target.key, address)


def _connected(target: Wanted, host: str, port: int) -> socket.socket:
    if target.path is None:
        return socket.create_connection((host, port), timeout=SECONDS)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(SECONDS)
    connection.connect(target.path)
    return connection


def _context(target: Wanted) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=target.authority)
    if not target.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
