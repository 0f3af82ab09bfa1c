"""`modelport check FILE`: is this configuration right, and if not, where."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from modelport.cli.output import ExitCode, application, write_error_line, write_json, write_line, write_table
from modelport.config.deployments import DeploymentSettings, InlineProviderSettings, ProviderSettings
from modelport.config.faults import ConfigError
from modelport.config.load import Loaded, read
from modelport.config.preflight import problems
from modelport.config.secrets import Secret
from modelport.config.settings import Settings

app = application()


@app.command()
def check(
    file: Annotated[
        Path | None, typer.Argument(help="The configuration file.", envvar="MODELPORT_CONFIG", show_default=False)
    ] = None,
    with_secrets: Annotated[
        bool, typer.Option("--with-secrets/--without-secrets", help="Read the secrets that the file refers to.")
    ] = True,
    connect: Annotated[
        bool,
        typer.Option("--connect", help="Open a connection to each upstream, issuer and store. Sends nothing else."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Check a configuration and name every fault with its line.

    Finds what would keep `modelport serve` from starting: unknown keys, with the nearest right spelling, and missing
    files, weights, certificates, packages. Warns of what looks like a slip.

    Example: modelport check modelport.yaml --connect
    """
    try:
        loaded = read(file, os.environ, with_secrets=with_secrets)
        if found := list(problems(loaded.settings)):
            raise ConfigError(loaded.fault(item.path, item.what) for item in found)
    except ConfigError as exc:
        _show_faults(exc, as_json)
        raise typer.Exit(ExitCode.CONFIG_INVALID) from None
    places = []
    if connect:
        from modelport.cli.connect import connections

        places = connections(loaded.settings)
    if as_json:
        reached = [{"key": place.key, "address": place.address, "failure": place.failure} for place in places]
        said = {"valid": True, "faults": [], "warnings": list(loaded.warnings), "summary": summary(loaded)}
        write_json({**said, "connections": reached} if connect else said)
    else:
        _show_summary(loaded)
        if places:
            write_line("")
            rows = [(place.key, place.address, place.failure or "connects") for place in places]
            write_table(("connection", "address", ""), rows)
    if any(place.failure for place in places):
        raise typer.Exit(ExitCode.SERVER_UNREACHABLE)


def _show_faults(error: ConfigError, as_json: bool) -> None:
    if as_json:
        faults = [
            {"source": fault.source, "line": fault.line, "key": fault.key, "what": fault.what} for fault in error.faults
        ]
        write_json({"valid": False, "faults": faults, "warnings": [], "summary": None})
        return
    for fault in error.faults:
        write_error_line(str(fault))
    count = len(error.faults)
    write_error_line(f"{count} fault{'' if count == 1 else 's'}")


def summary(loaded: Loaded) -> dict[str, Any]:
    """What the configuration says, without the value of any secret."""
    settings = loaded.settings
    scheme = "https" if settings.server.tls.is_enabled else "http"
    host = f"[{settings.server.host}]" if ":" in settings.server.host else settings.server.host
    return {
        "file": str(loaded.file) if loaded.file else None,
        "endpoint": f"{scheme}://{host}:{settings.server.port}",
        "data_dir": str(settings.server.data_dir),
        "deployments": [_deployment(name, item, settings) for name, item in settings.deployments.items()],
        "providers": [_provider(name, item) for name, item in settings.providers.items()],
        "secrets": [{"key": key, "from": secret.origin} for key, secret in _secrets(settings)],
        "anonymous": settings.auth.anonymous,
        "generated_key": not settings.auth.keys,
    }


def _deployment(name: str, deployment: DeploymentSettings, settings: Settings) -> dict[str, Any]:
    if isinstance(deployment.provider, InlineProviderSettings):
        providers = [deployment.provider.type]
    elif deployment.provider is not None:
        providers = [deployment.provider]
    else:
        providers = [target.provider for target in deployment.targets or ()]
    catalogued = [entry.provider for entry in settings.models if entry.name.lower() == deployment.model.name.lower()]
    return {
        "name": name,
        "model": deployment.model.name,
        "format": deployment.model.format,
        "version": deployment.model.version,
        "providers": list(dict.fromkeys(providers)) or catalogued[:1] or ["(catalogue)"],
        "default": deployment.default,
    }


def _provider(name: str, provider: ProviderSettings) -> dict[str, Any]:
    base_url = (provider.__pydantic_extra__ or {}).get("base_url")
    return {"name": name, "type": provider.type, "base_url": None if base_url is None else str(base_url)}


def _secrets(settings: Settings) -> list[tuple[str, Secret]]:
    found = [(f"auth.keys[{index}]", key) for index, key in enumerate(settings.auth.keys)]
    for name, entry in settings.keys.items():
        pairs = (("key1", entry.key1), ("key2", entry.key2))
        found += [(f"keys.{name}.{key}", secret) for key, secret in pairs if secret is not None]
    for name, provider in settings.providers.items():
        found += _inside(f"providers.{name}", provider.__pydantic_extra__ or {})
    for name, deployment in settings.deployments.items():
        if isinstance(deployment.provider, InlineProviderSettings):
            found += _inside(f"deployments.{name}.provider", deployment.provider.__pydantic_extra__ or {})
    return found


def _inside(key: str, value: object) -> list[tuple[str, Secret]]:
    if isinstance(value, Secret):
        return [(key, value)]
    if isinstance(value, dict):
        return [found for name, item in value.items() for found in _inside(f"{key}.{name}", item)]
    if isinstance(value, list):
        return [found for index, item in enumerate(value) for found in _inside(f"{key}[{index}]", item)]
    return []


def _show_summary(loaded: Loaded) -> None:
    said = summary(loaded)
    write_line(f"{said['file'] or 'No file'}: valid")
    write_line(f"endpoint   {said['endpoint']}")
    write_line(f"data       {said['data_dir']}")
    write_line("")
    if said["deployments"]:
        rows: list[Sequence[object]] = [
            (
                f"{item['name']}{' (default)' if item['default'] else ''}",
                f"{item['model']} (version {item['version']})",
                item["format"],
                ", ".join(item["providers"]),
            )
            for item in said["deployments"]
        ]
        write_table(("deployment", "model", "format", "provider"), rows)
    else:
        write_line("No deployments: the embedded models are deployed under their own names.")
    if said["providers"]:
        write_line("")
        rows = [(item["name"], item["type"], item["base_url"] or "") for item in said["providers"]]
        write_table(("provider", "type", "base_url"), rows)
    write_line("")
    if said["secrets"]:
        write_table(("secret", "from"), [(item["key"], item["from"]) for item in said["secrets"]])
    if said["generated_key"]:
        write_line("No auth.keys: a key is made at the first start and kept in the data directory.")
    if said["anonymous"]:
        write_line("auth.anonymous: everybody may call.")
    for warning in loaded.warnings:
        write_error_line(f"warning: {warning}")
