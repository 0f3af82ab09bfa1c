"""The settings that a command needs to find a server and its key.

Building the classes of all sections takes longer than such a command. The form here has the names of a
few settings, and `rules` their defaults and rules. A configuration that the form does not take goes to `load`, which
understands more spellings and says what is wrong, so no message is written twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Annotated, Any, Final

from msgspec import Meta, Struct, ValidationError, convert

from modelport.config import rules
from modelport.config.faults import Path
from modelport.config.secrets import SecretFault, SecretSources, expanded
from modelport.config.sources import Flags, chosen_file, overlay

UNREAD_KEYS: Final[Mapping[Path, tuple[str, ...]]] = {
    (): (
        *(
            "extra_parameters",
            "providers",
            "models",
            "deployments",
            "engine",
            "content_filters",
            "blocklists",
            "content_safety",
        ),
        *(
            "projects",
            "keys",
            "role_assignments",
            "prices",
            "budgets",
            "quota",
            "database_url",
            "ledger",
            "redis_url",
            "telemetry",
        ),
        *("control", "secrets_key", "policies"),
    ),
    ("server",): (
        "public_url",
        "workers",
        "allowed_hosts",
        "trusted_proxies",
        "strict",
        "cors_origins",
        "default_content_filter",
        "limits",
    ),
    ("server", "tls"): ("terminated_upstream",),
    ("auth",): ("anonymous", "oidc", "failures_per_minute"),
}
"""Keys that are right and that no client command reads. `load` names every other one as unknown."""


class _Tls(Struct, frozen=True, forbid_unknown_fields=True):
    self_signed: bool = False
    cert: str | None = None
    key: str | None = None


class _Server(Struct, frozen=True, forbid_unknown_fields=True):
    host: str = rules.DEFAULT_HOST
    port: Annotated[int, Meta(ge=0, le=rules.MAX_PORT)] = rules.DEFAULT_PORT
    data_dir: str = rules.DEFAULT_DATA_DIR
    region: str = rules.DEFAULT_REGION
    tls: _Tls = _Tls()


class _Auth(Struct, frozen=True, forbid_unknown_fields=True):
    keys: Annotated[tuple[str, ...], Meta(max_length=rules.MAX_KEYS)] = ()


class _Form(Struct, frozen=True, forbid_unknown_fields=True):
    server: _Server = _Server()
    auth: _Auth = _Auth()


_FORMS: Final[Mapping[Path, type[Struct]]] = {
    (): _Form,
    ("server",): _Server,
    ("server", "tls"): _Tls,
    ("auth",): _Auth,
}


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """Where a server with these settings listens, keeps its data and finds its keys."""

    host: str
    port: int
    has_tls: bool
    data_dir: FilePath
    region: str
    keys: tuple[str, ...]
    """References to the operator's keys: `env:NAME` or `file:PATH`."""
    directory: FilePath
    """Where relative paths of references start."""

    @property
    def endpoint(self) -> str:
        """The server's address for a client on this machine."""
        host = "localhost" if self.host in ("0.0.0.0", "::") else self.host  # noqa: S104
        shown = f"[{host}]" if ":" in host else host
        return f"{'https' if self.has_tls else 'http'}://{shown}:{self.port}"


def read_client(path: FilePath | str | None, environ: Mapping[str, str], flags: Flags) -> ClientSettings:
    """Reads as `load.read` does, but only these settings; faults in others are not looked for. Raises ConfigError."""
    file = chosen_file(path, environ)
    data: Mapping[str, Any] | None = {}
    if file is not None:
        from modelport.config.document import read_file  # with it comes yaml

        document = read_file(file)
        data = document.data if not document.faults else None
    directory = file.absolute().parent if file is not None else FilePath.cwd()
    sources = SecretSources(environ, directory, are_read=False)
    found = _read_form(overlay(data, environ, flags).data, sources) if data is not None else None
    return found if found is not None else _read_all(path, flags, sources)


def _read_form(data: Mapping[str, Any], sources: SecretSources) -> ClientSettings | None:
    """None where the form does not take the data."""
    try:
        form = convert(_given(data), _Form, strict=False)
        for reference in form.auth.keys:
            sources.resolve(reference)
    except (ValidationError, SecretFault):
        return None
    server, tls = form.server, form.server.tls
    paths = [path for path in (server.data_dir, tls.cert, tls.key) if path is not None]
    if not (rules.is_host(server.host) and rules.is_region(server.region) and all(map(rules.is_path, paths))):
        return None
    if rules.tls_fault(tls.self_signed, tls.cert, tls.key) is not None:
        return None
    return ClientSettings(
        host=server.host,
        port=server.port,
        has_tls=tls.self_signed or tls.cert is not None,
        data_dir=expanded(server.data_dir, sources.directory, sources.environ),
        region=server.region,
        keys=form.auth.keys,
        directory=sources.directory,
    )


def _given(data: Mapping[str, Any], path: Path = ()) -> dict[str, Any]:
    """Without `null` where it is the default, and without the keys that are not read."""
    read_keys = _FORMS[path].__struct_fields__ if path in _FORMS else ()
    return {
        key: _given(value, (*path, key)) if isinstance(value, Mapping) else value
        for key, value in data.items()
        if key not in UNREAD_KEYS.get(path, ()) and not (value is None and key in read_keys)
    }


def _read_all(path: FilePath | str | None, flags: Flags, sources: SecretSources) -> ClientSettings:
    """The same from the whole configuration. Raises ConfigError."""
    from modelport.config.load import read

    settings = read(path, sources.environ, flags, with_secrets=False).settings
    return ClientSettings(
        host=settings.server.host,
        port=settings.server.port,
        has_tls=settings.server.tls.is_enabled,
        data_dir=settings.server.data_dir,
        region=settings.server.region,
        keys=tuple(key.origin for key in settings.auth.keys),
        directory=sources.directory,
    )
