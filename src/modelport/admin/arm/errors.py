"""Refusals as Azure Resource Manager words them: `{"error": {code, message, target, details[], additionalInfo[]}}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from modelport.admin.errors import violated
from modelport.core.errors import BadRequest, ModelportError, NotFound, PermissionDenied, Unauthenticated
from modelport.core.ports.control import InvalidResource
from modelport.dialects.error_body import ErrorBody, error_body, plain

CODES: Final[Mapping[str, str]] = {
    "403": "Forbidden",
    "404": "NotFound",
    "405": "MethodNotAllowed",
    "413": "RequestEntityTooLarge",
    "InvalidResource": "InvalidResourceProperties",
}
"""Codes that other surfaces word differently."""
PLACES: Final[Mapping[str, str]] = {
    "content_filter": "properties.raiPolicyName",
    "spillover": "properties.spilloverDeploymentName",
}
"""Places in a deployment's body that the configuration words differently."""
STRANGER: Final = "Authentication failed. Send a valid key or token: `Authorization: Bearer KEY`."


class ModelNotSupported(BadRequest):
    """The catalogue has no such model."""

    code = "DeploymentModelNotSupported"


class ArmNotFound(NotFound):
    """A subscription, group, account or resource that is not here; `code` says which."""


def encode(error: ModelportError, authorization_uri: str | None) -> ErrorBody:
    """On the wire. `authorization_uri`: where a client without a credential is sent; None: not known."""
    code, message, status = CODES.get(error.code, error.code), error.message, error.status
    headers: dict[str, str] = {}
    if isinstance(error, Unauthenticated):
        code, message = "AuthenticationFailed", STRANGER
        where = f'authorization_uri="{authorization_uri}", ' if authorization_uri else ""
        headers["www-authenticate"] = f'Bearer {where}error="invalid_token"'
    elif isinstance(error, PermissionDenied):
        code, status = "AuthorizationFailed", 403
    faults = error.faults if isinstance(error, InvalidResource) else ()
    details = [
        {
            "code": "InvalidValue",
            "message": text,
            "target": PLACES.get(target, target),
            "details": [],
            "additionalInfo": [],
        }
        for target, text in faults
    ]
    payload = plain(code, message, target=error.target, details=details, additionalInfo=violated(error))
    return error_body(error, payload, status=status, headers=headers)
