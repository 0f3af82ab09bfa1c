"""What must not leave this server: the secrets of the configuration, and where its upstreams are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, get_args
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, JsonValue

from modelport.app.configuration import Configuration
from modelport.config.secrets import Secret
from modelport.core.ports.providers import Address, Provider
from modelport.core.redaction import Redactor

COMMON_PATHS = frozenset({"", "/", "/v1", "/api", "/api/v1", "/openai", "/openai/v1"})
"""Paths of a base URL that tell nothing of where it is."""


def build_redactor(*configurations: Configuration) -> Redactor:
    """Knows every secret of these configurations, and the address of every provider but our own engines."""
    secrets: list[str] = []
    addresses: list[str] = []
    for known in configurations:
        secrets += [secret.reveal() for secret in secrets_of(known.settings)]
        secrets += [known.generated.reveal()] if known.generated is not None else []
        addresses.append(str(known.settings.server.data_dir))
        for provider in known.providers.values():
            if isinstance(provider, Provider):
                addresses += places_of(provider.address)
    for secret in tuple(secrets):
        if "://" in secret:
            secrets += passwords_of(secret)
            addresses += hosts_of(secret)
    return Redactor(secrets, addresses)


def secrets_of(value: Any) -> Iterator[Secret]:
    """Every secret below a section of the settings."""
    match value:
        case Secret():
            yield value
        case BaseModel():
            for name in fields_with_secrets(type(value)):
                yield from secrets_of(getattr(value, name))
            yield from secrets_of(value.__pydantic_extra__)
        case Mapping():
            for item in value.values():
                yield from secrets_of(item)
        case list() | tuple():
            for item in value:
                yield from secrets_of(item)


@cache
def fields_with_secrets(model: type[BaseModel]) -> tuple[str, ...]:
    """The fields that a secret can be in or below. Few can: a configuration of a thousand deployments has a hundred
    thousand fields, and is looked through at each change."""
    return tuple(name for name, field in model.model_fields.items() if may_hold_secrets(field.annotation))


def may_hold_secrets(annotation: Any) -> bool:
    """Whether a value of this type can be a secret, or hold one."""
    if annotation is Secret or annotation is Any:
        return True
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation.model_config.get("extra") == "allow" or bool(fields_with_secrets(annotation))
    return annotation is not JsonValue and any(map(may_hold_secrets, get_args(annotation)))


def places_of(address: Address) -> Iterator[str]:
    """An upstream's address, in whole and in parts."""
    yield from hosts_of(address.base_url)
    if address.unix_socket is not None:
        yield address.unix_socket
    if address.proxy is not None:
        yield from hosts_of(address.proxy)


def hosts_of(url: str) -> Iterable[str]:
    """The URL itself, its authority, its host, and its path where that is not everybody's."""
    parts = urlsplit(url)
    bare = parts.netloc.rpartition("@")[2]
    path = parts.path.rstrip("/")
    return (url, f"{parts.scheme}://{bare}", bare, parts.hostname or "", path if path not in COMMON_PATHS else "")


def passwords_of(url: str) -> Iterable[str]:
    """What a URL holds beside its address: the user with the password, and the password as it is sent."""
    parts = urlsplit(url)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    return (f"{user}:{password}", parts.netloc.rpartition("@")[0], password) if password else ()
