"""Secrets: a type that cannot be printed, pickled or serialised; where values come from; the key we make ourselves.

Imports pydantic only where a settings class asks for it: commands that read one key do without.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets as random_secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, final

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, ValidationInfo
    from pydantic_core import CoreSchema

TRANSPARENT: Final = ("headers", "credential")
"""Mappings whose values are treated as if they were the provider's own: a secret's name means a secret."""
MASK: Final = "***"
PLACEHOLDER: Final = "https://placeholder.invalid/"
"""Where secrets are not read, each value begins with this: it may stand in a header and for an address."""
SECRET_FILE_BYTES_LIMIT: Final = 65_536
_REFERENCE: Final = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:\S.*", re.DOTALL)
_SECRET_NAME: Final = re.compile(
    r"(.*_)?(api_?key|key|secret|token|password|credentials?|authorization)", re.IGNORECASE
)
_SENDABLE: Final = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")
"""A header's value: spaces inside of it are legal, those around it are not part of it."""


@final
class Secret:
    """A value that shows itself only to `reveal`. `origin` says where it came from and may be shown."""

    __slots__ = ("_value", "is_hash", "origin")

    def __init__(self, value: str, origin: str, *, is_hash: bool = False) -> None:
        """`is_hash`: the value is the keyed hash of a secret that is known no more, in hexadecimal digits."""
        self._value = value
        self.origin = origin
        self.is_hash = is_hash

    def reveal(self) -> str:
        """The value. Hand it to what needs it; keep it nowhere else."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, format_spec: str) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled")

    def __getstate__(self) -> NoReturn:
        raise TypeError("a Secret has no state to show")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        return core_schema.with_info_plain_validator_function(
            cls._validated,
            serialization=core_schema.plain_serializer_function_ser_schema(str, when_used="json"),
        )

    @classmethod
    def _validated(cls, value: object, info: ValidationInfo) -> Secret:
        if isinstance(value, Secret):
            return value
        sources = info.context if isinstance(info.context, SecretSources) else SecretSources.nowhere()
        try:
            return sources.resolve(value)
        except SecretFault as exc:
            from pydantic_core import PydanticCustomError

            raise PydanticCustomError("secret", "{what}", {"what": str(exc)}) from None


class SecretFault(Exception):
    """A reference that leads to no secret. Its text never holds a value."""


@dataclass(frozen=True, slots=True)
class SecretSources:
    """What `env:` and `file:` refer to. Collects warnings about files that others can read."""

    environ: Mapping[str, str]
    directory: Path
    warnings: list[str] = field(default_factory=list)
    are_read: bool = True
    """False: a reference is checked for its form alone, and a placeholder stands for its value."""
    known: dict[str, Secret] = field(default_factory=dict)
    """What was resolved already, by its reference: a file that is read once more may say something else."""

    def __repr__(self) -> str:
        return "SecretSources(…)"  # the environment is full of other people's secrets

    @classmethod
    def nowhere(cls) -> SecretSources:
        """For validating outside `load`: every reference is a fault, nothing is read."""
        return cls({}, Path())

    def resolve(self, reference: object) -> Secret:
        """The secret behind `env:NAME` or `file:PATH`. Raises SecretFault."""
        if not isinstance(reference, str) or not is_reference(reference):
            raise SecretFault("a secret is not written here; write env:NAME or file:PATH")
        kind, _, name = reference.partition(":")
        if not self.are_read:
            return Secret(PLACEHOLDER + re.sub(r"[^A-Za-z0-9]", "-", reference), reference)
        if reference not in self.known:
            value = self._variable(name) if kind == "env" else self._file(name)
            self.known[reference] = Secret(value, reference)
        return self.known[reference]

    def _variable(self, name: str) -> str:
        value = self.environ.get(name)
        if value is None:
            raise SecretFault(f"the environment variable {name} is not set")
        if not value.strip():
            raise SecretFault(f"the environment variable {name} is empty")
        return value.strip()

    def _file(self, name: str) -> str:
        path = expanded(name, self.directory, self.environ)
        try:
            mode = path.stat().st_mode
            if not stat.S_ISREG(mode):
                raise SecretFault(f"{path} is not a regular file")
            with path.open("rb") as file:
                raw = file.read(SECRET_FILE_BYTES_LIMIT + 1)
        except (OSError, ValueError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else None
            raise SecretFault(f"cannot read {str(path)!r}: {reason or 'not a path'}") from None
        if len(raw) > SECRET_FILE_BYTES_LIMIT:
            raise SecretFault(f"{path} is larger than {SECRET_FILE_BYTES_LIMIT:,} bytes")
        try:
            value = raw.decode().strip()
        except UnicodeDecodeError:
            raise SecretFault(f"{path} is not UTF-8 text") from None
        if not value:
            raise SecretFault(f"{path} is empty")
        if mode & 0o077:
            self.warnings.append(f"{path} holds a secret and others may read it (mode {stat.S_IMODE(mode):04o})")
        return value


def is_reference(text: str) -> bool:
    """Does it read `env:NAME` or `file:PATH`?"""
    return _REFERENCE.fullmatch(text) is not None


def is_secret_name(key: str) -> bool:
    """Whether a setting of this name holds a secret in any adapter."""
    return _SECRET_NAME.fullmatch(key.replace("-", "_")) is not None


def is_sendable(secret: Secret) -> bool:
    """Whether this key fits into a request header."""
    return _SENDABLE.fullmatch(secret.reveal()) is not None


def expanded(path: str, directory: Path, environ: Mapping[str, str]) -> Path:
    """A path of the configuration: `~` is the home directory, a relative one starts at `directory`."""
    if path == "~" or path.startswith("~/"):
        home = environ.get("HOME")
        return Path(home if home else os.path.expanduser("~")) / path[2:]  # noqa: PTH111  Path.home() raises RuntimeError
    return directory / path


@dataclass(frozen=True, slots=True)
class GeneratedKey:
    """The key that we made; `is_new` when that was just now."""

    secret: Secret
    path: Path
    is_new: bool


def stored_key(data_dir: Path, name: str = "api-key") -> GeneratedKey | None:
    """The key that an earlier start made, if there was one. Raises OSError when it cannot be read."""
    path = data_dir / name
    try:
        value = path.read_text("ascii").strip()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        value = ""
    if " " in value or _SENDABLE.fullmatch(value) is None:
        raise OSError(f"{path} holds no key; delete it, and the next start makes one")
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)
    return GeneratedKey(Secret(value, f"file:{path}"), path, is_new=False)


def generated_key(data_dir: Path, name: str = "api-key") -> GeneratedKey:
    """The stored key, made now when there is none: 43 URL-safe characters, readable by the owner alone.

    Two processes that start at once get the same key. Raises OSError when the directory cannot be written.
    """
    prepare_data_dir(data_dir)
    known = stored_key(data_dir, name)
    if known is not None:
        return known
    path = data_dir / name
    draft = data_dir / f".{name}.{os.getpid()}.{random_secrets.token_hex(4)}"
    value = random_secrets.token_urlsafe(32)
    try:
        write_private(draft, f"{value}\n".encode())
        os.link(draft, path)  # fails if another start was faster, and is never seen half-written
    except FileExistsError:
        return generated_key(data_dir, name)
    finally:
        draft.unlink(missing_ok=True)
    return GeneratedKey(Secret(value, f"file:{path}"), path, is_new=True)


def prepare_data_dir(data_dir: Path) -> None:
    """Makes the data directory, for the owner alone. One that exists keeps its mode. Raises OSError."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)


def write_private(path: Path, content: bytes) -> None:
    """Writes a new file that only the owner can read. Raises FileExistsError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
