"""What one caller may see and change, where its role is limited to some deployments or to projects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from modelport.core.errors import PermissionDenied
from modelport.core.identity import Principal
from modelport.core.names import is_name
from modelport.core.ports.control import (
    Action,
    Actor,
    Body,
    Conditions,
    Kind,
    Put,
    Resource,
    ResourceConflict,
    ResourceNotFound,
)
from modelport.core.roles import Permission

DEPLOYMENTS: Final = "deployments"
"""The one kind whose objects can be in scope one by one."""
NO_CONDITIONS: Final = Conditions()


class Objects(Protocol):
    """The part of core.ports.control.ControlPlane that is about objects."""

    async def list(self, kind: Kind) -> Sequence[Resource]: ...

    async def get(self, kind: Kind, name: str) -> Resource: ...

    async def put(self, actor: Actor, kind: Kind, name: str, body: Body, conditions: Conditions = ...) -> Put: ...

    async def patch(self, actor: Actor, kind: Kind, name: str, body: Body, conditions: Conditions = ...) -> Put: ...

    async def delete(self, actor: Actor, kind: Kind, name: str, conditions: Conditions = ...) -> None: ...

    async def note_refusal(self, actor: Actor, action: Action, kind: str, name: str, code: str) -> None: ...


class ScopedObjects:
    """`Objects` as one principal may use them. Out of scope, an existing deployment is answered as one that does not
    exist; creating one there is refused."""

    def __init__(self, objects: Objects, principal: Principal | None) -> None:
        """`principal`: one whose permission for the kind was checked. None: it may see and change no deployment."""
        self._objects = objects
        self._principal = principal

    async def list(self, kind: Kind) -> Sequence[Resource]:
        """Objects"""
        found = await self._objects.list(kind)
        return [one for one in found if self.covers(kind, one.name, Permission.READ_DEPLOYMENTS)]

    async def get(self, kind: Kind, name: str) -> Resource:
        """Objects"""
        if not self.covers(kind, name, Permission.READ_DEPLOYMENTS):
            raise ResourceNotFound(kind, name)
        return await self._objects.get(kind, name)

    async def put(self, actor: Actor, kind: Kind, name: str, body: Body, conditions: Conditions = NO_CONDITIONS) -> Put:
        """Objects. Raises PermissionDenied."""
        if not self.covers(kind, name, Permission.WRITE_DEPLOYMENTS):
            raise PermissionDenied
        await self._check_body(kind, name, body)
        return await self._objects.put(actor, kind, name, body, conditions)

    async def patch(
        self, actor: Actor, kind: Kind, name: str, body: Body, conditions: Conditions = NO_CONDITIONS
    ) -> Put:
        """Objects. Raises PermissionDenied."""
        await self._check_is_writable(actor, "change", kind, name)
        await self._check_body(kind, name, body)
        return await self._objects.patch(actor, kind, name, body, conditions)

    async def delete(self, actor: Actor, kind: Kind, name: str, conditions: Conditions = NO_CONDITIONS) -> None:
        """Objects"""
        await self._check_is_writable(actor, "delete", kind, name)
        try:
            await self._objects.delete(actor, kind, name, conditions)
        except ResourceConflict as error:
            if self.covers(kind, None, Permission.WRITE_DEPLOYMENTS):
                raise
            # What uses it may be out of scope.
            raise ResourceConflict(f"{name!r} is used, or is not made over the API.", target=name) from error

    def covers(self, kind: Kind, name: str | None, permission: Permission) -> bool:
        """Whether an object of this name is in scope; None: every name."""
        if kind != DEPLOYMENTS:
            return True
        if self._principal is None:
            return False
        if name is None:
            return any(grant.is_unscoped for grant in self._principal.giving(permission))
        return self._principal.may(permission, name)

    async def _check_is_writable(self, actor: Actor, action: Action, kind: Kind, name: str) -> None:
        """Raises ResourceNotFound; the audit alone says why."""
        if not self.covers(kind, name, Permission.WRITE_DEPLOYMENTS):
            await self._objects.note_refusal(actor, action, kind, audited_name(name), PermissionDenied.code)
            raise ResourceNotFound(kind, name)

    async def _check_body(self, kind: Kind, name: str, body: Body) -> None:
        """What a deployment may not say in the words of a caller who is not allowed to say it of the whole server.
        Raises PermissionDenied."""
        if kind != DEPLOYMENTS or self._principal is None or self._principal.may(Permission.MANAGE):
            return
        provider = body.get("provider")
        if isinstance(provider, Mapping) and provider != await self._provider(name):
            raise PermissionDenied("Only an Administrator writes a provider in a deployment: name one of `providers`.")
        if body.get("default") not in (None, False) and not self.covers(kind, None, Permission.WRITE_DEPLOYMENTS):
            raise PermissionDenied("The default deployment is set by who may change every deployment.")
        spillover = body.get("spillover")
        if isinstance(spillover, str) and not self.covers(kind, spillover, Permission.WRITE_DEPLOYMENTS):
            raise PermissionDenied("A deployment spills over to one that you may change.")

    async def _provider(self, name: str) -> object:
        """What a deployment has there now, as it is shown."""
        try:
            return (await self._objects.get("deployments", name)).body.get("provider")
        except ResourceNotFound:
            return None


def audited_name(name: str) -> str:
    """An object's name for the audit; empty where it cannot be one."""
    return name if is_name(name) else ""


def readable_projects(principal: Principal | None) -> tuple[str, ...] | None:
    """Whose usage a caller may read. None: all usage, also that of no project."""
    if principal is None:
        return ()
    grants = list(principal.giving(Permission.READ_USAGE))
    if any(grant.project is None for grant in grants):
        return None
    return tuple(dict.fromkeys(grant.project for grant in grants if grant.project is not None))
