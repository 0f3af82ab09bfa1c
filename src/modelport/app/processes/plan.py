"""What the owner hands to a nursery, and what a nursery says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from modelport.config.settings import Settings


class Plan(Struct, frozen=True):
    """How to serve: where the configuration is read from, and the owner's doors. A nursery's first line."""

    config: str | None
    flags: dict[str, Any]
    environ: dict[str, str]
    """The owner's environment, to which the configuration refers. Over the pipe: that of a process can be read."""
    key: str | None
    """The operator's key that was made at the first start, where one was."""
    owner_socket: str
    owner_secret: str
    listeners: tuple[int, ...]
    """Descriptors of the listening sockets, one for each worker."""
    life: int
    """Descriptor of a pipe that only the owner can write to, and never does: its end is the owner's."""

    def __repr__(self) -> str:
        return f"Plan({self.config})"


class Order(Struct, frozen=True):
    """A line of the nursery's input."""

    fork: int | None = None
    """A worker for this listener."""
    end: bool = False
    """No more forks; the nursery ends when its last worker has."""


class Report(Struct, frozen=True, omit_defaults=True):
    """A line of the nursery's output."""

    ready: dict[str, str] | None = None
    """Everything is loaded: what the owner alone can provide, by setting."""
    failed: str | None = None
    """Nothing can be served with this configuration, and why."""
    forked: int | None = None
    listener: int | None = None
    ended: int | None = None
    code: int = 0


def owned(settings: Settings) -> dict[str, str]:
    """What a new configuration cannot change while the owner runs, by setting: the address, the data directory and the
    number of processes."""
    return {f"server.{name}": str(getattr(settings.server, name)) for name in ("host", "port", "data_dir", "workers")}


def differences_of(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """What differs, old and new, in words; empty where nothing does."""
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return "; ".join(
        f"{name} is {before.get(name, 'absent')} and would be {after.get(name, 'absent')}" for name in names
    )
