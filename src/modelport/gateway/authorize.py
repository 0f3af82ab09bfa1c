"""May you: which deployments a principal sees, and which operations it may ask them for.

A deployment that the principal may not use does not exist for it: `resolve` says so. What is refused here is an
operation on a deployment that it may use.
"""

from __future__ import annotations

from modelport.core.catalog import Deployment
from modelport.core.errors import PermissionDenied
from modelport.core.identity import Principal
from modelport.core.operations import Operation
from modelport.core.ports.stages import Refusal
from modelport.core.roles import Permission


def may_use(principal: Principal, deployment: Deployment, permission: Permission = Permission.INFER) -> bool:
    """Whether a grant with this permission covers this deployment."""
    return principal.may(permission, deployment.name)


def authorize(
    principal: Principal, deployment: Deployment, operation: Operation, permission: Permission = Permission.INFER
) -> Refusal | None:
    """None: go on."""
    if principal.may(permission, deployment.name, operation):
        return None
    return Refusal(PermissionDenied(principal.advice))
