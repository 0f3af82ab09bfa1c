"""Refusals as Azure AI Content Safety words them: `{"error": {code, message, target}}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from modelport.core.errors import ModelportError
from modelport.dialects.error_body import ErrorBody, error_body, plain

CODES: Final[Mapping[str, str]] = {
    "BadRequest": "InvalidRequestBody",
    "InvalidResource": "InvalidRequestBody",
    "403": "Forbidden",
    "404": "ResourceNotFound",
    "InternalServerError": "InternalError",
}
"""Codes that other surfaces word differently."""


def encode(error: ModelportError) -> ErrorBody:
    """On the wire."""
    more: dict[str, Any] = {} if error.target is None else {"target": error.target}
    return error_body(error, plain(CODES.get(error.code, error.code), error.message, **more), headers=None)
