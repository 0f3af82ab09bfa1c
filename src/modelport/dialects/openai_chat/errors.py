"""Every error in the shape of Azure OpenAI and OpenAI v1."""

from __future__ import annotations

from modelport.core.errors import ModelportError
from modelport.core.operations import Operation
from modelport.dialects.error_body import ErrorBody


def encode(
    error: ModelportError, *, operation: Operation = Operation.CHAT_COMPLETIONS, api_version: str | None = None
) -> ErrorBody:
    """The status, code, headers and body for this error; operation and api-version are named in a 429's text."""
    raise NotImplementedError
