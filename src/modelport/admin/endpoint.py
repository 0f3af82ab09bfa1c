"""What one endpoint is made of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct

from modelport.core.errors import MalformedBody
from modelport.core.identity import Principal
from modelport.core.ports.control import UNAUTHENTICATED, Actor
from modelport.core.roles import Permission

JSON = b"application/json"
CSV = b"text/csv; charset=utf-8"
MOST_LEVELS = 40
"""As in the configuration file."""
NEVER_STORED = (b"cache-control", b"no-store")

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


class AdminRequest(Struct, frozen=True, kw_only=True):
    """One request, as it also goes to the owner over its socket: everything but the credential."""

    method: str
    path: str
    """As sent, still percent-encoded."""
    query: dict[str, str] = {}
    headers: dict[str, str] = {}
    """Lower-case names, without those that hold a credential."""
    body: bytes = b""
    scheme: str = "http"
    source: str | None = None
    """The caller's address."""
    local_address: str | None = None
    """The address of this server that the connection came in at; None on a unix socket."""
    principal: Principal | None = None
    """None: no valid credential was shown."""

    @property
    def actor(self) -> Actor:
        """For the audit."""
        if self.principal is None:
            return Actor(UNAUTHENTICATED, None, self.source)
        return Actor(self.principal.name, self.principal.key_id, self.source)

    def json(self) -> dict[str, Any]:
        """The body. Raises MalformedBody."""
        try:
            found = msgspec.json.decode(self.body, type=dict[str, Any])
        except (msgspec.MsgspecError, RecursionError):
            raise MalformedBody("The body is not a JSON object.") from None
        if is_deeper(found, MOST_LEVELS):
            raise MalformedBody(f"The body is nested deeper than {MOST_LEVELS} levels.")
        return found


class Answer(Struct, frozen=True):
    """A whole answer."""

    body: bytes
    content_type: bytes | None = JSON
    """None: there is no body (204)."""
    headers: tuple[tuple[bytes, bytes], ...] = (NEVER_STORED,)
    status: int = 200


class Described(Struct, frozen=True, kw_only=True):
    """One method on one path, for the OpenAPI document. `{name}` stands for a segment."""

    method: Method
    path: str
    summary: str = ""
    """What it does; empty: it is not part of the document."""
    takes: str | None = None
    """The schema of the request's body, by its name in the document."""
    gives: Mapping[int, str | None] = msgspec.field(default_factory=lambda: {200: None})
    """The schema of the answer by status; None: the answer has no schema, or no body (204)."""
    query: tuple[str, ...] = ()
    """Names of the parameters that it reads."""
    is_conditional: bool = False
    """Whether it reads `If-Match` and `If-None-Match`."""


class Endpoint(Described, frozen=True, kw_only=True):
    """The same with its answer. What stands in the places of the path is in `parameters`, decoded. `answer` raises
    ModelportError."""

    answer: Callable[[AdminRequest, Mapping[str, str]], Awaitable[Answer]]
    permission: Permission | Literal["public"]
    """What a caller needs. An object's own scope is asked by the control plane (control/access.py)."""
    is_case_sensitive: bool = True
    """False: the fixed segments of the path are found whatever their case."""


def is_deeper(value: Any, levels: int) -> bool:
    """Whether objects and lists are nested more than so deep."""
    level = [value]
    for _ in range(levels):
        level = [
            item
            for found in level
            for item in (found.values() if isinstance(found, dict) else found)
            if isinstance(item, dict | list)
        ]
        if not level:
            return False
    return True


def json_answer(value: Any, status: int = 200, *headers: tuple[bytes, bytes]) -> Answer:
    """A JSON document."""
    return Answer(msgspec.json.encode(value), headers=(NEVER_STORED, *headers), status=status)
