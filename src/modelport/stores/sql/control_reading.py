"""Reads the control plane's audit where it lies, for commands: beside a server that runs, or without one."""

from __future__ import annotations

from sqlalchemy import inspect, select

from modelport.core.ports.control import AuditEntry
from modelport.stores.sql.address import DatabaseAddress, check_driver
from modelport.stores.sql.control import entry_of, worded
from modelport.stores.sql.database import open_for_reading, told
from modelport.stores.sql.schema import CONTROL_AUDIT


def read_audit(address: DatabaseAddress) -> list[AuditEntry]:
    """Every entry, in order; none of a database that is missing or older than the control plane. Raises DriverMissing,
    ControlStoreUnavailable."""
    check_driver(address)
    if address.path is not None and not address.path.exists():
        return []
    with worded(), told(address):
        engine = open_for_reading(address)
        try:
            with engine.begin() as connection:
                if not inspect(connection).has_table(CONTROL_AUDIT.name):
                    return []
                rows = connection.execute(select(CONTROL_AUDIT).order_by(CONTROL_AUDIT.c.sequence)).all()
                return [entry_of(row) for row in rows]
        finally:
            engine.dispose()
