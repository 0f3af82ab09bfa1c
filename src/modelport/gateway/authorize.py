"""May you: which deployments a principal sees, and which operations it may ask them for.

A deployment that the principal may not use does not exist for it: `resolve` says so. What is refused here is an
operation on a deployment that it may use.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from modelport.core.catalog import Deployment
from modelport.core.errors import PermissionDenied
from modelport.core.identity import Principal
from modelport.core.operations import Operation
from modelport.core.ports.stages import Refusal


def may_use(principal: Principal, deployment: Deployment) -> bool:
    """Whether the principal's scope covers this deployment."""
    name = deployment.name.lower()
    return any(pattern == "*" or fnmatchcase(name, pattern) for pattern in principal.deployments)


def authorize(principal: Principal, operation: Operation) -> Refusal | None:
    """None: go on."""
    if principal.operations is not None and operation not in principal.operations:
        return Refusal(PermissionDenied())
    return None
