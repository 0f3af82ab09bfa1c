"""All endpoints of Azure's management API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from modelport.admin.app import Refuse
from modelport.admin.arm import (
    account,
    models,
    rai_blocklists,
    rai_policies,
    role_assignments,
    role_definitions,
    subscriptions,
    usages,
)
from modelport.admin.arm.deployments import Deployments
from modelport.admin.arm.errors import encode
from modelport.admin.arm.operations import Operations
from modelport.admin.arm.scope import NIL_ID, Arm, Routes
from modelport.admin.endpoint import AdminRequest, Endpoint
from modelport.core.errors import ModelportError
from modelport.dialects.error_body import ErrorBody

PUBLIC: Final = "metadata"
"""The first segment of the path that wants no credential."""
BASES: Final = ("subscriptions", PUBLIC)
"""First segments of all paths."""


def endpoints(arm: Arm, operations: Operations) -> Sequence[Endpoint]:
    """The table."""
    routes = Routes(arm)
    for module in (subscriptions, account, models, usages, rai_policies, rai_blocklists):
        module.add(routes)
    role_definitions.add(routes)
    role_assignments.add(routes)
    Deployments(operations).add(routes)
    operations.add(routes)
    return routes.endpoints


def refusals(arm: Arm) -> Refuse:
    """How this API words errors."""

    def refuse(error: ModelportError, request: AdminRequest) -> ErrorBody:
        base, issuers = arm.base_of(request), arm.snapshot().issuers
        if issuers:
            return encode(error, issuers[0].authorization_uri)
        return encode(error, f"{base}/{NIL_ID}" if base is not None else None)

    return refuse
