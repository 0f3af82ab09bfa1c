"""Who asks, and what it may do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from msgspec import Struct

from modelport.core.budgets import Budget
from modelport.core.catalog import RateLimits
from modelport.core.operations import Operation
from modelport.core.roles import Grant, Permission, Role


class Shown(Struct, frozen=True):
    """A key or token in a request's head. `header` and `scheme` in lower case; the scheme is empty where the header
    holds the value alone. Never logged."""

    header: str
    scheme: str
    value: str

    def __repr__(self) -> str:
        return f"Shown({self.header!r}, {self.scheme!r})"


class Peer(Struct, frozen=True):
    """Who sends a request: the other end of its connection, or whom a trusted proxy there has named."""

    address: str | None = None
    is_exposed: bool = False
    """It is on another machine, and nothing says that TLS was used on the way: others may read what it sends."""


Audience = Literal["inference", "management"]
"""What a token has to be issued for: inference, or Azure's management API. Keys are not issued for one."""


class Credential(Struct, frozen=True):
    """Every key and token in a request's head, in order of precedence; any valid one authenticates. Never logged."""

    shown: tuple[Shown, ...] = ()
    is_malformed: bool = False
    """A header for a key is empty, or an `Authorization` is no `Bearer KEY`."""
    peer: Peer = Peer()
    """Who shows it."""
    audience: Audience = "inference"
    """What it is shown for."""


class Principal(Struct, frozen=True):
    """Who it is, and what it may do: all that its grants give together. Without a grant it may do nothing."""

    name: str
    key_id: str | None
    grants: tuple[Grant, ...] = ()
    limits: RateLimits | None = None
    """What all its calls together may use, whatever the deployment. None: nothing but the deployments' limits."""
    weight: int = 1
    """Its share where calls wait for room: twice the weight, twice the tokens."""
    project: str | None = None
    """Whose costs its calls are booked with."""
    budgets: tuple[Budget, ...] = ()
    """Its own and its project's."""
    may_explain: bool = False
    """Whether it is told what a call would do, as administrators are."""
    is_by_token: bool = False
    """Whether it has shown a token, and no key."""
    advice: str = ""
    """A sentence for refusals: why it may do less than its owner expects."""

    def giving(self, permission: Permission) -> Iterator[Grant]:
        """The grants that give this permission, whatever their scope."""
        return (grant for grant in self.grants if grant.gives(permission))

    def may(self, permission: Permission, deployment: str | None = None, operation: Operation | None = None) -> bool:
        """Whether one grant gives this, and covers the deployment and the operation (None: any)."""
        return any(grant.covers(deployment, operation) for grant in self.giving(permission))

    @property
    def is_administrator(self) -> bool:
        """Whether everything is open to it."""
        return any(grant.role is Role.ADMINISTRATOR for grant in self.grants)


AssigneeKind = Literal["user", "group", "application", "key"]


class Assignee(Struct, frozen=True):
    """Whom a role is assigned to. As a key of `core.catalog.Snapshot.role_assignments`."""

    kind: AssigneeKind
    value: str
    """`oid` or `sub` of a user or of a service principal, a group's id, an application's id, or a key entry's name.
    GUIDs and names of keys in lower case, everything else as it is."""
    issuer: str | None = None
    """The `issuer` of the `auth.oidc` entry whose tokens it is about; None: a key."""


class ClaimRule(Struct, frozen=True):
    """A grant for tokens of one issuer whose claim holds a value: `auth.oidc[].roles[]`."""

    claim: str
    value: str
    grant: Grant


class TokenIssuer(Struct, frozen=True):
    """An entry of `auth.oidc`: whose tokens are accepted, and how they are verified."""

    issuer: str
    """As it is configured."""
    accepted: frozenset[str]
    """Every `iss` that its tokens may have."""
    audiences: frozenset[str]
    """Every `aud` of tokens for inference, without a slash at its end."""
    algorithms: frozenset[str] = frozenset({"RS256"})
    """Of signatures; public-key algorithms alone."""
    leeway: float = 60.0
    """Seconds by which clocks may differ."""
    tenant: str | None = None
    """The `tid` that its tokens must have; None: it is no tenant of Entra."""
    authorization_uri: str = ""
    """Where a client without a token is sent."""
    ca_file: str | None = None
    """The authorities that its certificate may come from; None: the system's."""
    proxy: str | None = None
    """By which its keys are fetched; it may hold a password."""
    rules: tuple[ClaimRule, ...] = ()


def grants_of(
    assignments: Mapping[Assignee, tuple[Grant, ...]], kind: AssigneeKind, value: str, issuer: str | None = None
) -> tuple[Grant, ...]:
    """What is assigned to this user, group, application or key."""
    return assignments.get(Assignee(kind, value, issuer), ())


class Identified(Struct, frozen=True):
    """An authenticator's yes. `expires_at`: the moment from which the credential no longer counts, in unix seconds;
    None: it does not expire."""

    principal: Principal
    expires_at: float | None = None


ANONYMOUS = Principal(name="anonymous", key_id=None, grants=(Grant(Role.INFERENCE_USER),))


class KeyEntry(Struct, frozen=True):
    """A stored key: its keyed hash (never the key), whose it is, and until when it counts (unix seconds)."""

    digest: bytes
    principal: Principal
    expires_at: float | None = None

    def __repr__(self) -> str:
        return f"KeyEntry({self.principal.name!r}, {self.principal.key_id!r})"
