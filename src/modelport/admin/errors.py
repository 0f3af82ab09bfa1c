"""Refusals of `/admin/v1`: `{"error": {code, message, target, details: [{code, target, message}], additionalInfo}}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from modelport.core.errors import ModelportError, Unauthenticated
from modelport.core.ports.control import DisallowedByPolicy, InvalidResource, PolicyViolation
from modelport.dialects.error_body import ErrorBody, error_body, plain

CODES: Final[Mapping[str, str]] = {
    "401": "Unauthorized",
    "403": "Forbidden",
    "404": "NotFound",
    "405": "MethodNotAllowed",
    "413": "RequestEntityTooLarge",
}
"""Codes that are numbers on other surfaces."""

STRANGER: Final = "Show a valid key or token: as `Authorization: Bearer KEY`, or as `api-key: KEY`."


def encode(error: ModelportError, authorization_uri: str | None = None) -> ErrorBody:
    """On the wire. `authorization_uri`: where a client without a credential gets a token; None: nowhere."""
    more: dict[str, Any] = {}
    if error.target is not None:
        more["target"] = error.target
    if isinstance(error, InvalidResource) and error.faults:
        more["details"] = [
            {"code": "InvalidValue", "target": target, "message": message} for target, message in error.faults
        ]
    if rules := violated(error):
        more["additionalInfo"] = rules
    is_stranger = isinstance(error, Unauthenticated)
    message = STRANGER if is_stranger else error.message
    where = f' authorization_uri="{authorization_uri}"' if authorization_uri is not None else ""
    headers = {"www-authenticate": f"Bearer{where}"} if is_stranger else None
    return error_body(error, plain(CODES.get(error.code, error.code), message, **more), headers=headers)


def violated(error: ModelportError) -> list[dict[str, Any]]:
    """The rules of policies that led to a refusal, as `additionalInfo`."""
    found = error.violations if isinstance(error, DisallowedByPolicy) else ()
    return [{"type": "PolicyViolation", "info": policy_info(violation)} for violation in found]


def policy_info(found: PolicyViolation) -> dict[str, Any]:
    """A violation as Azure's policies word it: a policy is definition and assignment in one."""
    place = f"/admin/v1/policies/{found.policy}"
    ours = {"Id": place, "Name": found.policy, "DisplayName": found.policy}
    expression = {"result": "True", "expressionKind": "Field", "expression": found.rule, "path": found.rule}
    return {
        **{f"policyDefinition{key}": value for key, value in ours.items()},
        "policyDefinitionEffect": found.effect,
        **{f"policyAssignment{key}": value for key, value in ours.items()},
        "policyAssignmentScope": "/admin/v1/deployments",
        "policyAssignmentParameters": {},
        "evaluationDetails": {"evaluatedExpressions": [{**expression, "expressionValue": found.value}]},
        "reason": found.what,
    }
