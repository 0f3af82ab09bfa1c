"""Which database: said in the configuration's words, without opening it and without SQLAlchemy."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from msgspec import Struct

FILE_NAME: Final = "modelport.db"
POSTGRES_SCHEMES: Final = ("postgresql", "postgres", "postgresql+psycopg")


class DatabaseAddressError(ValueError):
    """The URL names no database that we know. The text does not repeat it: it may hold a password."""


class DriverMissing(Exception):
    """The package that speaks to this database is not installed."""


class DatabaseAddress(Struct, frozen=True):
    """SQLite in a file, or PostgreSQL behind a URL, which is a secret."""

    kind: Literal["sqlite", "postgresql"]
    path: Path | None = None
    url: str | None = None

    def __repr__(self) -> str:
        return f"DatabaseAddress({self.shown})"

    @property
    def shown(self) -> str:
        """For people; without user and password."""
        if self.path is not None:
            return str(self.path)
        parts = urlsplit(self.url or "")
        place = parts.hostname or "localhost"
        return f"postgresql://{place}{f':{parts.port}' if parts.port else ''}{parts.path}"


def address_of(url: str | None, data_dir: Path) -> DatabaseAddress:
    """Where the ledger is. None: SQLite in the data directory. Raises DatabaseAddressError."""
    if url is None:
        return DatabaseAddress("sqlite", path=data_dir / FILE_NAME)
    scheme, _, rest = url.partition("://")
    if scheme == "sqlite":
        name = rest.removeprefix("/")
        if not name or "?" in name:
            raise DatabaseAddressError("sqlite:///PATH names a file")
        return DatabaseAddress("sqlite", path=data_dir / name)
    if scheme not in POSTGRES_SCHEMES:
        raise DatabaseAddressError("write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, or sqlite:///PATH")
    try:
        _ = urlsplit(url).port
    except ValueError:
        raise DatabaseAddressError("the port is no number") from None
    return DatabaseAddress("postgresql", url=f"postgresql+psycopg://{rest}")


def check_driver(address: DatabaseAddress) -> None:
    """Raises DriverMissing."""
    if address.kind == "postgresql" and importlib.util.find_spec("psycopg") is None:
        raise DriverMissing("PostgreSQL needs the package psycopg, not installed")
