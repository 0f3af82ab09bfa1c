"""Objects that come over the API: their secrets are literals, and nothing in them leads to the server's environment or
to files outside of its data directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import BaseModel

from modelport.config.adapters import (
    AdapterFault,
    known_types,
    path_fields,
    secret_fields,
    settings_model,
)
from modelport.config.secrets import MASK, TRANSPARENT, Secret, is_reference, is_secret_name
from modelport.config.stored import STORED

REFERENCE: Final = "env: and file: are for the configuration file alone; over the API a secret is written as it is"
PATHS: Final = ("tokenizer",)
"""Settings of engines that are paths, and typed as text."""
AMBIENT: Final = ("managed_identity", "workload_identity")
"""Credentials that the server has from where it runs."""
Fault = tuple[str, str]
"""A place inside the body, dotted, and what is wrong there."""
Body = dict[str, Any]


class LiteralError(Exception):
    """`faults` are never empty, and hold no secret."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(f"{place}: {what}" for place, what in faults))
        self.faults = tuple(faults)


def understood_provider(
    given: Mapping[str, Any],
    kept: Mapping[str, Any] | None,
    before: Mapping[str, Any] | None,
    data_dir: FilePath,
    base: str = "",
) -> Body:
    """The body of a provider with a Secret for each literal. A secret that is absent or masked is the one of `kept`,
    unless the provider's address is another than in `before`. `base`: where the provider stands, for faults. Raises
    LiteralError."""
    kind = given.get("type")
    model = _model(kind) if isinstance(kind, str) else None
    typed = frozenset(secret_fields(model)) if model is not None else frozenset()
    if before is None or address_of(given, before) != address_of(before, before):
        kept = None
    faults: list[Fault] = []
    body = {
        key: _understood(value, base + key, key, kept.get(key) if kept else None, faults, is_due=key in typed)
        for key, value in given.items()
    }
    for key, value in (kept or {}).items():
        if key not in given and (found := only_secrets(value)) is not None:
            body[key] = found
    if (ambient := _credential(given).get("type")) in AMBIENT:
        faults.append(
            (f"{base}credential.type", f"{ambient} is the server's own identity, and for the configuration file alone")
        )
    paths = {*(path_fields(model) if model is not None else ()), *PATHS}
    for key in paths & body.keys():
        _path_into(body, key, base, data_dir, faults)
    if faults:
        raise LiteralError(faults)
    return {key: value for key, value in body.items() if value is not _Absent}


def shown_provider(given: Mapping[str, Any]) -> Body:
    """The file's own provider, for an answer: references stay, what is written beside them in a secret's place is
    masked."""
    kind = given.get("type")
    model = _model(kind) if isinstance(kind, str) else None
    typed = frozenset(secret_fields(model)) if model is not None else frozenset()
    return {key: _shown(value, key, is_due=key in typed) for key, value in given.items()}


def _shown(value: Any, key: str, *, is_due: bool, depth: int = 0) -> Any:
    if isinstance(value, Mapping):
        inside = depth if key in TRANSPARENT else depth + 1
        return {name: _shown(item, name, is_due=is_due, depth=inside) for name, item in value.items()}
    if isinstance(value, list):
        return [_shown(item, key, is_due=is_due, depth=depth) for item in value]
    is_secret = is_due or (is_secret_name(key) and depth == 0)
    return MASK if is_secret and isinstance(value, str) and not is_reference(value) else value


def _model(kind: str) -> type[BaseModel] | None:
    if kind not in known_types():
        return None
    try:
        return settings_model(kind)
    except AdapterFault:
        return None


def address_of(given: Mapping[str, Any], before: Mapping[str, Any]) -> tuple[object, ...]:
    """Where a provider's secret is sent, and what it is exchanged for. A masked proxy is the one of `before`."""
    base_url, proxy = given.get("base_url"), given.get("proxy")
    if proxy == MASK or "proxy" not in given:
        proxy = before.get("proxy")
    try:
        parts = urlsplit(base_url) if isinstance(base_url, str) else None
        origin = (
            (parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme))
            if parts
            else None
        )
    except ValueError:
        origin = None
    proxy = proxy.reveal() if isinstance(proxy, Secret) else proxy
    credential = _credential(given)
    token_server = tuple(credential.get(name) for name in ("type", "token_url", "authority", "tenant_id"))
    return given.get("type"), given.get("host"), origin, given.get("unix_socket"), proxy, token_server


def _credential(given: Mapping[str, Any]) -> Mapping[str, Any]:
    credential = given.get("credential")
    return credential if isinstance(credential, Mapping) else {}


def only_secrets(value: Any) -> Any:
    """The part of a value that is secret; None: nothing of it."""
    if isinstance(value, Secret):
        return value
    if isinstance(value, Mapping):
        found = {key: part for key, item in value.items() if (part := only_secrets(item)) is not None}
        return found or None
    return None


class _Absent:
    """Stands for a value that is not to be there."""


def _understood(
    value: Any, place: str, key: str, before: Any, faults: list[Fault], *, is_due: bool, depth: int = 0
) -> Any:
    if isinstance(value, Mapping):
        inside = depth if key in TRANSPARENT else depth + 1
        known = before if isinstance(before, Mapping) else {}
        found = {
            name: _understood(item, f"{place}.{name}", name, known.get(name), faults, is_due=is_due, depth=inside)
            for name, item in value.items()
        }
        return {name: item for name, item in found.items() if item is not _Absent}
    if isinstance(value, list):
        return [
            _understood(item, f"{place}[{index}]", key, None, faults, is_due=is_due, depth=depth)
            for index, item in enumerate(value)
        ]
    is_secret = is_due or (is_secret_name(key) and depth == 0)
    if isinstance(value, str) and (depth == 0 or is_secret or is_secret_name(key)) and is_reference(value):
        faults.append((place, REFERENCE))
        return _Absent
    if not is_secret or isinstance(value, bool):
        return value
    if value is None:
        return _Absent
    if value == MASK:
        return before if isinstance(before, Secret) else _Absent
    if not isinstance(value, str) or not value.strip():
        faults.append((place, "a secret is text, and not empty"))
        return _Absent
    return Secret(value, STORED)


def _path_into(body: Body, key: str, base: str, data_dir: FilePath, faults: list[Fault]) -> None:
    value = body[key]
    if not isinstance(value, str) or not value:
        return
    if "://" in value or "\0" in value or not (data_dir / value).resolve().is_relative_to(data_dir.resolve()):
        faults.append((base + key, "over the API a path leads into the server's data directory"))
    else:
        body[key] = str((data_dir / value).resolve())
