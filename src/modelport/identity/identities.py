"""Who the development issuer knows: its tenant, its identities, and the secrets that it made for them.

Everything is kept in `DATA_DIR/identity`, a folder of the owner alone; each file with a secret has mode 600.
"""

from __future__ import annotations

import contextlib
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from modelport.config.secrets import (
    Secret,
    SecretFault,
    SecretSources,
    generated_key,
    is_reference,
    prepare_data_dir,
    write_private,
)

FOLDER: Final = "identity"
FIELDS: Final = ("name", "client_id", "object_id", "secret", "roles", "groups")
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")


class IdentityFault(Exception):
    """The identities or the folder cannot be used; the text says what is wrong and holds no secret."""


@dataclass(frozen=True, slots=True)
class Identity:
    """An application that can get tokens. `roles` and `groups` go into each of them as they are."""

    name: str
    client_id: str
    object_id: str
    secret: Secret
    roles: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Directory:
    """A tenant and its identities; the first one is what a managed identity without a name means."""

    folder: Path
    tenant_id: str
    identities: tuple[Identity, ...]
    assertion_key: Secret
    """Signs the assertions in the federated token files, and nothing else."""
    identity_header: Secret
    """What a caller of the managed identity endpoint of App Service has to show."""

    def by_client_id(self, client_id: str) -> Identity | None:
        """The identity of this client id; None if there is none."""
        return next((found for found in self.identities if found.client_id == client_id.lower()), None)

    def by_object_id(self, object_id: str) -> Identity | None:
        """The identity of this object id; None if there is none."""
        return next((found for found in self.identities if found.object_id == object_id.lower()), None)


def open_directory(data_dir: Path, wanted: Sequence[Mapping[str, Any]], environ: Mapping[str, str]) -> Directory:
    """The directory in `data_dir`, made at its first use. `wanted`: identities as a file has them. Raises
    IdentityFault, OSError."""
    prepare_data_dir(data_dir)
    folder = data_dir / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    tenant_id = _tenant_id(folder)
    sources = SecretSources(environ, Path.cwd())
    identities = tuple(_identity(entry, tenant_id, folder, sources) for entry in wanted)
    if not identities:
        raise IdentityFault("no identity is given")
    for kind in ("name", "client_id", "object_id"):
        values = [getattr(found, kind) for found in identities]
        if twice := next((value for value in values if values.count(value) > 1), None):
            raise IdentityFault(f"two identities have the {kind} {twice}")
    return Directory(
        folder=folder,
        tenant_id=tenant_id,
        identities=identities,
        assertion_key=generated_key(folder, "assertion-key").secret,
        identity_header=generated_key(folder, "identity-header").secret,
    )


def read_identities(file: Path) -> list[Mapping[str, Any]]:
    """A YAML list of mappings: `{name, client_id, object_id, secret, roles, groups}`, `name` alone is required. Raises
    IdentityFault."""
    try:
        entries = yaml.safe_load(file.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no YAML text"
        raise IdentityFault(f"{file} cannot be read: {reason}") from None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise IdentityFault(f"{file} is no list of identities: [{{name: developer, roles: [Inference User]}}]")
    return entries


def _identity(entry: Mapping[str, Any], tenant_id: str, folder: Path, sources: SecretSources) -> Identity:
    name = entry.get("name")
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise IdentityFault(f"an identity's name is made of a-z, 0-9, '.', '_' and '-': {name!r}")
    if unknown := sorted(set(entry) - set(FIELDS)):
        raise IdentityFault(f"{name}: {unknown[0]!r} is not known; an identity has {', '.join(FIELDS)}")
    tenant = uuid.UUID(tenant_id)
    return Identity(
        name=name,
        client_id=_guid(name, "client_id", entry.get("client_id"), uuid.uuid5(tenant, f"client {name}")),
        object_id=_guid(name, "object_id", entry.get("object_id"), uuid.uuid5(tenant, f"object {name}")),
        secret=_secret(name, entry.get("secret"), folder, sources),
        roles=_words(name, "roles", entry.get("roles")),
        groups=_words(name, "groups", entry.get("groups")),
    )


def _guid(name: str, field: str, given: object, default: uuid.UUID) -> str:
    if given is None:
        return str(default)
    try:
        return str(uuid.UUID(str(given)))
    except ValueError:
        raise IdentityFault(f"{name}: {field} is no GUID") from None


def _secret(name: str, given: object, folder: Path, sources: SecretSources) -> Secret:
    if given is None:
        return generated_key(folder, f"{name}.secret").secret
    if not isinstance(given, str) or not is_reference(given):
        raise IdentityFault(f"{name}: a secret is not written here; write env:NAME or file:PATH")
    try:
        return sources.resolve(given)
    except SecretFault as fault:
        raise IdentityFault(f"{name}: {fault}") from None


def _words(name: str, field: str, given: object) -> tuple[str, ...]:
    if given is None:
        return ()
    if not isinstance(given, list | tuple) or not all(isinstance(word, str) and word for word in given):
        raise IdentityFault(f"{name}: {field} is a list of texts")
    return tuple(given)


def _tenant_id(folder: Path) -> str:
    file = folder / "tenant.json"
    try:
        return str(uuid.UUID(json.loads(file.read_text("ascii"))["tenant_id"]))
    except FileNotFoundError:
        pass
    except (ValueError, KeyError, TypeError):
        raise IdentityFault(f"{file} holds no tenant; delete it, and the next start makes one") from None
    with contextlib.suppress(FileExistsError):  # another start was faster
        write_private(file, json.dumps({"tenant_id": str(uuid.uuid4())}).encode())
    return _tenant_id(folder)


def replace_private(path: Path, content: bytes) -> None:
    """Writes a file of mode 600 in one step: a reader sees the old or the new content, whole."""
    draft = path.with_name(f".{path.name}.draft")
    draft.unlink(missing_ok=True)
    write_private(draft, content)
    draft.replace(path)
