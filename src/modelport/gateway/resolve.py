"""Which deployment: what the caller named → a Deployment that it may use and that does this operation, or 404 / 400.

A deployment that the caller may not use is answered as one that does not exist: same status, same words, same work.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from modelport.core.catalog import Deployment, Snapshot
from modelport.core.errors import (
    DeploymentNotFound,
    ModelNotNamed,
    OperationNotSupported,
    PermissionDenied,
    RouteNotFound,
    Unavailable,
)
from modelport.core.identity import Principal
from modelport.core.operations import Operation
from modelport.core.ports.stages import Refusal
from modelport.core.roles import Permission
from modelport.gateway.authorize import may_use
from modelport.gateway.call import Selector

STALE_RETRY: Final = 5
"""Seconds."""


def requested_model(selector: Selector, model: str | None) -> str | None:
    """The name that decides, as the caller wrote it; None: the default deployment."""
    if selector.path is not None:
        return selector.path
    if selector.header:
        return selector.header
    return model if selector.body_selects else None


def visible(
    principal: Principal, snapshot: Snapshot, permission: Permission = Permission.LIST_MODELS
) -> list[Deployment]:
    """The deployments for which this principal has the permission, in order of their names."""
    deployments = snapshot.deployments
    return [deployments[name] for name in sorted(deployments) if may_use(principal, deployments[name], permission)]


def find(
    selector: Selector, model: str | None, snapshot: Snapshot, principal: Principal, permission: Permission
) -> Deployment | Refusal:
    """The deployment that was named, or the default one, if this principal has the permission for it. One that has it
    for no deployment at all is refused without a look at the name."""
    if snapshot.is_stale:
        return Refusal(Unavailable("The configuration may be out of date: its store is away.", retry_after=STALE_RETRY))
    if not principal.may(permission):
        return Refusal(PermissionDenied(principal.advice))
    name = requested_model(selector, model)
    deployment = snapshot.deployment(name) if name else snapshot.default_deployment
    if deployment is not None and may_use(principal, deployment, permission):
        return deployment
    if name:
        usable = tuple(deployment.name for deployment in visible(principal, snapshot, permission))
        return Refusal(DeploymentNotFound(name, usable))
    return Refusal(ModelNotNamed() if selector.body_selects else RouteNotFound())


def resolve(
    selector: Selector, model: str | None, operation: Operation, snapshot: Snapshot, principal: Principal
) -> Deployment | Refusal:
    """As `find`, and the deployment's model does this operation. A spillover that the principal may not use is left
    out: its calls wait or are refused as if none were configured."""
    deployment = find(selector, model, snapshot, principal, Permission.INFER)
    if isinstance(deployment, Refusal):
        return deployment
    if operation in deployment.profile.operations:
        return deployment if deployment.spillover is None else with_usable_spillover(deployment, snapshot, principal)
    if selector.wrong_operation == "404":
        return Refusal(RouteNotFound())
    return Refusal(OperationNotSupported(operation, deployment.name))


def with_usable_spillover(deployment: Deployment, snapshot: Snapshot, principal: Principal) -> Deployment:
    """The deployment as this principal sees it."""
    second = snapshot.deployment(deployment.spillover) if deployment.spillover is not None else None
    if second is not None and may_use(principal, second):
        return deployment
    return replace(deployment, spillover=None)
