"""What one endpoint is made of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

from msgspec import Struct

JSON = b"application/json"
CSV = b"text/csv; charset=utf-8"


class Answer(Struct, frozen=True):
    """A whole answer."""

    body: bytes
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ((b"cache-control", b"no-store"),)


class Endpoint(Struct, frozen=True):
    """One method on one path below `/admin/v1`. It is given the query's names and values, and raises ModelportError."""

    method: Literal["GET"]
    path: str
    answer: Callable[[Mapping[str, str]], Awaitable[Answer]]
