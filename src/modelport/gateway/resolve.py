"""Which deployment: what the caller named → a Deployment that does this operation, or 404 / 400."""

from __future__ import annotations

from modelport.core.catalog import Deployment, Snapshot
from modelport.core.errors import DeploymentNotFound, ModelNotNamed, OperationNotSupported, RouteNotFound
from modelport.core.operations import Operation
from modelport.core.ports.stages import Refusal
from modelport.gateway.call import Selector


def requested_model(selector: Selector, model: str | None) -> str | None:
    """The name that decides, as the caller wrote it; None: the default deployment."""
    if selector.path is not None:
        return selector.path
    if selector.header:
        return selector.header
    return model if selector.body_selects else None


def find(selector: Selector, model: str | None, snapshot: Snapshot) -> Deployment | Refusal:
    """The deployment that was named, or the default one."""
    name = requested_model(selector, model)
    if name:
        deployment = snapshot.deployment(name)
        return deployment if deployment is not None else Refusal(DeploymentNotFound(name))
    if snapshot.default_deployment is not None:
        return snapshot.default_deployment
    if selector.body_selects:
        return Refusal(ModelNotNamed())
    return Refusal(RouteNotFound())


def resolve(selector: Selector, model: str | None, operation: Operation, snapshot: Snapshot) -> Deployment | Refusal:
    """As `find`, and the deployment's model does this operation."""
    deployment = find(selector, model, snapshot)
    if isinstance(deployment, Refusal) or operation in deployment.profile.operations:
        return deployment
    if selector.wrong_operation == "404":
        return Refusal(RouteNotFound())
    return Refusal(OperationNotSupported(operation, deployment.name))
