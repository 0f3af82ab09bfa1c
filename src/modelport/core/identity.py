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


class Credential(Struct, frozen=True):
    """What was shown, in the order of precedence: every header that may hold a key or token. Never logged."""

    api_key: str | None = None
    bearer: str | None = None
    subscription_key: str | None = None
    is_malformed: bool = False
    """A header for a key is empty, or an `Authorization` is no `Bearer KEY`."""

    def candidates(self) -> tuple[str, ...]:
        """The distinct values shown; any valid one authenticates."""
        shown = (self.api_key, self.bearer, self.subscription_key)
        return tuple(dict.fromkeys(value for value in shown if value))

    def __repr__(self) -> str:
        return f"Credential({len(self.candidates())} shown)"


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


ANONYMOUS = Principal(name="anonymous", key_id=None, role=Role.INFERENCE_USER)


class KeyEntry(Struct, frozen=True):
    """A stored key: its keyed hash (never the key), whose it is, and until when it counts (unix seconds)."""

    digest: bytes
    principal: Principal
    expires_at: float | None = None

    def __repr__(self) -> str:
        return f"KeyEntry({self.principal.name!r}, {self.principal.key_id!r})"
