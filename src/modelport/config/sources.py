"""Flags and the environment, laid over the data of the file. Knows which setting each of them is."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, Final

from modelport.config.faults import ConfigError, Fault, Path
from modelport.config.rules import DEFAULT_DATA_DIR
from modelport.config.secrets import expanded

API_KEY_VARIABLE: Final = "MODELPORT_API_KEY"
CONFIG_VARIABLE: Final = "MODELPORT_CONFIG"
SECRET_VARIABLES: Final[Mapping[str, Path]] = {
    "MODELPORT_DATABASE_URL": ("database_url",),
    "MODELPORT_REDIS_URL": ("redis_url",),
    "MODELPORT_SECRETS_KEY": ("secrets_key",),
}
"""Secrets, and addresses that may hold a password: their settings become references to these variables."""


@dataclass(frozen=True, slots=True)
class Flags:
    """The options of `modelport serve` as typed; None was not given."""

    host: str | None = None
    port: int | None = None
    data_dir: FilePath | None = None
    tls_self_signed: bool | None = None
    tls_cert: FilePath | None = None
    tls_key: FilePath | None = None
    log_level: str | None = None
    workers: int | None = None
    default_content_filter: str | None = None
    model: str | None = None
    """An embedded model, deployed under this name as the default one."""
    identity: str | None = None
    """`dev`: trust the development issuer of the data directory."""


PLACES: Final[Mapping[str, Path]] = {
    "host": ("server", "host"),
    "port": ("server", "port"),
    "data_dir": ("server", "data_dir"),
    "tls_self_signed": ("server", "tls", "self_signed"),
    "tls_cert": ("server", "tls", "cert"),
    "tls_key": ("server", "tls", "key"),
    "log_level": ("telemetry", "log_level"),
    "workers": ("server", "workers"),
    "default_content_filter": ("server", "default_content_filter"),
}
"""What can be set from outside the file. The variable of `data_dir` is MODELPORT_DATA_DIR, its flag --data-dir."""

_FILES: Final = ("data_dir", "tls_cert", "tls_key")


@dataclass(frozen=True, slots=True)
class Overlaid:
    """Data with everything laid over it, and the variable or flag that each replaced place came from."""

    data: dict[str, Any]
    origins: Mapping[Path, str]


def overlay(data: Mapping[str, Any], environ: Mapping[str, str], flags: Flags) -> Overlaid:
    """Flag over environment over `data`, which stays as it is. Empty variables count as not set."""
    result: dict[str, Any] = dict(data)
    origins: dict[Path, str] = {}
    variables = {name: environ.get(variable(name)) or None for name in PLACES}
    _lay(result, origins, variables, {name: variable(name) for name in PLACES}, environ)
    given = {name: getattr(flags, name) for name in PLACES}
    _lay(result, origins, given, {name: f"--{name.replace('_', '-')}" for name in PLACES}, environ)
    if flags.model is not None:
        from modelport.config.embedded import embedded

        weights = embedded(flags.model)
        nouns = {"name": flags.model} if weights is None else dataclasses.asdict(weights.model)
        deployed: Path = ("deployments", flags.model.lower())
        if _put(result, deployed, {"model": nouns, "default": True}):
            origins[deployed] = "--model"
    if (identity := flags.identity or environ.get(variable("identity"))) is not None:
        _lay_identity(result, origins, identity, "--identity" if flags.identity else variable("identity"), environ)
    if environ.get(API_KEY_VARIABLE):
        _lay_key(result, origins)
    for name, place in SECRET_VARIABLES.items():
        if environ.get(name) and _put(result, place, f"env:{name}"):
            origins[place] = name
    return Overlaid(result, origins)


def chosen_file(path: FilePath | str | None, environ: Mapping[str, str]) -> FilePath | None:
    """The configuration file: the one that is named, else MODELPORT_CONFIG's, else none."""
    chosen = path or environ.get(CONFIG_VARIABLE) or None
    return FilePath(chosen) if chosen is not None else None


def variable(name: str) -> str:
    """The variable of the environment that does what this flag does."""
    return f"MODELPORT_{name.upper()}"


def _lay(
    data: dict[str, Any],
    origins: dict[Path, str],
    values: Mapping[str, Any],
    labels: Mapping[str, str],
    environ: Mapping[str, str],
) -> None:
    if values["tls_self_signed"] is not None or values["tls_cert"] is not None:
        # A way to do TLS replaces the other one as a whole: a certificate never meets another source's key.
        first = "tls_self_signed" if values["tls_self_signed"] is not None else "tls_cert"
        _put(data, ("server", "tls"), {})
        origins.update({("server", "tls"): labels[first]})
        for name in ("tls_self_signed", "tls_cert", "tls_key"):
            origins.pop(PLACES[name], None)
    for name, place in PLACES.items():
        value = values.get(name)
        if value is None:
            continue
        if name in _FILES:
            value = str(expanded(str(value), FilePath.cwd(), environ))
        if _put(data, place, value):
            origins[place] = labels[name]


def _lay_identity(
    data: dict[str, Any], origins: dict[Path, str], identity: str, label: str, environ: Mapping[str, str]
) -> None:
    """The entry that `modelport identity serve` wrote comes after the file's own issuers. Raises ConfigError."""
    if identity != "dev":
        raise ConfigError([Fault(label, None, "", f"{identity!r} is not known; the one identity is dev")])
    server = data.get("server")
    given = server.get("data_dir") if isinstance(server, Mapping) else None
    folder = expanded(str(given or DEFAULT_DATA_DIR), FilePath.cwd(), environ)
    file = folder / "identity" / "oidc.json"
    try:
        entry = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        what = f"{file} cannot be read: start `modelport identity serve` with this data directory first"
        raise ConfigError([Fault(label, None, "", what)]) from None
    auth = data.get("auth")
    written = auth.get("oidc") if isinstance(auth, Mapping) else None
    issuers = [*(written if isinstance(written, list) else ()), entry]
    if _put(data, ("auth", "oidc"), issuers):
        origins["auth", "oidc", len(issuers) - 1] = label


def _lay_key(data: dict[str, Any], origins: dict[Path, str]) -> None:
    """The variable is the key, unless the file names it among its own."""
    reference = f"env:{API_KEY_VARIABLE}"
    auth = data.get("auth")
    written = auth.get("keys") if isinstance(auth, Mapping) else None
    if isinstance(written, list) and reference in written:
        return
    if _put(data, ("auth", "keys"), [reference]):
        origins["auth", "keys"] = API_KEY_VARIABLE


def _put(data: dict[str, Any], place: Path, value: Any) -> bool:
    """Sets a value, copying the mappings on the way. False where the file has something else than a mapping."""
    *sections, last = place
    for section in sections:
        inner = data.get(str(section))
        if inner is not None and not isinstance(inner, Mapping):
            return False
        data[str(section)] = inner = dict(inner or {})
        data = inner
    data[str(last)] = value
    return True
