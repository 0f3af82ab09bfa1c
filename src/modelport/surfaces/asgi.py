"""The server protocol's own words, and the smallest answer there is: a Reply, written at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from msgspec import Struct

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

JSON = b"application/json"
TEXT = b"text/plain; charset=utf-8"
HTML = b"text/html; charset=utf-8"
EVENT_STREAM = b"text/event-stream; charset=utf-8"


class Reply(Struct, frozen=True):
    """A whole answer that needs no pipeline. `headers` come on top of those that every response has."""

    body: bytes
    status: int = 200
    content_type: bytes | None = JSON
    """None: there is no body, not even an empty one (204)."""
    headers: tuple[tuple[bytes, bytes], ...] = ()
