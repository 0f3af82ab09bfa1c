"""Opens a database for writing, where it is made and brought up to date, or for reading, where it is taken as it is."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from modelport.core.usage_reports import LedgerUnavailable
from modelport.stores.sql import connecting
from modelport.stores.sql.address import DatabaseAddress
from modelport.stores.sql.columns import REVISIONS
from modelport.stores.sql.connecting import CONNECT_SECONDS

READ_MILLISECONDS: Final = 10_000
"""For one report on PostgreSQL."""
WRITE_MILLISECONDS: Final = 5_000
"""For one statement of a short transaction on PostgreSQL."""
GONE_MILLISECONDS: Final = 5_000
"""A server of PostgreSQL that acknowledges nothing for so long is gone."""
UPGRADE_LOCK: Final = 5_063_914_012
"""PostgreSQL's advisory lock that whoever migrates holds: any number that nobody else uses."""


def open_for_writing(address: DatabaseAddress) -> Engine:
    """Made where it is not there, and upgraded. Raises LedgerUnavailable."""
    with told(address):
        engine = sqlite(address.path, is_writer=True) if address.path is not None else postgresql(address)
        try:
            upgrade(engine)
        except BaseException:
            engine.dispose()
            raise
        return engine


def open_as_is(address: DatabaseAddress) -> Engine:
    """For short transactions, without a look at its version. Raises LedgerUnavailable."""
    with told(address):
        if address.path is not None:
            return sqlite(address.path, is_writer=True)
        return postgresql(
            address, options=f"-c statement_timeout={WRITE_MILLISECONDS}", tcp_user_timeout=GONE_MILLISECONDS
        )


def open_for_reading(address: DatabaseAddress) -> Engine:
    """As it is. What is not there shows at the first question, as LedgerUnavailable."""
    if address.path is not None:
        return sqlite(address.path, is_writer=False)
    return postgresql(address, options=f"-c default_transaction_read_only=on -c statement_timeout={READ_MILLISECONDS}")


@contextmanager
def told(address: DatabaseAddress) -> Iterator[None]:
    """A database's failures as LedgerUnavailable: the driver's own text, without statement, values and address."""
    try:
        yield
    except DBAPIError as cause:
        reason = str(cause.orig).strip().splitlines() or [type(cause.orig).__name__]
        if address.url is not None:
            reason = [type(cause.orig).__name__]  # psycopg's text may quote the address
        raise LedgerUnavailable(f"the database {address.shown} cannot be used: {reason[0]}") from cause
    except (SQLAlchemyError, OSError) as cause:
        raise LedgerUnavailable(f"the database {address.shown} cannot be used: {type(cause).__name__}") from cause


def sqlite(path: Path, *, is_writer: bool) -> Engine:
    """For those who write: `connecting.sqlite_writer`. Those who read find the database or fail."""
    opened = connecting.sqlite_writer if is_writer else connecting.sqlite_reader
    engine = create_engine("sqlite://", creator=lambda: opened(path), poolclass=QueuePool)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # Immediate: a transaction that reads before it writes could not be upgraded later.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writer else "BEGIN")

    return engine


def postgresql(address: DatabaseAddress, options: str = "", **more: Any) -> Engine:
    """A small pool that notices a server that was restarted."""
    assert address.url is not None
    arguments: dict[str, Any] = {"connect_timeout": CONNECT_SECONDS, **more}
    if options:
        arguments["options"] = options
    return create_engine(address.url, pool_size=2, max_overflow=2, pool_pre_ping=True, connect_args=arguments)


def upgrade(engine: Engine) -> None:
    """Runs the migrations that are due. A database of a later version is left alone: it still serves this one."""
    with engine.begin() as connection:
        if version(connection) is not None and version(connection) not in REVISIONS[:-1]:
            return
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells of every plugin that it has
    from alembic import command
    from alembic.config import Config

    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": UPGRADE_LOCK})
        if version(connection) == REVISIONS[-1]:
            return  # somebody else was faster
        config = Config()
        config.set_main_option("script_location", "modelport.stores.sql:migrations")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def version(connection: Connection) -> str | None:
    """The last migration that was run; None for a database without tables."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found
