"""An OpenAI-shaped upstream's errors as ours: refusals keep the upstream's words, its own troubles keep none."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import msgspec
from msgspec import Struct

from modelport.core.errors import (
    ContentFiltered,
    CredentialRefused,
    EngineFailed,
    InvalidParameters,
    MalformedBody,
    ModelportError,
    Offence,
    Unavailable,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamTimedOut,
)
from modelport.core.limit_errors import ContextLengthExceeded, RateLimited
from modelport.dialects.body import check_depth
from modelport.dialects.openai_chat.upstream_json import read_json, whole_characters

MESSAGE_LENGTH_LIMIT: Final = 1_000
RETRY_AFTER_LIMIT_SECONDS: Final = 300
ERROR_DEPTH: Final = 64
_OFFENCES_LIMIT: Final = 50
_CONTEXT_CODES: Final = frozenset({"context_length_exceeded", "exceed_context_size_error", "tokens_limit_reached"})
_CONTEXT_WORDS: Final = re.compile(
    r"context (length|window|size)|maximum context|prompt is too long|too (long|large) for model", re.IGNORECASE
)
_FILTER_CODES: Final = frozenset({"content_filter", "content_policy_violation", "responsibleaipolicyviolation"})
_CREDENTIAL_CODES: Final = frozenset(
    {
        "invalid_api_key",
        "invalid_authentication",
        "authentication_error",
        "authenticationerror",
        "invalid_authentication_error",
        "api_key_invalid",
        "unauthenticated",
        "unauthorized",
    }
)
_CREDENTIAL_WORDS: Final = re.compile(
    r"""(?ix)
      ^\W*(?:error:\s*)?(?:the\s|your\s|an?\s)?
      (?:incorrect|invalid|wrong|missing|unknown|expired|revoked|malformed|no)\s(?:or\s\w+\s)?
      (?:x-)?(?:api|access|auth|bearer|subscription|authentication|authorization)
      [\s_-]?(?:key|token|header|credentials?)\b
    | (?:api|subscription)[\s_-]?key\s(?:you\sprovided\s|provided\s)?(?:is\s|was\s)?
      (?:not\svalid|invalid|incorrect|wrong|expired|missing|not\sfound|disabled|revoked)\b
    | did\s?n.t\sprovide\san\sapi\skey | invalid\ssubscription\skey
    | ^\W*(?:authentication\sfailed|unauthorized|invalid\s(?:token|credentials?)\W*$)
    """
)
_STATUS_OF_WORD: Final = {
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "invalid_request_error": 400,
    "badrequesterror": 400,
    "overloaded_error": 503,
    "service_unavailable": 503,
    "queue_full": 503,
    "timeout": 504,
}


class Stated(Struct, frozen=True):
    """What an error body says."""

    message: str = ""
    code: str | None = None
    kind: str | None = None
    """`type`"""
    param: str | None = None
    filter_results: Mapping[str, Any] | None = None
    offences: tuple[Offence, ...] = ()

    @property
    def words(self) -> frozenset[str]:
        """Code and type, for comparing."""
        return frozenset(word.lower() for word in (self.code, self.kind) if word)


def failure(status: int, headers: Mapping[str, str], body: bytes, *, engine: bool = False) -> ModelportError:
    """Our error for an upstream's answer with this status. `engine`: it is a worker of ours, and the model broke."""
    return _failure(status, headers, _stated(_decoded(body)), engine)


def failure_in_stream(chunk: dict[str, Any], *, engine: bool = False) -> ModelportError:
    """Our error for an error object that came inside a 200 answer."""
    stated = _stated(whole_characters(chunk))
    return _failure(_implied_status(chunk, stated), {}, stated, engine)


def broken(message: str, engine: bool) -> ModelportError:
    """The answer cannot be one, or ends too early."""
    return EngineFailed(message) if engine else UpstreamFailed(message)


def _failure(status: int, headers: Mapping[str, str], stated: Stated, engine: bool) -> ModelportError:
    retry_after = retry_after_seconds(headers)
    if not engine and (status in (401, 403, 407) or _is_about_credential(stated)):
        return CredentialRefused(status, stated.message or stated.code or "", retry_after=retry_after)
    if status in (400, 413, 422):
        return _refusal(status, stated)
    if status in (408, 504):
        return UpstreamTimedOut("The model did not answer in time.")
    if engine:
        return _engine_failure(status, stated, retry_after)
    match status:
        case 429:
            return RateLimited("upstream", None, retry_after)
        case 404:
            what = "The upstream does not know the model or path that this deployment names."
        case _ if status < 400:
            what = "The upstream sent the request elsewhere."
        case _:
            what = f"The upstream failed with status {status}."
    return UpstreamFailed(what, retry_after=retry_after)


def _is_about_credential(stated: Stated) -> bool:
    """A caller is known before an upstream is asked, so a credential that it does not accept is the gateway's."""
    return bool(stated.words & _CREDENTIAL_CODES) or _CREDENTIAL_WORDS.search(stated.message) is not None


def _refusal(status: int, stated: Stated) -> ModelportError:
    if stated.words & _CONTEXT_CODES or _CONTEXT_WORDS.search(stated.message):
        return ContextLengthExceeded(stated.message or "The request does not fit the model's context.")
    if stated.words & _FILTER_CODES or stated.filter_results is not None:
        return ContentFiltered(stated.filter_results)
    if status == 413:
        return UpstreamRefused(stated.message or "The request is too large.", code="RequestEntityTooLarge")
    if status == 422 and stated.offences:
        return InvalidParameters(stated.offences)
    listed = "; ".join(f"{offence.parameter}: {offence.msg}" for offence in stated.offences)
    message = stated.message or listed[:MESSAGE_LENGTH_LIMIT] or "The upstream called the request invalid."
    if status == 422 and stated.param:
        kind = stated.code or "parameter_not_supported"
        return InvalidParameters([Offence(kind, ("body", *_place(stated.param)), message, None)])
    refused = UpstreamRefused(message, code=stated.code)
    refused.target = stated.param
    return refused


def _engine_failure(status: int, stated: Stated, retry_after: int) -> ModelportError:
    if status in (429, 503):
        code = "NoCapacity" if "queue_full" in stated.words else None
        return Unavailable(stated.message or "The model is not available now.", code=code, retry_after=retry_after)
    return EngineFailed("The model failed while answering.")


def retry_after_seconds(headers: Mapping[str, str]) -> int:
    """Whole seconds from `retry-after-ms` or `retry-after` (a number or a date), at least 1 and at most five minutes:
    clients obey it. 1 where neither can be read."""
    seconds = _number(headers.get("retry-after-ms"))
    if seconds is not None:
        seconds /= 1000
    elif (value := headers.get("retry-after")) is not None:
        seconds = _number(value)
        if seconds is None:
            seconds = _seconds_until(value, headers.get("date"))
    return math.ceil(min(max(1.0, seconds or 1.0), RETRY_AFTER_LIMIT_SECONDS))


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return None if math.isnan(number) else number


def _seconds_until(value: str, date: str | None) -> float | None:
    """Until that HTTP date, by the upstream's clock where it shows it, for that one may differ from ours."""
    then = _moment(value)
    now = _moment(date or "") or datetime.now(UTC)
    return None if then is None else (then - now).total_seconds()


def _moment(value: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _decoded(body: bytes) -> Any:
    try:
        check_depth(body, ERROR_DEPTH)  # what was wrong is repeated
        value, is_strict = read_json(body)
        return value if is_strict else whole_characters(value)
    except (ValueError, RecursionError, MalformedBody):
        return None


def _stated(body: Any) -> Stated:
    if isinstance(body, list) and body:
        body = body[0]
    if not isinstance(body, dict):
        return Stated()
    error = body.get("error")
    if isinstance(error, str):
        return Stated(message=_clean(error), code=_word(body.get("code")), kind=_word(body.get("type")))
    source = error if isinstance(error, dict) else body
    message = _unwrapped(source.get("message"))
    told = message if isinstance(message, dict) else source
    details = (told.get("detail"), source.get("detail"), body.get("detail"), source.get("details"), body.get("details"))
    text = _clean(message) or _clean(told.get("message")) or _clean(told.get("detail"))
    inner = source.get("innererror") if isinstance(source.get("innererror"), dict) else {}
    assert isinstance(inner, dict)
    results = inner.get("content_filter_result")
    return Stated(
        message=text,
        code=_word(source.get("code")),
        kind=_word(source.get("type")),
        param=_clean(source.get("param")) or None,
        filter_results=results if isinstance(results, dict) else None,
        offences=next((found for detail in details if (found := _offences(detail, text))), ()),
    )


def _unwrapped(message: Any) -> Any:
    """Some put the JSON of what they mean into the message."""
    if isinstance(message, str) and message.lstrip().startswith("{"):
        try:
            return msgspec.json.decode(message)
        except (msgspec.DecodeError, RecursionError):
            return message
    return message


def _offences(detail: Any, message: str) -> tuple[Offence, ...]:
    """FastAPI's list of `{type, loc, msg, input}`; Azure's object, or list, of `{loc | target, msg | message}`."""
    found = []
    for item in (detail if isinstance(detail, list) else [detail])[:_OFFENCES_LIMIT]:
        loc = _loc(item) if isinstance(item, dict) else ()
        if loc:
            kind = _clean(item.get("type")) or _word(item.get("code")) or "parameter_not_supported"
            msg = _clean(item.get("msg")) or _clean(item.get("message")) or message
            found.append(Offence(kind, loc, msg, item.get("input")))
    return tuple(found)


def _loc(item: dict[str, Any]) -> tuple[str, ...]:
    loc = item.get("loc")
    if isinstance(loc, list):
        return tuple(_clean(str(part)) for part in loc)
    for name in (loc, item.get("target"), item.get("param"), item.get("field")):
        if place := _place(_clean(name)) if name else []:
            return tuple(place) if place[0] == "body" else ("body", *place)
    return ()


def _implied_status(chunk: dict[str, Any], stated: Stated) -> int:
    for source in (chunk.get("error"), chunk):
        fields = source if isinstance(source, dict) else {}
        for name in ("code", "status", "status_code"):
            value = fields.get(name)
            if isinstance(value, str) and value.isascii() and value.isdigit():
                value = int(value)
            if isinstance(value, int) and 400 <= value <= 599:
                return value
    if stated.words & (_CONTEXT_CODES | _FILTER_CODES):
        return 400
    return next((_STATUS_OF_WORD[word] for word in sorted(stated.words) if word in _STATUS_OF_WORD), 500)


def _place(param: str) -> list[str]:
    """`messages[0].content` is `messages`, `0`, `content`."""
    return re.findall(r"[^.\[\]]+", param) or ([param] if param else [])


def _word(value: Any) -> str | None:
    """A code that is a word; numbers repeat the status and say nothing."""
    text = _clean(value)
    return None if not text or text.isdigit() else text


def _clean(value: Any) -> str:
    if not isinstance(value, str):
        return ""
    printable = "".join(char if char.isprintable() else " " for char in value[:MESSAGE_LENGTH_LIMIT])
    return printable.strip()
