"""What the doors see of the data plane: the way, and what may be known about the deployments behind it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from modelport.core.catalog import Deployment, Snapshot
from modelport.core.identity import Credential, Principal
from modelport.core.operations import Operation
from modelport.core.ports.stages import NeedsWaiting, passed
from modelport.core.ports.states import DeploymentState, StoreState
from modelport.core.roles import Permission
from modelport.gateway.analysis import ContentSafety, OpenFilters
from modelport.gateway.authorize import authorize, may_use
from modelport.gateway.call import Selector
from modelport.gateway.identify import identify
from modelport.gateway.pipeline import Pipeline
from modelport.gateway.resolve import find, visible


class Gateway:
    """One per process. `draining` turns new calls away while running ones end."""

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        states: Callable[[], Sequence[DeploymentState]],
        metrics: Callable[[], bytes | Awaitable[bytes]],
        stores: Callable[[], Sequence[StoreState]] = list,
        filters: Callable[[], OpenFilters] = OpenFilters,
    ) -> None:
        """`filters`: what judges texts now."""
        self.pipeline = pipeline
        self.states = states
        self.stores = stores
        self.metrics = metrics
        self.content_safety = ContentSafety(pipeline, filters)
        self.draining = False
        self.calls: set[object] = set()
        """Those that run."""

    @property
    def running(self) -> int:
        """How many calls run."""
        return len(self.calls)

    def snapshot(self) -> Snapshot:
        """The current one."""
        return self.pipeline.snapshot()

    async def identify(self, credential: Credential) -> Principal:
        """Who it is. Raises Unauthenticated, and what an authenticator refuses with that cannot decide."""
        pipeline = self.pipeline
        found = identify(credential, pipeline.snapshot(), pipeline.authenticators, pipeline.clock)
        principal = passed(await found.resume() if isinstance(found, NeedsWaiting) else found).principal
        pipeline.callers.note_use(principal, pipeline.clock.now())
        return principal

    def visible(self, principal: Principal) -> list[Deployment]:
        """The deployments this principal may see, in order of their names."""
        return visible(principal, self.snapshot())

    def visible_states(self, principal: Principal) -> list[DeploymentState]:
        """The states of the deployments this principal may see."""
        return [state for state in self.states() if may_use(principal, state.deployment, Permission.LIST_MODELS)]

    def describe(self, principal: Principal, selector: Selector, model: str | None) -> Deployment:
        """Where a call with this selector would go. Raises NotFound, ModelNotNamed, PermissionDenied."""
        deployment = passed(find(selector, model, self.snapshot(), principal, Permission.LIST_MODELS))
        if (no := authorize(principal, deployment, Operation.INFO, Permission.LIST_MODELS)) is not None:
            raise no.error
        return deployment

    def named(self, principal: Principal, name: str) -> Deployment:
        """The deployment of this name. Raises DeploymentNotFound, also where the principal may not see it."""
        return passed(find(Selector(path=name), None, self.snapshot(), principal, Permission.LIST_MODELS))

    def ready(self) -> bool:
        """Whether every deployment can answer: one that loads at first use counts as ready, and so does a process that
        goes on without its stores."""
        if self.draining or any(store.state == "gone" for store in self.stores()):
            return False
        return all(state.state in ("ready", "unloaded") for state in self.states())
