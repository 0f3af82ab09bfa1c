"""Every error in the shape of the Azure AI Model Inference API, in Azure's own words where they are known."""

from __future__ import annotations

from typing import Any, Literal

from modelport.core.errors import (
    BodyTooLarge,
    ContentFiltered,
    DeploymentNotFound,
    EngineFailed,
    ExtraParametersOptionUnknown,
    ExtraParametersRefused,
    InvalidParameters,
    MalformedBody,
    MethodNotAllowed,
    ModelNotNamed,
    ModelportError,
    Unauthenticated,
    UpstreamRefused,
)
from modelport.core.limit_errors import ContextLengthExceeded, RateLimited, TokensLimitReached
from modelport.dialects.error_body import ErrorBody, error_body, invalid_parameters, plain, wire_code, wire_message

Form = Literal["models", "root", "managed"]
"""`models`: `/models` and `/api/models`; `root`: one model at the host's root or below a prefix of its own; `managed`:
a root that behaves like a managed online endpoint (its engine's failures are 424)."""

_RATE_LIMIT_TYPES = {
    "requests": "UserByModelByMinute",
    "tokens": "UserByModelByMinuteTokens",
    "concurrency": "UserConcurrentRequests",
    "upstream": "UserByModelByMinute",
}
_NAME_LIMIT = 256
_ENGINE_FAILURE = {"ms-azureml-model-error-reason": "model_error", "ms-azureml-model-error-statuscode": "500"}


def encode(error: ModelportError, *, form: Form = "models") -> ErrorBody:
    """The status, code, headers and body for this error."""
    body = payload(error, form=form)
    if isinstance(error, RateLimited):
        remaining = {"x-ratelimit-type": _RATE_LIMIT_TYPES[error.kind]}
        return error_body(error, body, headers={**remaining, "x-ratelimit-timeremaining": str(error.retry_after)})
    if isinstance(error, EngineFailed) and form == "managed":
        return error_body(error, body, status=424, headers=_ENGINE_FAILURE)
    return error_body(error, body, headers=None)


def payload(error: ModelportError, *, form: Form = "models") -> dict[str, Any]:
    """The body, not yet JSON; its `error` is also what a broken stream says."""
    match error:
        case InvalidParameters():
            return invalid_parameters(error)
        case ExtraParametersRefused() | ExtraParametersOptionUnknown():
            return {**plain(error.code, error.message, status=400), "detail": wire_message(error.message)}
        case MalformedBody():
            return plain(error.code, error.message, status=400)
        case ModelNotNamed() | BodyTooLarge():
            return plain(error.code, error.message, details=wire_message(error.message))
        case ContentFiltered():
            return _openai_shape(error, type=None, status=400)
        case ContextLengthExceeded() | TokensLimitReached() | UpstreamRefused():
            return _openai_shape(error)
        case Unauthenticated():
            return _unauthenticated(error, form)
        case DeploymentNotFound():
            return _deployment_not_found(error, form)
        case MethodNotAllowed():
            return {"detail": error.message, **plain(error.code, error.message)}
        case RateLimited():
            message = _rate_limited(error)
            return plain(error.code, message, details=message)
        case _:
            return plain(error.code, error.message)


def _openai_shape(error: ModelportError, *, type: str | None = "invalid_request_error", **more: Any) -> dict[str, Any]:
    message, code = wire_message(error.message), wire_code(error.code)
    return {"error": {"message": message, "type": type, "param": error.target, "code": code, **more}}


def _unauthenticated(error: Unauthenticated, form: Form) -> dict[str, Any]:
    told = error.message != Unauthenticated().message  # something about a token
    if form != "models":
        failed = "Auth token validation failed"  # the SDK's own tests look for these words
        return plain("Unauthorized", f"{failed}. {error.message}" if told else failed)
    body = plain(error.code, error.message)
    return {"statusCode": 401, "message": wire_message(error.message), **body} if told else body


def _deployment_not_found(error: DeploymentNotFound, form: Form) -> dict[str, Any]:
    if form != "models":
        return {**plain(error.code, error.message), "status": "Serverless endpoint not found"}
    name = error.name if len(error.name) <= _NAME_LIMIT else error.name[:_NAME_LIMIT] + "…"
    message = wire_message(f"Unknown model: {name}.{error.help}" if error.help else f"Unknown model: {name}")
    return plain("unknown_model", message, details=message)


def _rate_limited(error: RateLimited) -> str:
    wait = f"Please wait {error.retry_after} seconds before retrying."
    if error.limit is None:
        return f"Rate limit exceeded. {wait}"
    window = 0 if error.kind == "concurrency" else error.window_seconds
    return f"Rate limit of {error.limit} per {window}s exceeded for {_RATE_LIMIT_TYPES[error.kind]}. {wait}"
