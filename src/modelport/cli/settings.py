"""How a command finds its settings and the operator's key: the options that say where, and what ends it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelport.cli.output import ExitCode, fail
from modelport.config.client import ClientSettings, read_client
from modelport.config.faults import ConfigError
from modelport.config.secrets import Secret, SecretFault, SecretSources, stored_key
from modelport.config.sources import API_KEY_VARIABLE, Flags

if TYPE_CHECKING:
    from modelport.config.settings import Settings

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="The configuration file. [env: MODELPORT_CONFIG]", show_default=False)
]
DataDirOption = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Where the server keeps its data. [env: MODELPORT_DATA_DIR]", show_default=False),
]


def settings_or_fail(config: Path | None, flags: Flags, *, with_secrets: bool = True) -> Settings:
    """The whole configuration, or one line per fault."""
    from modelport.config.load import read  # with it comes pydantic

    try:
        return read(config, os.environ, flags, with_secrets=with_secrets).settings
    except ConfigError as error:
        fail(ExitCode.CONFIG_INVALID, str(error))


def client_settings(config: Path | None, flags: Flags) -> ClientSettings:
    """The settings of a command that is no server: the server's secrets need not be here."""
    try:
        return read_client(config, os.environ, flags)
    except ConfigError as error:
        fail(ExitCode.CONFIG_INVALID, str(error))


def readable_key(settings: ClientSettings) -> Secret | None:
    """The first key of the operator's that can be read here; the stored one where none is configured."""
    if not settings.keys:
        return stored_secret(settings)
    sources = SecretSources(os.environ, settings.directory)
    # The variable wins here, too, where the file names it beside others.
    for origin in sorted(settings.keys, key=lambda name: name != f"env:{API_KEY_VARIABLE}"):
        try:
            return sources.resolve(origin)
        except SecretFault:
            continue
    return None


def stored_secret(settings: ClientSettings) -> Secret | None:
    """The key that the first start made."""
    try:
        stored = stored_key(settings.data_dir)
    except OSError as error:
        fail(ExitCode.DATA_DIR_UNUSABLE, f"the key cannot be read: {error}")
    return stored.secret if stored is not None else None
