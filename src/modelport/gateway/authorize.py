"""May you: which deployments a principal sees, and which operations it may ask them for.

A deployment that the principal may not use does not exist for it: `resolve` says so. What is refused here is an
operation on a deployment that it may use.
"""

from __future__ import annotations

from typing import Final

from modelport.core.catalog import Deployment
from modelport.core.errors import PermissionDenied
from modelport.core.identity import Principal
from modelport.core.operations import Operation
from modelport.core.ports.stages import Refusal
from modelport.core.roles import Permission

KEYS_ONLY: Final = "This deployment accepts keys, and no access tokens: send one as `api-key: KEY`."


def may_use(principal: Principal, deployment: Deployment, permission: Permission = Permission.INFER) -> bool:
    """Whether a grant with this permission covers this deployment."""
    return principal.may(permission, deployment.name)


def authorize(
    principal: Principal, deployment: Deployment, operation: Operation, permission: Permission = Permission.INFER
) -> Refusal | None:
    """None: go on."""
    if not principal.may(permission, deployment.name, operation):
        return Refusal(PermissionDenied(principal.advice))
    return Refusal(PermissionDenied(KEYS_ONLY)) if deployment.key_only and principal.is_by_token else None
