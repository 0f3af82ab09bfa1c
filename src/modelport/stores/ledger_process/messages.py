"""What the two say to each other: lines of JSON. The first line to the child is its assignment, each line after it the
number of a question; the end of them is the order to ship what there is, and to end."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from msgspec import Struct, json

from modelport.stores.sql.address import DatabaseAddress


class Database(Struct, frozen=True):
    """A DatabaseAddress. Over a pipe, as it may hold a password: arguments and environments can be read by others."""

    path: str | None
    url: str | None


class Assignment(Struct, frozen=True):
    """What is to be shipped, and to where."""

    directory: str
    database: Database
    keep_seconds: float | None = None
    keep_records_seconds: float | None = None
    asked: int = 0
    """Questions so far: the first round answers them."""


class Figures(Struct, frozen=True, tag="figures"):
    """How it fares. Counts are of this process."""

    shipped_records: int = 0
    damaged_lines: int = 0
    backlog_records: int = 0
    failure: str | None = None
    answered: int = 0
    """The last question after which all journals were gone through."""


class LogLine(Struct, frozen=True, tag="log"):
    """For the log of the one that serves: it has its own form."""

    level: int
    text: str


ASSIGNMENT_DECODER: Final = json.Decoder(Assignment)
DATABASE_DECODER: Final = json.Decoder(Database)
SAID_DECODER: Final[json.Decoder[Figures | LogLine]] = json.Decoder(Figures | LogLine)


def line(message: Struct) -> bytes:
    """With its newline."""
    return json.encode(message) + b"\n"


def database_of(address: DatabaseAddress) -> Database:
    """For the pipe."""
    return Database(None if address.path is None else str(address.path.absolute()), address.url)


def address_of(database: Database) -> DatabaseAddress:
    """Back."""
    if database.path is not None:
        return DatabaseAddress("sqlite", path=Path(database.path))
    return DatabaseAddress("postgresql", url=database.url)
