"""An error as it goes on the wire: what every dialect's `errors.encode` returns."""

from __future__ import annotations

from msgspec import Struct


class ErrorBody(Struct, frozen=True):
    """`code` is the value of `x-ms-error-code`: ASCII, one line. `headers` holds that header, and whatever else this
    error needs (`retry-after`, `allow`, `x-ratelimit-type` …), names in lower case; `body` is always JSON."""

    status: int
    code: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
