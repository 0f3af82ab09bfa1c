"""What the control plane needs: a store, the forms of a body, and the server that serves the objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from modelport.core.ports.control import (
    AuditDraft,
    AuditEntry,
    Body,
    PolicyViolation,
    Resource,
    StoredObject,
    StoredState,
    Write,
)


class Store(Protocol):
    """core.ports.control.ControlStore for an event loop. Raises ControlStoreUnavailable."""

    async def load(self) -> StoredState: ...

    async def version(self) -> int: ...

    async def commit(self, expected: int, writes: Sequence[Write], entry: AuditDraft) -> int: ...

    async def note(self, entry: AuditDraft) -> None: ...

    async def audit(self, since_us: int, kind: str | None, name: str | None) -> Sequence[AuditEntry]: ...


class Forms(Protocol):
    """An object's body: as it is given, as it lives here with its secrets, as it is stored, and as it is shown."""

    def understood(
        self,
        kind: str,
        given: Mapping[str, Any],
        kept: Mapping[str, Any] | None,
        before: Mapping[str, Any] | None,
    ) -> Body:
        """From the API. Secrets that it leaves out are those of `kept`, where they still lead to the same address as in
        `before`, the object as it is now. Raises InvalidResource."""
        ...

    def sealed(self, kind: str, name: str, body: Mapping[str, Any]) -> Body:
        """For the store."""
        ...

    def opened(self, kind: str, name: str, body: Mapping[str, Any]) -> Body:
        """From the store. Raises ConfigError where a secret cannot be opened."""
        ...

    def shown(self, body: Mapping[str, Any]) -> Body:
        """With `***` for each secret."""
        ...

    def new_key(self) -> tuple[str, Any]:
        """A caller's key, and what is stored of it."""
        ...

    def new_account_key(self) -> Any:
        """The same of the account, which is stored as a secret."""
        ...

    def revealed(self, secret: Any) -> str:
        """A secret's value."""
        ...


class Host(Protocol):
    """The server that serves the objects."""

    failures: tuple[type[Exception], ...]
    """What `prepare` raises where it is about no single object."""

    def given(self) -> Sequence[Resource]:
        """The file's and the built-in objects."""
        ...

    async def prepare(self, objects: Sequence[StoredObject], subject: tuple[str, str] | None) -> Any:
        """Validates the whole: what `apply` takes. `subject`: the object that has changed. Raises InvalidResource, and
        ResourceConflict for what needs a restart; without a subject, `failures`."""
        ...

    def violations(self, prepared: Any, deployment: str | None, policy: str | None = None) -> Sequence[PolicyViolation]:
        """What a deployment (None: all) of a prepared configuration does not keep, of a policy (None: of all)."""
        ...

    async def apply(self, prepared: Any, version: int) -> None:
        """Every process of this server serves it when this returns."""
        ...
