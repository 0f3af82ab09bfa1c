"""What operators see of stores and deployments."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from modelport.core.catalog import Deployment


class StoreState(Struct, frozen=True):
    """A store that this process shares with others. `degraded`: it does not answer, and calls go on as was declared;
    `gone`: they do not."""

    name: str
    state: Literal["ready", "degraded", "gone"]
    reason: str | None = None


class DeploymentState(Struct, frozen=True):
    """What an operator sees of a deployment, and why, in one line."""

    deployment: Deployment
    state: Literal["ready", "loading", "restarting", "failed", "unloaded"]
    reason: str | None = None
