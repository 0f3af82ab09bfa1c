"""Tokens of Entra ID, by azure-identity: the extra `entra`. The library is imported at the first token."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import time
from typing import Any, Final, Literal

from msgspec import Struct

from modelport.upstream.credentials.oauth import printable
from modelport.upstream.credentials.source import AccessToken, TokenFault

Kind = Literal["managed_identity", "workload_identity", "client_secret"]
DEFAULT_SCOPE: Final = "https://cognitiveservices.azure.com/.default"
LIBRARY: Final = "azure.identity"


class EntraCredentials(Struct, frozen=True):
    """Who the gateway is for Entra. What is None comes from the environment, as azure-identity documents."""

    kind: Kind
    scope: str = DEFAULT_SCOPE
    tenant_id: str | None = None
    client_id: str | None = None
    client_secret: str | None = None
    authority: str | None = None
    ca_file: str | None = None
    proxy: str | None = None

    def __repr__(self) -> str:
        return f"EntraCredentials({self.kind!r})"


def is_installed() -> bool:
    """Whether azure-identity is there."""
    try:
        return importlib.util.find_spec(LIBRARY) is not None
    except ImportError:
        return False


async def fetch_token(credentials: EntraCredentials) -> AccessToken:
    """A token. Raises TokenFault.

    The library's object is made anew each time: it would give the token that it remembers."""
    library = await asyncio.to_thread(importlib.import_module, f"{LIBRARY}.aio")
    errors = importlib.import_module("azure.core.exceptions")
    try:
        async with _credential(library, credentials) as credential:
            found = await credential.get_token(credentials.scope)
    except (ValueError, OSError, errors.AzureError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise TokenFault(printable(lines[0])) from None
    seconds = found.expires_on - time.time()
    if seconds <= 0:
        raise TokenFault("Entra issued a token that has expired")
    return AccessToken(found.token, seconds)


def _credential(library: Any, given: EntraCredentials) -> Any:
    """azure-identity's object. Raises ValueError where the environment lacks what it needs."""
    options: dict[str, Any] = {"logging_enable": False}
    if given.ca_file is not None:
        options["connection_verify"] = given.ca_file
    proxies = {"proxies": {"http": given.proxy, "https": given.proxy}} if given.proxy is not None else {}
    match given.kind:
        case "managed_identity":
            return library.ManagedIdentityCredential(client_id=given.client_id, **options)
        case "workload_identity":
            named = {"tenant_id": given.tenant_id, "client_id": given.client_id}
            known = {name: value for name, value in named.items() if value is not None}
            return library.WorkloadIdentityCredential(**known, **options, **proxies)
    if given.authority is not None:
        options |= {"authority": given.authority, "disable_instance_discovery": True}
    return library.ClientSecretCredential(given.tenant_id, given.client_id, given.client_secret, **options, **proxies)
