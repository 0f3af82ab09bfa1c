"""The one way a change takes, against a model and in any order: who may change what, which version follows, what the
audit says; and what becomes of a change whose caller, store or server fails in its middle."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from modelport.control.plane import LocalControlPlane
from modelport.core.audit_chain import breaks
from modelport.core.clock import SystemClock
from modelport.core.errors import ModelportError, Unavailable
from modelport.core.ports.control import (
    Actor,
    AuditDraft,
    AuditEntry,
    Body,
    Conditions,
    ControlStoreUnavailable,
    InvalidResource,
    PolicyViolation,
    PreconditionFailed,
    Resource,
    ResourceConflict,
    ResourceNotFound,
    StoredObject,
    StoredState,
    Write,
)
from modelport.stores.memory.control import MemoryControlStore

WHO = Actor("operator", "operator/1", "127.0.0.1")
FILE = Resource(kind="deployments", name="Of-The-File", body={}, origin="file", place="modelport.yaml:7")
Kind = TypeVar("Kind")


class Store:
    """The store in memory, for an event loop; fails or waits where a test says so."""

    def __init__(self, inner: MemoryControlStore | None = None) -> None:
        self.inner = inner if inner is not None else MemoryControlStore()
        self.is_away = False
        self.may_commit = asyncio.Event()
        self.may_commit.set()

    def _check(self) -> None:
        if self.is_away:
            raise ControlStoreUnavailable("away")

    async def load(self) -> StoredState:
        self._check()
        return self.inner.load()

    async def version(self) -> int:
        self._check()
        return self.inner.version()

    async def commit(self, expected: int, writes: Sequence[Write], entry: AuditDraft) -> int:
        self._check()
        await self.may_commit.wait()
        return self.inner.commit(expected, writes, entry)

    async def note(self, entry: AuditDraft) -> None:
        self._check()
        self.inner.note(entry)

    async def audit(self, since_us: int, kind: str | None, name: str | None) -> Sequence[AuditEntry]:
        self._check()
        return self.inner.audit(since_us, kind, name)


class Forms:
    """Bodies without secrets: stored as they are given."""

    def __init__(self) -> None:
        self._keys = 0

    def understood(self, kind: str, given: Any, kept: Any, before: Any) -> Body:
        if "wrong" in given:
            raise InvalidResource("wrong", [("wrong", "is wrong")])
        return dict(given)

    def sealed(self, kind: str, name: str, body: Mapping[str, Any]) -> Body:
        return dict(body)

    opened = sealed

    def shown(self, body: Mapping[str, Any]) -> Body:
        return dict(body)

    def new_key(self) -> tuple[str, Any]:
        self._keys += 1
        return f"key-{self._keys}", f"hash-{self._keys}"

    def new_account_key(self) -> Any:
        return self.new_key()[0]

    def revealed(self, secret: Any) -> str:
        return str(secret)


class Unservable(Exception):
    """What a host cannot serve."""


class Host:
    """Remembers what it serves."""

    failures: tuple[type[Exception], ...] = (Unservable,)

    def __init__(self) -> None:
        self.served: tuple[int, dict[str, Body]] = (0, {})
        self.refuses = False
        self.breaks = False

    def given(self) -> Sequence[Resource]:
        return (FILE,)

    async def prepare(self, objects: Sequence[StoredObject], subject: tuple[str, str] | None) -> Any:
        if self.refuses:
            raise Unservable("it does not fit")
        return {found.name: found.body for found in objects}

    def violations(self, prepared: Any, deployment: str | None, policy: str | None = None) -> Sequence[PolicyViolation]:
        return ()

    async def apply(self, prepared: Any, version: int) -> None:
        if self.breaks:
            raise RuntimeError("broken")
        self.served = version, prepared


def plane_of(store: Store, host: Host) -> LocalControlPlane:
    return LocalControlPlane(store, Forms(), host, SystemClock(), store.inner.load())


class PlaneAgainstModel(RuleBasedStateMachine):
    """Two planes over one store, asked in turn; each must behave as the one model does."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        inner = MemoryControlStore()
        self.hosts = Host(), Host()
        self.planes = [plane_of(Store(inner), host) for host in self.hosts]
        self.model: dict[str, tuple[str, Body, str]] = {}
        """By name in lower case: the name, the body, the etag."""
        self.version = 0
        self.refused = 0

    names = st.sampled_from(["a", "A", "b", "Beta", "of-the-file"])
    bodies = st.dictionaries(st.sampled_from(["x", "spillover"]), st.sampled_from(["a", "b", "beta", 1]), max_size=2)
    planes_ = st.sampled_from([0, 1])
    guards = st.sampled_from(["none", "right", "wrong", "any", "new"])

    def run(self, work: Coroutine[Any, Any, Kind]) -> Kind | ModelportError:
        try:
            return self.loop.run_until_complete(work)
        except ModelportError as error:
            self.refused += 1
            return error

    def conditions(self, guard: str, name: str) -> tuple[Conditions, bool]:
        """The headers, and whether they hold."""
        known = self.model.get(name.lower())
        match guard:
            case "right":
                return Conditions(if_match=known[2] if known else '"1"'), known is not None
            case "wrong":
                return Conditions(if_match='"999"'), False
            case "any":
                return Conditions(if_match="*"), known is not None
            case "new":
                return Conditions(if_none_match="*"), known is None
        return Conditions(), True

    @rule(which=planes_, name=names, body=bodies, guard=guards)
    def put(self, which: int, name: str, body: Body, guard: str) -> None:
        conditions, holds = self.conditions(guard, name)
        found = self.run(self.planes[which].put(WHO, "deployments", name, body, conditions))
        known = self.model.get(name.lower())
        if name == "of-the-file":
            assert isinstance(found, ResourceConflict)
            assert "modelport.yaml:7" in found.message
        elif not holds:
            assert isinstance(found, PreconditionFailed)
        else:
            assert not isinstance(found, ModelportError)
            assert found.created == (known is None)
            if known is None or known[1] != body:
                self.version += 1
                self.model[name.lower()] = (known[0] if known else name, body, f'"{self.version}"')
            assert (found.resource.name, found.resource.body, found.resource.etag) == self.model[name.lower()]

    @rule(which=planes_, name=names, patch=st.dictionaries(st.sampled_from(["x", "y"]), st.none() | st.integers(0, 1)))
    def patch(self, which: int, name: str, patch: Body) -> None:
        found = self.run(self.planes[which].patch(WHO, "deployments", name, patch))
        known = self.model.get(name.lower())
        if name == "of-the-file":
            assert isinstance(found, ResourceConflict)
        elif known is None:
            assert isinstance(found, ResourceNotFound)
        else:
            body = {key: value for key, value in {**known[1], **patch}.items() if value is not None}
            if body != known[1]:
                self.version += 1
                self.model[name.lower()] = (known[0], body, f'"{self.version}"')
            assert not isinstance(found, ModelportError)
            assert found.resource.body == body

    @rule(which=planes_, name=names, guard=guards)
    def delete(self, which: int, name: str, guard: str) -> None:
        conditions, holds = self.conditions(guard, name)
        found = self.run(self.planes[which].delete(WHO, "deployments", name, conditions))
        known = self.model.get(name.lower())
        users = [
            other[0]
            for key, other in self.model.items()
            if str(other[1].get("spillover")).lower() == name.lower() and key != name.lower()
        ]
        if name == "of-the-file":
            assert isinstance(found, ResourceConflict)
        elif not holds:
            assert isinstance(found, PreconditionFailed)
        elif known is None:
            assert isinstance(found, ResourceNotFound)
        elif users:
            assert isinstance(found, ResourceConflict)
            assert all(repr(user) in found.message for user in users)
        else:
            assert found is None
            self.version += 1
            del self.model[name.lower()]

    @rule(which=planes_, name=st.sampled_from(["", "-a", "a b", "a" * 65]))
    def wrong_name(self, which: int, name: str) -> None:
        assert isinstance(self.run(self.planes[which].put(WHO, "deployments", name, {})), InvalidResource)

    @rule(which=planes_)
    def wrong_body(self, which: int) -> None:
        assert isinstance(self.run(self.planes[which].put(WHO, "deployments", "a", {"wrong": 1})), InvalidResource)

    @rule(which=planes_)
    def follow(self, which: int) -> None:
        self.run(self.planes[which].follow())
        assert self.hosts[which].served == (self.version, {name: body for name, body, _ in self.model.values()})

    @invariant()
    def the_audit_has_everything(self) -> None:
        entries = self.run(self.planes[0].audit())
        assert isinstance(entries, list)
        assert list(breaks(entries)) == []
        done = [entry for entry in entries if entry.result == "done"]
        assert [entry.version for entry in done] == list(range(1, self.version + 1))
        assert refusals_in(entries) <= self.refused  # repeated ones are still being counted
        there: dict[str, Body] = {}
        for entry in done:
            assert entry.before == there.get(entry.name)
            if entry.after is None:
                del there[entry.name]
            else:
                there[entry.name] = entry.after
        assert there == {name: body for name, body, _ in self.model.values()}

    def teardown(self) -> None:
        for plane in self.planes:
            self.run(plane.write_refusals(is_last=True))
        assert refusals_in(self.run(self.planes[0].audit())) == self.refused
        self.loop.close()


def refusals_in(entries: Sequence[AuditEntry]) -> int:
    """How many refusals the entries are about."""
    refused = [entry for entry in entries if entry.result != "done"]
    return sum((entry.after or {}).get("further_refusals", 1) for entry in refused)


TestPlaneAgainstModel = PlaneAgainstModel.TestCase
TestPlaneAgainstModel.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


async def test_a_caller_that_hangs_up_does_not_stop_a_change() -> None:
    store, host = Store(), Host()
    plane = plane_of(store, host)
    store.may_commit.clear()
    asking = asyncio.create_task(plane.put(WHO, "deployments", "a", {}))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert host.served[0] == 0
    store.may_commit.set()
    while host.served[0] == 0:
        await asyncio.sleep(0)
    assert host.served == (1, {"a": {}})


async def test_a_store_that_is_away_changes_nothing() -> None:
    store, host = Store(), Host()
    plane = plane_of(store, host)
    await plane.put(WHO, "deployments", "a", {"x": 1})
    store.is_away = True
    for change in (
        plane.put(WHO, "deployments", "b", {}),
        plane.delete(WHO, "deployments", "a"),
        plane.regenerate_account_key(WHO, "key1"),
    ):
        with pytest.raises(Unavailable):
            await change
    assert (await plane.get("deployments", "a")).body == {"x": 1}
    assert host.served == (1, {"a": {"x": 1}})
    store.is_away = False
    assert (await plane.put(WHO, "deployments", "b", {})).created


async def test_what_was_stored_and_not_served_is_served_later() -> None:
    store, host = Store(), Host()
    plane = plane_of(store, host)
    host.breaks = True
    with pytest.raises(RuntimeError):
        await plane.put(WHO, "deployments", "a", {})
    assert (store.inner.version(), host.served[0], plane.is_behind) == (1, 0, True)
    host.breaks = False
    assert await plane.follow()
    assert host.served == (1, {"a": {}})
    assert not await plane.follow()


async def test_what_another_server_has_stored_and_this_one_cannot_serve() -> None:
    inner = MemoryControlStore()
    hosts = Host(), Host()
    first, second = (plane_of(Store(inner), host) for host in hosts)
    await first.put(WHO, "deployments", "a", {})
    hosts[1].refuses = True
    with pytest.raises(ResourceConflict, match="it does not fit"):
        await second.put(WHO, "deployments", "b", {})
    with pytest.raises(Unservable):
        await second.follow()
    assert (second.version, inner.version()) == (0, 1)
    hosts[1].refuses = False
    assert (await second.put(WHO, "deployments", "b", {})).created
    assert hosts[1].served == (2, {"a": {}, "b": {}})


async def test_the_accounts_keys() -> None:
    plane = plane_of(Store(), Host())
    pair = await plane.account_keys(WHO)
    assert pair.key1 != pair.key2
    assert await plane.account_keys(WHO) == pair
    changed = await plane.regenerate_account_key(WHO, "key2")
    assert (changed.key1, changed.key2 != pair.key2) == (pair.key1, True)
    actions = [entry.action for entry in await plane.audit(kind="account")]
    assert actions == ["create", "list_keys", "list_keys", "regenerate_key"]
    with pytest.raises(ResourceConflict):
        await plane.put(WHO, "keys", "Account", {})
