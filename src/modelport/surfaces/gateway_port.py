"""What the doors need of the gateway. `gateway.gateway.Gateway` is the one; tests stand in with their own."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Protocol

from modelport.core.catalog import Deployment, Snapshot
from modelport.core.identity import Credential, Principal
from modelport.core.ports.states import DeploymentState, StoreState
from modelport.gateway.analysis import ContentSafety
from modelport.gateway.call import Selector


class Gateway(Protocol):
    """The data plane, seen from its doors."""

    draining: bool
    """New calls are turned away; running ones end."""

    async def identify(self, credential: Credential) -> Principal:
        """Who it is. Raises Unauthenticated, and what an authenticator refuses with that cannot decide."""
        ...

    def visible(self, principal: Principal) -> list[Deployment]:
        """The deployments this principal may use, in order of their names."""
        ...

    def visible_states(self, principal: Principal) -> Sequence[DeploymentState]:
        """How the deployments are that this principal may use."""
        ...

    def named(self, principal: Principal, name: str) -> Deployment:
        """The deployment of this name. Raises DeploymentNotFound, also where the principal may not use it."""
        ...

    def describe(self, principal: Principal, selector: Selector, model: str | None) -> Deployment:
        """The deployment that such a call would go to. Raises NotFound, ModelNotNamed, PermissionDenied."""
        ...

    def snapshot(self) -> Snapshot:
        """The current one."""
        ...

    def ready(self) -> bool:
        """Whether every deployment can answer."""
        ...

    @property
    def content_safety(self) -> ContentSafety:
        """The filters, without a deployment."""
        ...

    @property
    def stores(self) -> StoresOf:
        """How every store is that other processes share."""
        ...

    @property
    def metrics(self) -> MetricsOf:
        """All counters as Prometheus text."""
        ...


class StoresOf(Protocol):
    """Gives every shared store's state."""

    def __call__(self) -> Sequence[StoreState]: ...


class MetricsOf(Protocol):
    """Gives the Prometheus text; other processes may have to be asked for theirs."""

    def __call__(self) -> bytes | Awaitable[bytes]: ...
