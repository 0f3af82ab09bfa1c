"""Every way a call can be refused or fail, as one tree. Surfaces turn a leaf into their own wire shape. Those that have
to do with limits are in core/limit_errors.py.

ModelportError
├── BadRequest 400
│   ├── MalformedBody                 not JSON, not an object, nested too deeply
│   ├── ExtraParametersRefused        unknown body fields while extra-parameters is `error`
│   ├── ExtraParametersOptionUnknown  the header names no known mode
│   ├── ModelNotNamed                 several deployments and none asked for
│   ├── OperationNotSupported         an embeddings call to a chat model (404 on the root form)
│   ├── ContextLengthExceeded
│   ├── TokensLimitReached            more tokens than the whole limit of a deployment, key or budget
│   ├── ContentFiltered               the prompt was blocked by the deployment's policy
│   └── UpstreamRefused               the upstream called the request bad: its words, our shape
├── Unauthenticated 401
├── TooManyFailures 429               too many failed attempts to authenticate from one address
├── PermissionDenied 401              a known principal without the role (Azure answers 401, not 403)
├── Forbidden 403                     network policy
├── PriceUnknown 403                  a budget of money cannot count the call
├── NotFound 404
│   ├── DeploymentNotFound
│   └── RouteNotFound
├── MethodNotAllowed 405
├── RequestTimedOut 408               the caller was too slow to send
├── BodyTooLarge 413
├── UnsupportedEncoding 415
├── HeadersTooLarge 431
├── InvalidParameters 422             every offending field, each with its place and value
├── RateLimited 429                   always with retry_after
├── BudgetExhausted 429               a budget of money or tokens is used up; seldom with retry_after
├── InternalError 500
├── EngineFailed 500                  the model broke while the gateway is fine (424 on the managed form)
├── Unavailable 503                   loading, saturated, draining; always with retry_after
│   └── UpstreamFailed 502→503        an upstream answered nonsense, or not at all
│       └── CredentialRefused         … or did not accept the gateway's credential
└── UpstreamTimedOut 504
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from modelport.core.excerpts import NAMES_SHOWN, enumerated, excerpt
from modelport.core.offences import Offence as Offence
from modelport.core.operations import Operation


class ModelportError(Exception):
    """The root. `message` is written for the caller: it holds no secret, no prompt and no internal path."""

    status: ClassVar[int] = 500
    code: str = "InternalServerError"
    reason: str | None = None
    """Why a caller was not let in: a code, or `code: details`, for the operator's log alone."""

    def __init__(
        self, message: str, *, code: str | None = None, target: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.target = target
        """The offending parameter, where there is exactly one."""
        self.retry_after = retry_after
        """Whole seconds, at least 1; only 429 and 503 carry it (azure-core retries whatever carries it)."""
        if code is not None:
            self.code = code


class BadRequest(ModelportError):
    """The request cannot be understood or may not be made like this."""

    status = 400
    code = "BadRequest"


class MalformedBody(BadRequest):
    """The body is no JSON object, or nested deeper than the limit."""


class ExtraParametersRefused(BadRequest):
    """Body fields outside the schema while the mode is `error`; `names` in the order they were sent."""

    code = "Bad Request"

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        shown = [repr(excerpt(name)) for name in self.names[:NAMES_SHOWN]]
        listed = "[" + ", ".join([*shown, "…"] if len(self.names) > NAMES_SHOWN else shown) + "]"
        # litellm parses the first [...] of this text and retries without those keys.
        super().__init__(
            f"Extra parameters {listed} are not allowed when extra-parameters is not set or set to be 'error'. "
            "Set extra-parameters to 'pass-through' to pass to the model."
        )


class ExtraParametersOptionUnknown(BadRequest):
    """The extra-parameters header holds a value that is no mode."""

    code = "Bad Request"

    def __init__(self, option: str) -> None:
        super().__init__(
            f"Unexpected EXTRA_PARAMETERS option {excerpt(option)}, "
            "expected options are ['error', 'drop', 'pass-through']"
        )


class ModelNotNamed(BadRequest):
    """No `model`, and the operator set no default deployment."""

    code = "no_model_name"

    def __init__(self) -> None:
        super().__init__(
            "No model specified in request. Please provide a model name in the request body "
            "or as a x-ms-model-mesh-model-name header."
        )


class OperationNotSupported(BadRequest):
    """The deployment exists, but its model does something else."""

    code = "OperationNotSupported"

    def __init__(self, operation: Operation, deployment: str) -> None:
        self.operation = operation
        super().__init__(
            f"The {operation.azure_word} operation does not work with the specified model, {deployment}. "
            "Please choose different model and try again. You can learn more about which models can be used with "
            "each operation here: https://go.microsoft.com/fwlink/?linkid=2197993."
        )


class ContentFiltered(BadRequest):
    """The prompt was blocked; `results` are the verdicts per category, in wire spelling."""

    code = "content_filter"

    def __init__(self, results: Mapping[str, Any] | None = None) -> None:
        self.results = results or {}
        super().__init__(
            "The response was filtered due to the prompt triggering Microsoft's content management policy. "
            "Please modify your prompt and retry.",
            target="prompt",
        )


class UpstreamRefused(BadRequest):
    """The upstream called the request bad (400): repeated with its code and message."""


class Unauthenticated(ModelportError):
    """No credential, or none that is valid."""

    status = 401
    code = "401"

    def __init__(
        self,
        message: str = (
            "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key "
            "for an active subscription and use a correct regional API endpoint for your resource."
        ),
        *,
        reason: str = "unknown_key",
    ) -> None:
        self.reason = reason
        self.authorization_uri: str | None = None
        """Where a client gets a token, for `WWW-Authenticate`; None: nowhere."""
        super().__init__(message)


class TooManyFailures(ModelportError):
    """An address has shown too many credentials that are not valid. Known keys and tokens are accepted from it."""

    status = 429
    code = "TooManyFailedAttempts"
    reason = "throttled"

    def __init__(self, seconds: int, unlogged: int | None = 0) -> None:
        """`unlogged`: how many calls of this address were answered so without a line in the log, since its last line;
        None: this one has none either."""
        self.is_logged = unlogged is not None
        if unlogged:
            self.reason = f"throttled: {unlogged} others since the last such line"
        super().__init__(
            "Too many credentials from this address were not valid, so a credential that has not been seen before is "
            f"not looked at now. Try again in {seconds} seconds.",
            retry_after=seconds,
        )


class PermissionDenied(ModelportError):
    """We know who it is, and the role or the key's scope does not allow this."""

    status = 401
    code = "PermissionDenied"

    def __init__(self, advice: str = "") -> None:
        """`advice`: what to do about it, as sentences."""
        message = "Principal does not have access to API/Operation."
        super().__init__(f"{message} {advice}" if advice else message)


class Forbidden(ModelportError):
    """Refused by network policy."""

    status = 403
    code = "403"


class NotFound(ModelportError):
    """There is no such thing."""

    status = 404
    code = "404"


class DeploymentNotFound(NotFound):
    """No deployment that the caller may use has this name. `usable`: the names of those that it may use. The wire code
    differs by surface."""

    code = "DeploymentNotFound"

    def __init__(self, name: str, usable: Sequence[str] = ()) -> None:
        self.name = excerpt(name)
        self.help = f" Deployments that you may use: {enumerated(usable)}." if usable else ""
        super().__init__(
            "The API deployment for this resource does not exist. If you created the deployment within the last "
            f"5 minutes, please wait a moment and try again.{self.help}"
        )


class RouteNotFound(NotFound):
    """No route has this path."""

    def __init__(self, message: str = "Resource not found") -> None:
        super().__init__(message)


class MethodNotAllowed(ModelportError):
    """The route exists for other methods: `allow`."""

    status = 405
    code = "405"

    def __init__(self, allow: Sequence[str]) -> None:
        self.allow = tuple(allow)
        super().__init__("Method Not Allowed")


class RequestTimedOut(ModelportError):
    """The caller did not finish sending in time."""

    status = 408
    code = "408"

    def __init__(self, message: str = "The operation was timeout.") -> None:
        super().__init__(message)


class BodyTooLarge(ModelportError):
    """More body bytes than the limit."""

    status = 413
    code = "RequestEntityTooLarge"

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"The request body is larger than the limit of {limit_bytes} bytes.")


class UnsupportedEncoding(ModelportError):
    """A compressed body."""

    status = 415
    code = "UnsupportedMediaType"

    def __init__(self, encoding: str) -> None:
        super().__init__(f"The Content-Encoding {excerpt(encoding)!r} is not supported; send the body uncompressed.")


class HeadersTooLarge(ModelportError):
    """More header bytes or fields than the limit."""

    status = 431
    code = "431"


class InvalidParameters(ModelportError):
    """Known parameters that this model cannot take, or values out of bounds: all of them, not the first only."""

    status = 422

    def __init__(self, offences: Sequence[Offence]) -> None:
        self.offences = tuple(offences)
        missing = all(offence.type == "missing" for offence in self.offences)
        super().__init__(
            "One of the parameters contain invalid values.",
            code="Invalid input" if missing else "parameter_not_supported",
            target=self.offences[0].parameter if self.offences else None,
        )


class InternalError(ModelportError):
    """Our own fault. Nothing of the cause is told."""

    def __init__(self) -> None:
        super().__init__(
            "The server had an error processing your request. Sorry about that! You can retry your request."
        )


class CategoriesNotJudged(ModelportError):
    """No content filter that is open here judges these categories: a severity of 0 would not be true. 501 is repeated
    by no client."""

    status = 501
    code = "NotImplemented"

    def __init__(self, categories: Sequence[str]) -> None:
        super().__init__(
            f"No filter that is open here judges {', '.join(categories)}. Install the classifier (pip install "
            "'modelport[local]') and let a deployment have a content filter with `filters: [classifier]`, or ask for "
            "blocklists alone, with `categories: []`.",
            target="categories",
        )


class EngineFailed(ModelportError):
    """The model that runs here broke or refused; the gateway is fine."""


class Unavailable(ModelportError):
    """Not now: loading, saturated or draining."""

    status = 503
    code = "ServiceUnavailable"

    def __init__(self, message: str, *, code: str | None = None, retry_after: int = 1) -> None:
        super().__init__(message, code=code, retry_after=max(1, retry_after))


class UpstreamFailed(Unavailable):
    """An upstream could not be reached, or answered what cannot be an answer. Answered as 503: azure-core and
    JS clients retry that, and never a 502."""


class CredentialRefused(UpstreamFailed):
    """The upstream complained about the gateway's own credential. What it said is for the operator's log alone."""

    def __init__(self, status: int, words: str, *, retry_after: int = 1) -> None:
        self.upstream_status = status
        self.upstream_words = words
        super().__init__("The upstream did not accept the gateway's own credential.", retry_after=retry_after)


class UpstreamTimedOut(ModelportError):
    """The model was slower than the deployment's time-outs allow."""

    status = 504
    code = "Timeout"


class UpstreamGivenUp(UpstreamTimedOut):
    """The gateway has stopped waiting for a model that it has asked, and that may have worked until then."""
