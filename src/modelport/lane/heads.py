"""The head of a whole answer as a form: all that is the same for the answers of one plan is written once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from modelport.core.quota import QuotaState
from modelport.gateway.call import Origin
from modelport.surfaces import cors
from modelport.surfaces.answer import answer_headers
from modelport.surfaces.asgi import JSON, Headers
from modelport.surfaces.headers import RequestHead, common_headers

BEGIN: Final = b"HTTP/1.1 200 OK\r\n"
IDS: Final = b"x-request-id: %b\r\napim-request-id: %b\r\nx-ms-client-request-id: %b\r\n"
CLOSES: Final = b"connection: close\r\n"


class AnswerHeads(Struct, frozen=True):
    """Heads of answers: (id, id, the caller's id, the numbers of the quota that are not its limits, length)."""

    fields: Headers
    """uvicorn's own, as long as it has the same."""
    kept: bytes | None
    """None: no connection is kept now."""
    closing: bytes

    @classmethod
    def of(
        cls,
        head: RequestHead,
        origin: Origin,
        fields: Headers,
        said: bytes,
        closes: bool,
        region: bytes,
        origins: Sequence[str],
    ) -> AnswerHeads:
        """`said`, `closes`: lane.Lane.default_headers of these fields; `origins`: whose pages may read answers."""
        quota = origin.quota
        named = answer_headers(Origin(QuotaState(), origin.deployment, origin.snapshot))
        form = said.replace(b"%", b"%%")
        form = BEGIN + form + IDS + fixed([*common_headers(head, region)[3:], (b"content-type", JSON)])
        for limit, kind in ((quota.limit_requests, b"requests"), (quota.limit_tokens, b"tokens")):
            if limit is not None:
                form += b"x-ratelimit-limit-%b: %d\r\n" % (kind, limit)
                form += b"x-ratelimit-remaining-%b: %%d\r\nx-ratelimit-reset-%b: %%d\r\n" % (kind, kind)
        form += fixed(named) + b"content-length: %d\r\n" + fixed(cors.answer_headers(head, origins))
        return cls(fields, None if closes else form + b"\r\n", form + (b"\r\n" if closes else CLOSES + b"\r\n"))


def fixed(fields: Headers) -> bytes:
    """Lines that stand in a form as they are."""
    return b"".join(b"%b: %b\r\n" % field for field in fields).replace(b"%", b"%%")


def numbers(quota: QuotaState) -> tuple[int, ...]:
    """What quota_headers says of it, but for the limits."""
    reset, tokens_reset = quota.reset_seconds, quota.reset_tokens_seconds
    of_requests = () if quota.limit_requests is None else (max(0, quota.remaining_requests or 0), max(0, reset))
    if quota.limit_tokens is None:
        return of_requests
    seconds = reset if tokens_reset is None else tokens_reset
    return *of_requests, max(0, quota.remaining_tokens or 0), max(0, seconds)
