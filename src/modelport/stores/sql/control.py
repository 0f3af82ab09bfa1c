"""The control plane's objects in SQL: each change and its audit entry are one transaction, whoever makes it. SQLite has
one writer at a time; on PostgreSQL the row of the version is the lock, and a commit notifies the other servers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, delete, func, insert, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from modelport.core.audit_chain import FIRST, chained
from modelport.core.ports.control import (
    AuditDraft,
    AuditEntry,
    ControlStoreUnavailable,
    StoredObject,
    StoredState,
    VersionConflict,
    Write,
)
from modelport.core.usage_reports import LedgerUnavailable
from modelport.stores.sql.address import DatabaseAddress
from modelport.stores.sql.database import open_as_is, open_for_writing, told
from modelport.stores.sql.listening import CHANNEL, Listener
from modelport.stores.sql.schema import (
    CONTROL_AUDIT,
    CONTROL_CLAIMS,
    CONTROL_KEY_USES,
    CONTROL_OBJECTS,
    CONTROL_STATE,
)

STATE_ROW: Final = 1

JSON: Final = msgspec.json.Encoder(order="sorted")


class SqlControlStore:
    """core.ports.control.ControlStore. For any thread."""

    def __init__(self, address: DatabaseAddress, upgrade: Callable[[DatabaseAddress], None] | None = None) -> None:
        """`upgrade` makes or migrates the database; None: this process does. Raises ControlStoreUnavailable."""
        self._address = address
        with worded():
            if upgrade is None:
                open_for_writing(address).dispose()
            else:
                upgrade(address)
            self._engine = open_as_is(address)
        self._listener: Listener | None = None

    def load(self) -> StoredState:
        """ControlStore"""
        with self._transaction() as connection:
            version = version_of(connection)
            rows = connection.execute(
                select(CONTROL_OBJECTS).order_by(CONTROL_OBJECTS.c.kind, CONTROL_OBJECTS.c.key)
            ).all()
        return StoredState(version, tuple(object_of(row) for row in rows))

    def version(self) -> int:
        """ControlStore"""
        with self._transaction() as connection:
            return version_of(connection)

    def commit(self, expected: int, writes: Sequence[Write], entry: AuditDraft) -> int:
        """ControlStore"""
        with self._transaction() as connection:
            if version_of(connection, is_locked=True) != expected:
                raise VersionConflict
            new = expected + 1
            for write in writes:
                put(connection, write, new, entry.time_us)
            append(connection, entry, new)
            connection.execute(update(CONTROL_STATE).values(version=new))
            if connection.dialect.name == "postgresql":
                connection.execute(select(func.pg_notify(CHANNEL, str(new))))
        return new

    def note(self, entry: AuditDraft) -> None:
        """ControlStore"""
        with self._transaction() as connection:
            append(connection, entry, version_of(connection, is_locked=True))

    def audit(self, since_us: int = 0, kind: str | None = None, name: str | None = None) -> list[AuditEntry]:
        """ControlStore"""
        wanted = [CONTROL_AUDIT.c.time_us >= since_us]
        if kind is not None:
            wanted.append(CONTROL_AUDIT.c.kind == kind)
        if name is not None:
            wanted.append(func.lower(CONTROL_AUDIT.c.name) == name.lower())
        with self._transaction() as connection:
            rows = connection.execute(select(CONTROL_AUDIT).where(*wanted).order_by(CONTROL_AUDIT.c.sequence)).all()
        return [entry_of(row) for row in rows]

    def wait(self, seconds: float) -> None:
        """ControlStore"""
        if self._address.url is None:
            time.sleep(seconds)
            return
        try:
            if self._listener is None:
                self._listener = Listener(self._address.url)
            self._listener.wait(seconds)
        except ControlStoreUnavailable:
            self._listener = None
            raise

    def claim(self, name: str, value: str) -> str:
        """ControlStore"""
        with self._transaction() as connection:
            version_of(connection, is_locked=True)
            found: str | None = connection.execute(
                select(CONTROL_CLAIMS.c.value).where(CONTROL_CLAIMS.c.name == name)
            ).scalar()
            if found is None:
                connection.execute(insert(CONTROL_CLAIMS).values(name=name, value=value))
        return value if found is None else found

    def key_uses(self) -> dict[str, int]:
        """ControlStore"""
        with self._transaction() as connection:
            return {row.key_id: row.used_us for row in connection.execute(select(CONTROL_KEY_USES))}

    def note_key_uses(self, uses: Mapping[str, int]) -> None:
        """ControlStore"""
        with self._transaction() as connection:
            dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
            added = dialect.insert(CONTROL_KEY_USES)
            kept = added.on_conflict_do_update(
                index_elements=["key_id"],
                set_={"used_us": added.excluded.used_us},
                where=CONTROL_KEY_USES.c.used_us < added.excluded.used_us,
            )
            # In one order everywhere: two servers that write the same rows do not wait for each other in a circle.
            connection.execute(kept, [{"key_id": key_id, "used_us": uses[key_id]} for key_id in sorted(uses)])

    def forget_key_uses(self, key_ids: Iterable[str]) -> None:
        """ControlStore"""
        with self._transaction() as connection:
            connection.execute(delete(CONTROL_KEY_USES).where(CONTROL_KEY_USES.c.key_id.in_(list(key_ids))))

    def close(self) -> None:
        """ControlStore"""
        self._engine.dispose()
        if self._listener is not None:
            self._listener.close()

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with worded(), told(self._address), self._engine.begin() as connection:
            yield connection


@contextmanager
def worded() -> Iterator[None]:
    """The database's failures as the port names them."""
    try:
        yield
    except LedgerUnavailable as cause:
        raise ControlStoreUnavailable(str(cause)) from cause


def version_of(connection: Connection, *, is_locked: bool = False) -> int:
    """The store's version; locked, no other process changes it until the transaction ends."""
    statement = select(CONTROL_STATE.c.version).where(CONTROL_STATE.c.id == STATE_ROW)
    if is_locked and connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL lock_timeout = '5s'"))
        statement = statement.with_for_update()
    return int(connection.execute(statement).scalar_one())


def put(connection: Connection, write: Write, version: int, now_us: int) -> None:
    """One object, or its end. The name and the time of its making stay."""
    row = (CONTROL_OBJECTS.c.kind == write.kind) & (CONTROL_OBJECTS.c.key == write.name.lower())
    if write.body is None:
        connection.execute(delete(CONTROL_OBJECTS).where(row))
        return
    values: dict[str, Any] = {"body": JSON.encode(write.body).decode(), "version": version, "changed_us": now_us}
    if connection.execute(update(CONTROL_OBJECTS).where(row).values(**values)).rowcount:
        return
    names = {"kind": write.kind, "key": write.name.lower(), "name": write.name}
    connection.execute(insert(CONTROL_OBJECTS).values(**names, **values, created_us=now_us))


def append(connection: Connection, entry: AuditDraft, version: int) -> None:
    """The next link of the chain; the caller holds the lock."""
    last = connection.execute(
        select(CONTROL_AUDIT.c.sequence, CONTROL_AUDIT.c.digest).order_by(CONTROL_AUDIT.c.sequence.desc()).limit(1)
    ).first()
    sequence, previous = (1, FIRST) if last is None else (last.sequence + 1, last.digest)
    values = msgspec.structs.asdict(chained(entry, sequence, version, previous))
    for name in ("before", "after"):
        values[name] = None if values[name] is None else JSON.encode(values[name]).decode()
    connection.execute(insert(CONTROL_AUDIT).values(**values))


def object_of(row: Row[Any]) -> StoredObject:
    """A row of `control_objects`."""
    found = row._mapping
    return StoredObject(
        kind=found["kind"],
        name=found["name"],
        body=msgspec.json.decode(found["body"]),
        version=found["version"],
        created_us=found["created_us"],
        changed_us=found["changed_us"],
    )


def entry_of(row: Row[Any]) -> AuditEntry:
    """A row of `control_audit`."""
    values = dict(row._mapping)
    for name in ("before", "after"):
        values[name] = None if values[name] is None else msgspec.json.decode(values[name])
    return AuditEntry(**values)
