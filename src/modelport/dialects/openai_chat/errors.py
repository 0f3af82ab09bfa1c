"""Every error in the shape of Azure OpenAI and OpenAI v1."""

from __future__ import annotations

import re
from typing import Any

from modelport.core.errors import (
    BadRequest,
    ContentFiltered,
    EngineFailed,
    InternalError,
    InvalidParameters,
    MethodNotAllowed,
    ModelportError,
    OperationNotSupported,
    Unauthenticated,
)
from modelport.core.limit_errors import BudgetExhausted, RateLimited
from modelport.core.operations import Operation
from modelport.dialects.error_body import ErrorBody, error_body, invalid_parameters, plain, wire_code, wire_message

_OPERATION_WORDS = {
    Operation.CHAT_COMPLETIONS: "ChatCompletions_Create",
    Operation.COMPLETIONS: "Completions_Create",
    Operation.EMBEDDINGS: "Embeddings_Create",
}
_LIMIT_WORDS = {
    "requests": "call rate limit",
    "tokens": "token rate limit",
    "concurrency": "concurrent request limit",
    "upstream": "rate limit",
}
_ENGINE_FAILURE = {"ms-azureml-model-error-reason": "model_error", "ms-azureml-model-error-statuscode": "500"}
_FILTERED = (
    "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. Please modify "
    "your prompt and retry. To learn more about our content filtering policies please read our documentation: "
    "https://go.microsoft.com/fwlink/?linkid=2198766"
)
_API_VERSION = re.compile(r"[0-9A-Za-z-]{1,32}")


def encode(
    error: ModelportError, *, operation: Operation = Operation.CHAT_COMPLETIONS, api_version: str | None = None
) -> ErrorBody:
    """The status, code, headers and body for this error; operation and api-version are named in a 429's text."""
    body = payload(error, operation=operation, api_version=api_version)
    if isinstance(error, RateLimited):
        return error_body(error, body, headers={"retry-after-ms": str(1000 * (error.retry_after or 1))})
    return error_body(error, body, headers=_ENGINE_FAILURE if isinstance(error, EngineFailed) else None)


def payload(
    error: ModelportError, *, operation: Operation = Operation.CHAT_COMPLETIONS, api_version: str | None = None
) -> dict[str, Any]:
    """The body, not yet JSON; its `error` is also what a broken stream says."""
    match error:
        case InvalidParameters():
            return invalid_parameters(error)
        case ContentFiltered():
            return _content_filtered(error)
        case OperationNotSupported():
            return plain(error.code, error.message)
        case BadRequest():
            return _shape(error, "invalid_request_error")
        case Unauthenticated() if error.message != Unauthenticated().message:  # something about a token
            return {"statusCode": 401, "message": wire_message(error.message), **plain(error.code, error.message)}
        case MethodNotAllowed():
            return {"detail": error.message, **plain(error.code, error.message)}
        case BudgetExhausted():
            return _shape(error, error.code)
        case RateLimited():
            return plain("429", _rate_limited(error, operation, api_version))
        case InternalError() | EngineFailed():
            return _shape(error, "server_error")
        case _:
            return plain(error.code, error.message)


def _shape(error: ModelportError, type: str) -> dict[str, Any]:
    message, code = wire_message(error.message), wire_code(error.code)
    return {"error": {"message": message, "type": type, "param": error.target, "code": code}}


def _content_filtered(error: ContentFiltered) -> dict[str, Any]:
    # Semantic Kernel fails on any other innererror.code.
    inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": error.results}
    shown = {"message": _FILTERED, "type": None, "param": "prompt", "code": error.code, "status": 400}
    return {"error": {**shown, "innererror": inner}}


def _rate_limited(error: RateLimited, operation: Operation, api_version: str | None) -> str:
    word = _OPERATION_WORDS.get(operation, "Models_List")
    version = ""
    if api_version is not None and _API_VERSION.fullmatch(api_version):
        version = f" under Azure OpenAI API version {api_version}"
    return (
        f"Requests to the {word} Operation{version} have exceeded {_LIMIT_WORDS[error.kind]} of your current "
        f"AIServices S0 pricing tier. Please retry after {error.retry_after} seconds."
    )
