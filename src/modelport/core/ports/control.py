"""The control plane's objects: what a store keeps of them, what a change is, and what a surface asks for.

An object is a kind (`deployments`, `providers` …), a name that is unique without case, and a JSON body in the spelling
of the configuration file. A stored body holds a sealed text in the place of each secret: `{"$sealed": "…"}`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, Protocol

from msgspec import Struct

from modelport.core.errors import ModelportError

Origin = Literal["file", "built_in", "store"]
Kind = Literal[
    "providers",
    "models",
    "deployments",
    "projects",
    "keys",
    "prices",
    "content_filters",
    "blocklists",
    "policies",
    "role_assignments",
]
Action = Literal["create", "change", "delete", "list_keys", "regenerate_key", "test_policy", "audit_policy"]
Effect = Literal["deny", "audit"]
Body = dict[str, Any]


class ControlStoreUnavailable(Exception):
    """The store cannot be reached or written now. Nothing has changed."""


class VersionConflict(Exception):
    """Another process has changed the store since it was read: read it again, and decide again."""


class StoredObject(Struct, frozen=True, kw_only=True):
    """One object as the store has it."""

    kind: str
    name: str
    body: Body
    version: int
    """The store's version since which it is like this; its etag."""
    created_us: int
    """Microseconds of unix time."""
    changed_us: int


class StoredState(Struct, frozen=True):
    """All objects at one version. A new store has version 0."""

    version: int = 0
    objects: tuple[StoredObject, ...] = ()


class Write(Struct, frozen=True, kw_only=True):
    """Puts an object (`body`), or deletes it (None). `object_version`: what the change was decided on."""

    kind: str
    name: str
    body: Body | None


class AuditDraft(Struct, frozen=True, kw_only=True):
    """What an audit entry says; the store adds number, version and chain. `before` and `after` hold no secret."""

    time_us: int
    actor: str
    key_id: str | None = None
    source: str | None = None
    """The caller's address."""
    action: str
    kind: str
    name: str
    before: Body | None = None
    after: Body | None = None
    result: str = "done"
    """`done`, or the code of the refusal. Where `after` has `further_refusals`, the entry is about so many."""


class AuditEntry(AuditDraft, frozen=True, kw_only=True):
    """One link of the chain: `digest` is SHA-256 over `previous` and everything else in it."""

    sequence: int
    version: int
    previous: str
    digest: str


class ControlStore(Protocol):
    """Blocks: call it from a thread. Everything raises ControlStoreUnavailable."""

    def load(self) -> StoredState:
        """All objects, by kind and name."""
        ...

    def version(self) -> int:
        """The version that `load` would return."""
        ...

    def commit(self, expected: int, writes: Sequence[Write], entry: AuditDraft) -> int:
        """Writes the objects and the audit entry in one transaction; returns the new version, `expected + 1`. Raises
        VersionConflict."""
        ...

    def note(self, entry: AuditDraft) -> None:
        """Appends an audit entry alone."""
        ...

    def audit(self, since_us: int = 0, kind: str | None = None, name: str | None = None) -> Sequence[AuditEntry]:
        """The entries from `since_us` on, oldest first."""
        ...

    def key_uses(self) -> Mapping[str, int]:
        """When each key was used last, in microseconds of unix time, by key id."""
        ...

    def note_key_uses(self, uses: Mapping[str, int]) -> None:
        """Keeps the later of two times."""
        ...

    def forget_key_uses(self, key_ids: Iterable[str]) -> None:
        """As if these were never used."""
        ...

    def wait(self, seconds: float) -> None:
        """Returns after `seconds`, or sooner where a change of another process is announced. For one thread."""
        ...

    def claim(self, name: str, value: str) -> str:
        """The value that the store has under this name; `value` where it had none."""
        ...

    def close(self) -> None:
        """Ends its connections."""
        ...


UNAUTHENTICATED: Final = "(unauthenticated)"
"""Name of the actor where no valid credential was shown; no key has such a name."""


class Actor(Struct, frozen=True):
    """Who asks, for the audit."""

    name: str
    key_id: str | None = None
    source: str | None = None


class Resource(Struct, frozen=True, kw_only=True):
    """An object as a surface shows it: `***` stands for each secret. Only `store` objects can be changed."""

    kind: str
    name: str
    body: Body
    origin: Origin
    place: str | None = None
    """File and line of one that comes from the file."""
    etag: str | None = None
    """In quotes, for `ETag` and `If-Match`; None: it cannot be changed."""
    created_us: int | None = None
    changed_us: int | None = None


class Conditions(Struct, frozen=True):
    """The values of `If-Match` and `If-None-Match`, as sent."""

    if_match: str | None = None
    if_none_match: str | None = None


class Put(Struct, frozen=True):
    """What a change has made. `secrets`: values that are shown this once (a new key)."""

    resource: Resource
    created: bool
    secrets: Mapping[str, str] = {}


class AccountKeys(Struct, frozen=True):
    """The account's pair."""

    key1: str
    key2: str

    def __repr__(self) -> str:
        return "AccountKeys(***)"


class PolicyViolation(Struct, frozen=True):
    """A rule of a policy that a deployment does not keep."""

    deployment: str
    policy: str
    effect: Effect
    rule: str
    """Its place in the policy: `allow.models`, `max_capacity` …"""
    value: str
    """What the deployment has there."""
    what: str
    """For people."""


class ControlPlane(Protocol):
    """What `/admin/v1` and other surfaces build on. A change returns when every process of this server serves it.

    Raises ResourceNotFound, ResourceConflict (409), PreconditionFailed (412), InvalidResource (400, with all faults)
    and Unavailable (503: the store is away; nothing has changed)."""

    @property
    def version(self) -> int:
        """Of the objects that are served."""
        ...

    async def list(self, kind: Kind) -> Sequence[Resource]:
        """By name."""
        ...

    async def get(self, kind: Kind, name: str) -> Resource:
        """The name is found whatever its case."""
        ...

    async def put(self, actor: Actor, kind: Kind, name: str, body: Body, conditions: Conditions = ...) -> Put:
        """Creates, or replaces. A secret that is absent or `***` stays; null removes it. The same once more changes
        nothing."""
        ...

    async def patch(self, actor: Actor, kind: Kind, name: str, body: Body, conditions: Conditions = ...) -> Put:
        """Merges (RFC 7396: null removes) into an object that exists."""
        ...

    async def delete(self, actor: Actor, kind: Kind, name: str, conditions: Conditions = ...) -> None:
        """Removes."""
        ...

    async def test_policy(self, name: str, body: Body) -> Sequence[PolicyViolation]:
        """What of the deployments that exist would not keep such a policy, whatever its effect. Changes nothing."""
        ...

    async def account_keys(self, actor: Actor) -> AccountKeys:
        """The pair; audited."""
        ...

    async def regenerate_account_key(self, actor: Actor, which: Literal["key1", "key2"]) -> AccountKeys:
        """A new one in the place of `which`; the old one is refused from now on."""
        ...

    async def audit(self, since_us: int = 0, kind: str | None = None, name: str | None = None) -> Sequence[AuditEntry]:
        """The entries from `since_us` on, oldest first."""
        ...

    async def note_refusal(self, actor: Actor, action: Action, kind: str, name: str, code: str) -> None:
        """For the audit: a change that was refused before it came here. Repeated ones are counted, not written one by
        one. Never raises."""
        ...


class ResourceNotFound(ModelportError):
    """There is no object of this kind and name."""

    status = 404
    code = "ResourceNotFound"

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"There is nothing named {name!r} among the {kind}.", target=name)


class ResourceConflict(ModelportError):
    """The object is the file's, is used by others, or another change came first."""

    status = 409
    code = "Conflict"


class PreconditionFailed(ModelportError):
    """If-Match or If-None-Match does not hold."""

    status = 412
    code = "PreconditionFailed"


class InvalidResource(ModelportError):
    """The object is not valid. `faults`: the place of each fault inside the body, and what is wrong."""

    status = 400
    code = "InvalidResource"

    def __init__(self, message: str, faults: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.faults = tuple(faults)


class DisallowedByPolicy(ModelportError):
    """A deployment does not keep policies whose effect is deny."""

    status = 403
    code = "RequestDisallowedByPolicy"

    def __init__(self, name: str, violations: Sequence[PolicyViolation]) -> None:
        reasons = "; ".join(f"{found.policy}: {found.rule}: {found.what}" for found in violations)
        super().__init__(f"Resource {name!r} was disallowed by policy. Reasons: '{reasons}'.", target=name)
        self.violations = tuple(violations)
