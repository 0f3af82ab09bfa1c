"""The one way a change takes: conditions → rules → validation → store and audit → every process. One at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, Final, Literal

from msgspec import structs

from modelport.control.audit import AuditTrail
from modelport.control.conditions import away, by_key, check_conditions, etag_of, verb
from modelport.control.merging import merged, without_removed
from modelport.control.plane_ports import Forms, Host, Store
from modelport.control.policy import check_policies, weakened
from modelport.control.resources import RESOURCES
from modelport.control.resources.keys import SLOTS
from modelport.core.clock import Clock
from modelport.core.errors import ModelportError
from modelport.core.names import NAME_RULE, is_name
from modelport.core.ports.control import (
    AccountKeys,
    Action,
    Actor,
    AuditEntry,
    Body,
    Conditions,
    ControlStoreUnavailable,
    InvalidResource,
    Kind,
    PolicyViolation,
    Put,
    Resource,
    ResourceConflict,
    ResourceNotFound,
    StoredObject,
    StoredState,
    VersionConflict,
    Write,
)

ACCOUNT: Final = "account"
"""Kind and name of the object that holds the account's pair of keys."""
TRIED: Final = "policy-that-is-tried"
"""Name of a policy that is only tried."""
ATTEMPTS: Final = 25
"""Of a change, while other servers change the same store."""
PAUSE_SECONDS: Final = 0.02
"""Between two attempts, times their number, at most."""

Decide = Callable[[StoredObject | None], tuple[Body | None, Mapping[str, str]]]
"""What an object is to be (None: deleted), and the secrets that are shown once. Raises ModelportError."""


class LocalControlPlane:
    """core.ports.control.ControlPlane in the process that owns the store."""

    def __init__(self, store: Store, forms: Forms, host: Host, clock: Clock, state: StoredState) -> None:
        """`state`: what is served already, with opened bodies."""
        self._store = store
        self._forms = forms
        self._host = host
        self._random = Random()  # noqa: S311  spreads servers that change the same store
        self._objects = by_key(state.objects)
        self.version = state.version
        self.is_behind = False
        """The objects of this version are known here, and not served yet."""
        self._audit = AuditTrail(store, clock)
        self._lock = asyncio.Lock()
        self._changes: set[asyncio.Task[Any]] = set()

    # --- questions ----------------------------------------------------------------------------------------------------

    @property
    def objects(self) -> tuple[StoredObject, ...]:
        """All stored objects, opened, in their order."""
        return tuple(self._objects.values())

    async def list(self, kind: Kind) -> Sequence[Resource]:
        """ControlPlane"""
        given = [resource for resource in self._host.given() if resource.kind == kind]
        taken = {resource.name.lower() for resource in given}
        stored = [self._resource(o) for key, o in self._objects.items() if key[0] == kind and key[1] not in taken]
        return sorted([*given, *stored], key=lambda resource: resource.name.lower())

    async def get(self, kind: Kind, name: str) -> Resource:
        """ControlPlane"""
        for resource in await self.list(kind):
            if resource.name.lower() == name.lower():
                return resource
        raise ResourceNotFound(kind, name)

    async def audit(self, since_us: int = 0, kind: str | None = None, name: str | None = None) -> Sequence[AuditEntry]:
        """ControlPlane"""
        try:
            return await self._store.audit(since_us, kind, name)
        except ControlStoreUnavailable as error:
            raise away() from error

    async def note_refusal(self, actor: Actor, action: Action, kind: str, name: str, code: str) -> None:
        """ControlPlane"""
        await self._audit.refuse(structs.replace(self._audit.draft(actor, action, kind, name), result=code))

    async def write_refusals(self, *, is_last: bool = False) -> None:
        """Puts the numbers of repeated refusals into the audit where their time is over; at the end, all."""
        await self._audit.write_counted(is_last=is_last)

    # --- changes ------------------------------------------------------------------------------------------------------

    async def put(
        self,
        actor: Actor,
        kind: Kind,
        name: str,
        body: Body,
        conditions: Conditions = Conditions(),  # noqa: B008
    ) -> Put:
        """ControlPlane"""

        def decide(known: StoredObject | None) -> tuple[Body | None, Mapping[str, str]]:
            before = known.body if known is not None else None
            new = self._forms.understood(kind, body, before, before)
            return self._with_keys(new, before) if kind == "keys" else (new, {})

        return await self._changed(actor, kind, name, decide, conditions)

    async def patch(
        self,
        actor: Actor,
        kind: Kind,
        name: str,
        body: Body,
        conditions: Conditions = Conditions(),  # noqa: B008
    ) -> Put:
        """ControlPlane"""

        def decide(known: StoredObject | None) -> tuple[Body | None, Mapping[str, str]]:
            if known is None:
                raise ResourceNotFound(kind, name)
            given = merged(self._forms.shown(known.body), body)
            before = without_removed(known.body, body)
            new = self._forms.understood(kind, given, before, known.body)
            return self._with_keys(new, known.body) if kind == "keys" else (new, {})

        return await self._changed(actor, kind, name, decide, conditions)

    async def delete(
        self,
        actor: Actor,
        kind: Kind,
        name: str,
        conditions: Conditions = Conditions(),  # noqa: B008
    ) -> None:
        """ControlPlane"""

        def decide(known: StoredObject | None) -> tuple[Body | None, Mapping[str, str]]:
            if known is None:
                raise ResourceNotFound(kind, name)
            self._check_unused(kind, known)
            return None, {}

        await self._changed(actor, kind, name, decide, conditions)

    async def regenerate(self, actor: Actor, name: str, slot: str) -> Put:
        """A new value in the place of one of a caller's two keys; the old one is refused from now on."""

        def decide(known: StoredObject | None) -> tuple[Body | None, Mapping[str, str]]:
            if known is None:
                raise ResourceNotFound("keys", name)
            value, stored = self._forms.new_key()
            return {**known.body, slot: stored}, {slot: value}

        return await self._changed(actor, "keys", name, decide, Conditions(), "regenerate_key")

    async def test_policy(self, name: str, body: Body) -> Sequence[PolicyViolation]:
        """ControlPlane"""
        async with self._lock:
            rules = self._forms.understood("policies", body, None, None)
            objects = self._objects_with("policies", TRIED, rules, None, 0)
            prepared = await self._host.prepare(tuple(objects.values()), ("policies", TRIED))
        return [structs.replace(found, policy=name) for found in self._host.violations(prepared, None, TRIED)]

    async def account_keys(self, actor: Actor) -> AccountKeys:
        """ControlPlane"""
        known = self._objects.get((ACCOUNT, ACCOUNT))
        if known is None:
            await self._changed(actor, ACCOUNT, ACCOUNT, self._account, Conditions())
            known = self._objects[ACCOUNT, ACCOUNT]
        await self._audit.write(self._audit.draft(actor, "list_keys", ACCOUNT, ACCOUNT))
        return self._account_keys(known)

    async def regenerate_account_key(self, actor: Actor, which: Literal["key1", "key2"]) -> AccountKeys:
        """ControlPlane"""

        def decide(known: StoredObject | None) -> tuple[Body | None, Mapping[str, str]]:
            body, _ = self._account(known)
            return {**(body or {}), which: self._forms.new_account_key()}, {}

        await self._changed(actor, ACCOUNT, ACCOUNT, decide, Conditions(), "regenerate_key")
        return self._account_keys(self._objects[ACCOUNT, ACCOUNT])

    async def follow(self, state: StoredState | None = None) -> bool:
        """Serves what the store has now; False: that is what is served already. Raises ControlStoreUnavailable,
        InvalidResource."""
        async with self._lock:
            return await self._follow()

    async def again(self) -> None:
        """Serves the same objects with the file as it is now. Raises what `Host.prepare` raises."""
        async with self._lock:
            await self._serve(await self._host.prepare(self.objects, None))

    # --- the one way --------------------------------------------------------------------------------------------------

    async def _changed(
        self,
        actor: Actor,
        kind: str,
        name: str,
        decide: Decide,
        conditions: Conditions,
        action: Action | None = None,
    ) -> Put:
        """A caller that hangs up does not stop a change in its middle."""
        change = asyncio.ensure_future(self._audited(actor, kind, name, decide, conditions, action))
        self._changes.add(change)
        change.add_done_callback(self._changes.discard)
        return await asyncio.shield(change)

    async def _audited(
        self, actor: Actor, kind: str, name: str, decide: Decide, conditions: Conditions, action: Action | None
    ) -> Put:
        async with self._lock:
            try:
                return await self._attempts(actor, kind, name, decide, conditions, action)
            except ControlStoreUnavailable as error:
                raise away() from error
            except ModelportError as error:
                await self.note_refusal(actor, action or "change", kind, name, error.code)
                raise

    async def _attempts(
        self, actor: Actor, kind: str, name: str, decide: Decide, conditions: Conditions, action: Action | None
    ) -> Put:
        for number in range(ATTEMPTS):
            if await self._store.version() != self.version:
                await self._follow_or_refuse()
            try:
                return await self._attempt(actor, kind, name, decide, conditions, action)
            except VersionConflict:
                await asyncio.sleep(self._random.random() * PAUSE_SECONDS * number)
        raise ResourceConflict("Other servers change the control plane at the same time. Try again.")

    async def _attempt(
        self, actor: Actor, kind: str, name: str, decide: Decide, conditions: Conditions, action: Action | None
    ) -> Put:
        self._check_is_ours(kind, name)
        if kind == "keys" and name.lower() == ACCOUNT:
            raise ResourceConflict(f"{ACCOUNT!r} is the account's own pair of keys.", target=name)
        if not is_name(name):
            raise InvalidResource(f"{name[:64]!r}: {NAME_RULE}.", [("name", NAME_RULE)])
        known = self._objects.get((kind, name.lower()))
        check_conditions(conditions, known)
        body, secrets = decide(known)
        if known is not None and body == known.body:
            return Put(self._resource(known), created=False)
        name = known.name if known is not None else name
        draft = structs.replace(
            self._audit.draft(actor, action or verb(known, body), kind, name),
            before=self._forms.shown(known.body) if known is not None else None,
            after=self._forms.shown(body) if body is not None else None,
        )
        new = self._objects_with(kind, name, body, known, draft.time_us)
        prepared = await self._host.prepare(tuple(new.values()), (kind, name))
        noted = []
        if kind == "deployments" and body is not None:
            noted = check_policies(name, self._host.violations(prepared, name))
        elif kind == "content_filters" and body is not None:
            noted = check_policies(name, weakened(name, self._host.violations(prepared, None)))
        sealed = self._forms.sealed(kind, name, body) if body is not None else None
        self.version = await self._store.commit(self.version, [Write(kind=kind, name=name, body=sealed)], draft)
        self._objects = new
        await self._serve(prepared)
        for violation in noted:
            entry = self._audit.draft(actor, "audit_policy", kind, name)
            result = f"{violation.policy}: {violation.rule}"
            await self._audit.try_to_write(structs.replace(entry, result=result))
        found = new.get((kind, name.lower())) or known
        assert found is not None
        return Put(self._resource(found), created=known is None, secrets=secrets)

    def _objects_with(
        self, kind: str, name: str, body: Body | None, known: StoredObject | None, now_us: int
    ) -> dict[tuple[str, str], StoredObject]:
        new = dict(self._objects)
        if body is None:
            del new[kind, name.lower()]
            return new
        new[kind, name.lower()] = StoredObject(
            kind=kind,
            name=name,
            body=body,
            version=self.version + 1,
            created_us=known.created_us if known is not None else now_us,
            changed_us=now_us,
        )
        return new

    async def _follow(self) -> bool:
        state = await self._store.load()
        if state.version == self.version and not self.is_behind:
            return False
        opened = [structs.replace(o, body=self._forms.opened(o.kind, o.name, o.body)) for o in state.objects]
        prepared = await self._host.prepare(opened, None)
        self._objects, self.version = by_key(opened), state.version
        await self._serve(prepared)
        return True

    async def _follow_or_refuse(self) -> None:
        try:
            await self._follow()
        except self._host.failures as error:
            raise ResourceConflict(
                f"This server cannot serve what another one has stored, so nothing can be changed here: {error}"
            ) from error

    async def _serve(self, prepared: Any) -> None:
        """A failure after the commit is tried again by `follow`."""
        self.is_behind = True
        await self._host.apply(prepared, self.version)
        self.is_behind = False

    # --- parts --------------------------------------------------------------------------------------------------------

    def _check_is_ours(self, kind: str, name: str) -> None:
        for resource in self._host.given():
            if resource.kind == kind and resource.name.lower() == name.lower():
                where = f"is in the configuration file ({resource.place})" if resource.place else "is built in"
                raise ResourceConflict(
                    f"{resource.name!r} among the {kind} {where} and can only be changed there.", target=name
                )

    def _check_unused(self, kind: str, known: StoredObject) -> None:
        everything: dict[str, dict[str, Mapping[str, Any]]] = {}
        for o in self._objects.values():
            everything.setdefault(o.kind, {})[o.name] = o.body
        for resource in self._host.given():
            everything.setdefault(resource.kind, {})[resource.name] = resource.body
        users = [f"{using} {name!r}" for using, name in RESOURCES[kind].users(known.name, known.body, everything)]
        if users:
            raise ResourceConflict(f"{known.name!r} is used by {', '.join(users)}.", target=known.name)
        if kind == "deployments" and known.body.get("default") is True:
            raise ResourceConflict(
                f"{known.name!r} is the default deployment. Set default to false first.", target=known.name
            )

    def _with_keys(self, body: Body, before: Body | None) -> tuple[Body, Mapping[str, str]]:
        """A new key entry gets its first key."""
        if any(body.get(slot) is not None for slot in SLOTS) or before is not None:
            return body, {}
        value, stored = self._forms.new_key()
        return {**body, SLOTS[0]: stored}, {SLOTS[0]: value}

    def _account(self, known: StoredObject | None) -> tuple[Body | None, Mapping[str, str]]:
        if known is not None:
            return known.body, {}
        return {slot: self._forms.new_account_key() for slot in SLOTS}, {}

    def _account_keys(self, known: StoredObject) -> AccountKeys:
        return AccountKeys(*(self._forms.revealed(known.body[slot]) for slot in SLOTS))

    def _resource(self, found: StoredObject) -> Resource:
        return Resource(
            kind=found.kind,
            name=found.name,
            body=self._forms.shown(found.body),
            origin="store",
            etag=etag_of(found),
            created_us=found.created_us,
            changed_us=found.changed_us,
        )
