"""`modelport keys`: the key that opens the endpoint."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from modelport.cli.output import ExitCode, application, fail, write_line
from modelport.config.faults import ConfigError
from modelport.config.load import load
from modelport.config.secrets import Secret, stored_key
from modelport.config.settings import Settings
from modelport.config.sources import Flags

app = application(help="Show the key that opens the endpoint.", no_args_is_help=True)

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="The configuration file. [env: MODELPORT_CONFIG]", show_default=False)
]
DataDirOption = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Where the server keeps its data. [env: MODELPORT_DATA_DIR]", show_default=False),
]


@app.callback()
def keys() -> None:
    """Show the key that opens the endpoint."""


@app.command()
def show(config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Print the operator's key: MODELPORT_API_KEY, else the configuration's first, else the one made at first start."""
    key = operator_key(settings_or_fail(config, Flags(data_dir=data_dir)))
    if key is None:
        fail(ExitCode.NOT_FOUND, "there is no key yet", "`modelport serve` makes one at its first start")
    write_line(key.reveal())


def settings_or_fail(config: Path | None, flags: Flags) -> Settings:
    """The settings, or one line per fault."""
    try:
        return load(config, os.environ, flags)
    except ConfigError as error:
        fail(ExitCode.CONFIG_INVALID, str(error))


def operator_key(settings: Settings) -> Secret | None:
    """The key that a client of this machine uses."""
    if settings.auth.keys:
        return settings.auth.keys[0]
    try:
        stored = stored_key(settings.server.data_dir)
    except OSError as error:
        fail(ExitCode.DATA_DIR_UNUSABLE, f"the key cannot be read: {error}")
    return stored.secret if stored is not None else None
