"""An error as it goes on the wire, and the parts of it that are the same on every surface."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from modelport.core.errors import InvalidParameters, MethodNotAllowed, ModelportError, Offence

_MESSAGE_LIMIT = 8192
_INPUT_LIMIT_BYTES = 4096
_SHOWN_CHARACTERS = 256
_OFFENCES_LIMIT = 100
_CODE_LIMIT = 128


class ErrorBody(Struct, frozen=True):
    """`code` is the value of `x-ms-error-code`: ASCII, one line. `headers` holds that header, and whatever else this
    error needs (`retry-after`, `allow`, `x-ratelimit-type` …), names in lower case; `body` is always JSON."""

    status: int
    code: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


def error_body(
    error: ModelportError, payload: Mapping[str, Any], *, status: int | None = None, headers: Mapping[str, str] | None
) -> ErrorBody:
    """`payload` on the wire. Its `error.code` is the header's too."""
    status = status or error.status
    code = payload["error"]["code"]
    sent = {"x-ms-error-code": code, **(headers or {})}
    # azure-core repeats any refused request that carries retry-after: only these two may.
    if error.retry_after is not None and status in (429, 503):
        sent["retry-after"] = str(max(1, error.retry_after))
    if isinstance(error, MethodNotAllowed):
        sent["allow"] = ", ".join(error.allow)
    return ErrorBody(status, code, msgspec.json.encode(payload, enc_hook=str), tuple(sent.items()))


def wire_code(code: str) -> str:
    """A code that can be a header's value: an upstream's may be anything."""
    return "".join(c if " " <= c <= "~" else "_" for c in code[:_CODE_LIMIT]).strip() or "Unknown"


def wire_message(message: str) -> str:
    """A message of bounded length: some repeat what the caller sent."""
    if len(message) > _MESSAGE_LIMIT:
        message = message[:_MESSAGE_LIMIT] + "…"
    # A path or a header may hold halves of characters.
    return message if message.isascii() else message.encode("utf-8", "replace").decode()


def plain(code: str, message: str, **more: Any) -> dict[str, Any]:
    """The default shape, with further keys inside `error`."""
    return {"error": {"code": wire_code(code), "message": wire_message(message), **more}}


def invalid_parameters(error: InvalidParameters) -> dict[str, Any]:
    """The 422 of every surface: readers of either published shape find theirs."""
    code, message = wire_code(error.code), wire_message(error.message)
    offences = error.offences[:_OFFENCES_LIMIT]
    return {
        "error": {
            "code": code,
            "message": message,
            "status": 422,
            "type": "invalid_request_error",
            "param": error.target,
            "details": [
                {"code": offence.type, "target": offence.parameter, "message": wire_message(offence.msg)}
                for offence in offences
            ],
        },
        "status": 422,
        "code": code,
        "message": message,
        "detail": [_detail(offence) for offence in offences],
    }


def _detail(offence: Offence) -> dict[str, Any]:
    return {
        "type": offence.type,
        "loc": [str(place)[:_SHOWN_CHARACTERS] for place in offence.loc],
        "msg": wire_message(offence.msg),
        "input": _shown(offence.input),
    }


def _shown(value: Any) -> Any:
    """The value itself, or its beginning as text when it is long (an image, a conversation)."""
    if isinstance(value, str) and len(value) > _INPUT_LIMIT_BYTES:
        return value[:_SHOWN_CHARACTERS] + "…"
    encoded = msgspec.json.encode(value, enc_hook=str)
    if len(encoded) <= _INPUT_LIMIT_BYTES:
        return msgspec.Raw(encoded)
    text = value if isinstance(value, str) else encoded[: 4 * _SHOWN_CHARACTERS].decode("utf-8", "ignore")
    return text[:_SHOWN_CHARACTERS] + "…"
