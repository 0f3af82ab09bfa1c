"""Who asks, and what it may do."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from modelport.core.budgets import Budget
from modelport.core.catalog import RateLimits
from modelport.core.operations import Operation


class Role(StrEnum):
    """Azure's two built-in roles that matter here."""

    ADMINISTRATOR = "Administrator"
    INFERENCE_USER = "Inference User"


class Shown(Struct, frozen=True):
    """A key or token in a request's head. `header` and `scheme` in lower case; the scheme is empty where the header
    holds the value alone. Never logged."""

    header: str
    scheme: str
    value: str

    def __repr__(self) -> str:
        return f"Shown({self.header!r}, {self.scheme!r})"


class Credential(Struct, frozen=True):
    """Every key and token in a request's head, in order of precedence; any valid one authenticates. Never logged."""

    shown: tuple[Shown, ...] = ()
    is_malformed: bool = False
    """A header for a key is empty, or an `Authorization` is no `Bearer KEY`."""


class Principal(Struct, frozen=True):
    """Who it is. `deployments` are name patterns (fnmatch, lower case); `operations` None means all."""

    name: str
    key_id: str | None
    role: Role
    deployments: tuple[str, ...] = ("*",)
    operations: frozenset[Operation] | None = None
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


class Identified(Struct, frozen=True):
    """An authenticator's yes. `expires_at`: the moment from which the credential no longer counts, in unix seconds;
    None: it does not expire."""

    principal: Principal
    expires_at: float | None = None


ANONYMOUS = Principal(name="anonymous", key_id=None, role=Role.INFERENCE_USER)


class KeyEntry(Struct, frozen=True):
    """A stored key: its keyed hash (never the key), whose it is, and until when it counts (unix seconds)."""

    digest: bytes
    principal: Principal
    expires_at: float | None = None

    def __repr__(self) -> str:
        return f"KeyEntry({self.principal.name!r}, {self.principal.key_id!r})"
