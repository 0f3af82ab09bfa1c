"""Browsers: which origins may read our answers, and what they are told before they ask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from modelport.surfaces.asgi import Headers, Reply
from modelport.surfaces.headers import RequestHead

PREFLIGHT_SECONDS: Final = 600
EXPOSED: Final = (
    b"x-request-id, apim-request-id, x-ms-client-request-id, x-ms-error-code, x-ms-region, retry-after, "
    b"retry-after-ms, x-modelport-dropped-parameters, x-modelport-snapshot, x-ratelimit-limit-requests, "
    b"x-ratelimit-remaining-requests, x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens"
)


def answer_headers(head: RequestHead, origins: Sequence[str]) -> Headers:
    """What an answer says to the page that asked. Never a wildcard unless the operator wrote one."""
    if not origins:
        return []
    allowed = _allowed(head, origins)
    vary: Headers = [] if "*" in origins else [(b"vary", b"Origin")]
    if allowed is None:
        return vary
    return [(b"access-control-allow-origin", allowed), (b"access-control-expose-headers", EXPOSED), *vary]


def preflight(head: RequestHead, origins: Sequence[str], allow: Sequence[str]) -> Reply:
    """The answer to OPTIONS on a path that exists for the methods `allow`. The origin's own header comes with
    `answer_headers`."""
    methods = ", ".join([*allow, "OPTIONS"]).encode()
    headers: Headers = [(b"allow", methods)]
    if _allowed(head, origins) is not None and b"access-control-request-method" in head.headers:
        headers.append((b"access-control-allow-methods", methods))
        asked = head.headers.get(b"access-control-request-headers")
        if asked:
            headers.append((b"access-control-allow-headers", asked))
        headers.append((b"access-control-max-age", b"%d" % PREFLIGHT_SECONDS))
    return Reply(b"", status=204, content_type=None, headers=tuple(headers))


def _allowed(head: RequestHead, origins: Sequence[str]) -> bytes | None:
    origin = head.headers.get(b"origin")
    if origin is None:
        return None
    if "*" in origins:
        return b"*"
    return origin if origin.decode("latin-1") in origins else None
