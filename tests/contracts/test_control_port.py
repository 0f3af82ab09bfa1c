"""What every store of the control plane promises, in memory, on SQLite and on PostgreSQL: a change and its audit entry
are one thing, versions never skip, two that change at once do not both win, and the audit's chain is whole."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec import structs

from modelport.core.audit_chain import breaks
from modelport.core.ports.control import AuditDraft, ControlStore, VersionConflict, Write
from modelport.stores.memory.control import MemoryControlStore
from modelport.stores.sql.address import address_of
from modelport.stores.sql.control import SqlControlStore
from postgres_server import fresh_database, named_url, own_server


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a server."""
    if (named := named_url()) is not None:
        yield named
        return
    server = own_server()
    try:
        yield server.url
    finally:
        server.close()


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], ControlStore]]:
    """Opens one more connection to the same store; all are closed at the end."""
    with ExitStack() as stack:
        memory = MemoryControlStore()
        url: str | None = None
        if request.param == "postgresql":
            url = stack.enter_context(fresh_database(request.getfixturevalue("postgres")))

        def open_store() -> ControlStore:
            store = memory if request.param == "memory" else SqlControlStore(address_of(url, tmp_path))
            stack.callback(store.close)
            return store

        yield open_store


def draft(name: str = "a", **fields: Any) -> AuditDraft:
    return AuditDraft(
        **{"time_us": 5, "actor": "operator", "action": "create", "kind": "deployments", "name": name, **fields}
    )


def put(name: str, body: dict[str, Any] | None) -> Write:
    return Write(kind="deployments", name=name, body=body)


def test_the_later_use_of_a_key_is_kept(opened: Callable[[], ControlStore]) -> None:
    store, other = opened(), opened()
    assert dict(store.key_uses()) == {}
    store.note_key_uses({"a/key1": 5, "b/key1": 2**52})
    other.note_key_uses({"a/key1": 3, "a/key2": 7, "b/key1": 2**52 + 1})
    assert dict(store.key_uses()) == {"a/key1": 5, "a/key2": 7, "b/key1": 2**52 + 1}
    store.forget_key_uses(["a/key1", "absent/key1"])
    assert dict(other.key_uses()) == {"a/key2": 7, "b/key1": 2**52 + 1}


def test_an_object_is_found_as_it_was_put(opened: Callable[[], ControlStore]) -> None:
    store = opened()
    body = {"text": "grüße \u2028", "number": 1.5, "list": [1, None, {"a": True}]}
    assert store.load().version == 0
    assert store.commit(0, [put("Name", body)], draft("Name")) == 1
    (found,) = opened().load().objects
    assert (found.name, found.body, found.version, found.created_us) == ("Name", body, 1, 5)
    assert store.commit(1, [put("NAME", {"b": 1})], draft("NAME", time_us=9)) == 2
    (found,) = store.load().objects
    assert (found.name, found.body, found.version) == ("Name", {"b": 1}, 2)
    assert (found.created_us, found.changed_us) == (5, 9)
    assert store.commit(2, [put("name", None)], draft("name")) == 3
    assert store.load().objects == ()
    assert store.version() == 3


def test_only_one_of_two_changes_of_one_version_is_made(opened: Callable[[], ControlStore]) -> None:
    store, other = opened(), opened()
    store.commit(0, [put("a", {})], draft())
    with pytest.raises(VersionConflict):
        other.commit(0, [put("b", {})], draft("b"))
    assert [found.name for found in other.load().objects] == ["a"]
    assert [entry.name for entry in other.audit()] == ["a"]


def test_many_at_once_change_one_after_the_other(opened: Callable[[], ControlStore]) -> None:
    failures: list[BaseException] = []

    def change(number: int) -> None:
        store = opened()
        try:
            for index in range(8):
                while True:
                    try:
                        store.commit(store.version(), [put(f"n{number}-{index}", {})], draft(f"n{number}-{index}"))
                        break
                    except VersionConflict:
                        continue
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=change, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    store = opened()
    assert store.version() == 32
    assert len(store.load().objects) == 32
    assert sorted(found.version for found in store.load().objects) == list(range(1, 33))
    entries = store.audit()
    assert [entry.version for entry in entries] == list(range(1, 33))
    assert list(breaks(entries)) == []


def test_the_audit_is_a_chain(opened: Callable[[], ControlStore]) -> None:
    store = opened()
    store.commit(0, [put("a", {})], draft(after={"sku": {"capacity": 1}}, key_id="operator/1", source="10.0.0.1"))
    store.note(draft("b", result="Conflict", time_us=7))
    store.commit(1, [put("a", None)], draft(action="delete", time_us=8))
    entries = list(opened().audit())
    assert [(entry.sequence, entry.version, entry.result) for entry in entries] == [
        (1, 1, "done"),
        (2, 1, "Conflict"),
        (3, 2, "done"),
    ]
    assert list(breaks(entries)) == []
    assert [entry.sequence for entry in store.audit(since_us=7)] == [2, 3]
    assert [entry.sequence for entry in store.audit(kind="deployments", name="A")] == [1, 3]
    assert list(store.audit(kind="keys")) == []
    assert list(breaks([entries[0], entries[2]])) != []
    assert list(breaks([entries[1], entries[0], entries[2]])) != []
    assert list(breaks([structs.replace(entries[0], actor="somebody"), *entries[1:]])) != []


def test_the_first_claim_counts(opened: Callable[[], ControlStore]) -> None:
    store = opened()
    assert store.claim("secrets_key", "one") == "one"
    assert opened().claim("secrets_key", "two") == "one"
    assert store.version() == 0


class SqlAgainstMemory(RuleBasedStateMachine):
    """Any order of changes leaves the SQL store and the one in memory alike."""

    def __init__(self) -> None:
        super().__init__()
        self.model: Any = MemoryControlStore()
        self.sql: Any = SqlControlStore(address_of(None, fresh_directory()))

    names = st.sampled_from(["a", "A", "b", "Beta", "beta"])
    bodies = st.none() | st.dictionaries(st.sampled_from(["x", "y"]), st.integers() | st.text(max_size=5), max_size=2)

    @rule(name=names, body=bodies, kind=st.sampled_from(["deployments", "keys"]), stale=st.booleans())
    def commit(self, name: str, body: dict[str, Any] | None, kind: str, stale: bool) -> None:
        expected = self.model.version() - stale
        outcomes = []
        for store in (self.model, self.sql):
            try:
                write = Write(kind=kind, name=name, body=body)
                outcomes.append(store.commit(expected, [write], draft(name, kind=kind, after=body, time_us=expected)))
            except VersionConflict:
                outcomes.append("conflict")
        assert outcomes[0] == outcomes[1]

    @rule(name=names)
    def note(self, name: str) -> None:
        for store in (self.model, self.sql):
            store.note(draft(name, result="Conflict"))

    @rule(value=st.sampled_from(["1", "2"]))
    def claim(self, value: str) -> None:
        assert self.model.claim("c", value) == self.sql.claim("c", value)

    @invariant()
    def they_are_alike(self) -> None:
        assert self.model.load() == self.sql.load()
        assert list(self.model.audit()) == list(self.sql.audit())
        assert list(breaks(self.sql.audit())) == []

    def teardown(self) -> None:
        self.sql.close()


def fresh_directory() -> Path:
    import tempfile

    return Path(tempfile.mkdtemp(prefix="modelport-control-"))


TestSqlAgainstMemory = SqlAgainstMemory.TestCase
TestSqlAgainstMemory.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
