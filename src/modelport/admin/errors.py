"""Refusals of `/admin/v1`: `{"error": {code, message, target, details: [{code, target, message}]}}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from modelport.core.errors import ModelportError, Unauthenticated
from modelport.core.ports.control import InvalidResource
from modelport.dialects.error_body import ErrorBody, error_body, plain

CODES: Final[Mapping[str, str]] = {
    "401": "Unauthorized",
    "403": "Forbidden",
    "404": "NotFound",
    "405": "MethodNotAllowed",
    "413": "RequestEntityTooLarge",
}
"""Codes that are numbers on other surfaces."""

STRANGER: Final = "Show an administrator's key: as `Authorization: Bearer KEY`, or as `api-key: KEY`."


def encode(error: ModelportError) -> ErrorBody:
    """On the wire."""
    more: dict[str, Any] = {}
    if error.target is not None:
        more["target"] = error.target
    if isinstance(error, InvalidResource) and error.faults:
        more["details"] = [
            {"code": "InvalidValue", "target": target, "message": message} for target, message in error.faults
        ]
    is_stranger = isinstance(error, Unauthenticated)
    message = STRANGER if is_stranger else error.message
    headers = {"www-authenticate": "Bearer"} if is_stranger else None
    return error_body(error, plain(CODES.get(error.code, error.code), message, **more), headers=headers)
