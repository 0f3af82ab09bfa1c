"""Reads the configuration again for a server that runs, and says what only another process can take up."""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from pydantic import BaseModel

from modelport import __version__
from modelport.config.secrets import Secret, generated_key
from modelport.config.section import shown
from modelport.config.settings import Settings

OF_THE_SERVER: Final = ("server.host", "server.port", "server.data_dir", "server.workers", "database_url", "ledger")
"""Settings that the first process holds until it ends."""
OF_A_PROCESS: Final = ("server", "telemetry", "quota", "redis_url", "budgets", "prices.currency")
"""Settings that a process that serves calls reads once, at its start."""

_logger = logging.getLogger("modelport.reload")

Change = tuple[str, object, object]
"""The path of a setting, its value, and the value that it would get."""


class NeedsRestart(Exception):
    """Settings have changed that this server cannot take up while it runs; the text names them."""


def operators_key(settings: Settings) -> Secret | None:
    """The key made at the first start, or now, where the settings have none. Raises OSError."""
    if settings.auth.keys or settings.auth.anonymous:
        return None
    return generated_key(settings.server.data_dir).secret


def changes_below(before: Settings, after: Settings, places: Iterable[str]) -> list[Change]:
    """The settings that differ at or below these places."""
    return [
        change
        for change in changes(before, after)
        if any(change[0] == place or change[0].startswith(f"{place}.") for place in places)
    ]


def changes(before: BaseModel, after: BaseModel, path: str = "") -> Iterator[Change]:
    """Every setting that differs."""
    for name in type(before).model_fields:
        old, new = getattr(before, name), getattr(after, name)
        if old == new:
            continue
        if isinstance(old, BaseModel) and type(old) is type(new):
            yield from changes(old, new, f"{path}{name}.")
        else:
            yield f"{path}{name}", old, new


def restart_needed(found: Iterable[Change]) -> NeedsRestart:
    """Why these changes are refused."""
    told = "; ".join(f"{path} is {written(old)} and would be {written(new)}" for path, old, new in found)
    return NeedsRestart(f"{told}: that needs a restart of the whole server")


def written(value: object) -> str:
    """A setting's value in a log line."""
    return str(value) if isinstance(value, int | float | Path | Secret) else shown(value)


def is_package_replaced() -> bool:
    """Whether another version of this package has been installed since this process began."""
    try:
        return importlib.metadata.version("modelport") != __version__
    except importlib.metadata.PackageNotFoundError:
        return False
