"""Finds the endpoint, asks for what it demands, and words every failure: the control plane over HTTP, without a server.
It runs where the store is; other processes relay requests to it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Final
from urllib.parse import unquote

from msgspec import structs

from modelport.admin.endpoint import NEVER_STORED, AdminRequest, Answer, Endpoint
from modelport.admin.errors import CODES, encode
from modelport.control.access import audited_name
from modelport.core.errors import (
    Forbidden,
    InternalError,
    MethodNotAllowed,
    ModelportError,
    PermissionDenied,
    RouteNotFound,
    Unauthenticated,
)
from modelport.core.faults import frames
from modelport.core.ports.control import Action, Actor
from modelport.core.roles import Permission
from modelport.dialects.error_body import ErrorBody

Refuse = Callable[[ModelportError, AdminRequest], ErrorBody]
"""How an API words refusals."""
NoteRefusal = Callable[[Actor, Action, str, str, str], Awaitable[None]]
"""Actor, action, kind and name of the object, and the refusal's code."""

BESIDE: Final = ("{subscription}", "{group}", "{account}", "{location}", "{item}")
"""Places of a path that name no object."""
ACTIONS: Final[Mapping[str, Action]] = {
    "regenerate": "regenerate_key",
    "regenerate_key": "regenerate_key",
    "regenerateKey": "regenerate_key",
    "list_keys": "list_keys",
    "listKeys": "list_keys",
    "test": "test_policy",
}
"""By the last segment of the path."""
KINDS: Final[Mapping[str, str]] = {
    "raiPolicies": "content_filters",
    "raiBlocklists": "blocklists",
    "roleAssignments": "role_assignments",
}
"""Azure's words for kinds of objects."""

_logger = logging.getLogger("modelport.admin")


class AdminApp:
    """A table of endpoints, each with the permission that it demands."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        refusals: Mapping[str, Refuse] | None = None,
        note_refusal: NoteRefusal | None = None,
    ) -> None:
        """`refusals`: by the first segment of a path, in lower case; others are worded as `/admin/v1` does.
        `note_refusal`: for the audit. Raises UndeclaredPermission."""
        self._refusals = refusals or {}
        self._note_refusal = note_refusal
        self._endpoints = [(endpoint, endpoint.path.split("/")[1:]) for endpoint in declared(endpoints)]

    @property
    def endpoints(self) -> Iterator[Endpoint]:
        """All there are."""
        return (endpoint for endpoint, _ in self._endpoints)

    async def __call__(self, request: AdminRequest) -> Answer:
        """Never raises."""
        found = self._found(request.path)
        try:
            answer = await self._answered(request, found)
        except ModelportError as error:
            await self._noted(error, request, found)
            encoded = self._refused(error, request)
            headers = tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in encoded.headers)
            answer = Answer(encoded.body, headers=(NEVER_STORED, *headers), status=encoded.status)
        except Exception as error:  # noqa: BLE001  the end of a request
            _logger.error("unhandled %s: %s\n%s", type(error).__name__, request.method, frames(error))
            encoded = self._refused(InternalError(), request)
            answer = Answer(encoded.body, headers=(NEVER_STORED,), status=encoded.status)
        return structs.replace(answer, body=b"") if request.method == "HEAD" else answer

    async def _answered(self, request: AdminRequest, found: Sequence[tuple[Endpoint, dict[str, str]]]) -> Answer:
        method = "GET" if request.method == "HEAD" else request.method
        chosen = next(((endpoint, names) for endpoint, names in found if endpoint.method == method), None)
        permission = Permission.MANAGE if chosen is None else chosen[0].permission
        if permission != "public":
            check_permission(request, permission)
        if chosen is None:
            if found:
                raise MethodNotAllowed(tuple(sorted({endpoint.method for endpoint, _ in found})))
            raise RouteNotFound
        endpoint, names = chosen
        return await endpoint.answer(request, names)

    async def _noted(
        self, error: ModelportError, request: AdminRequest, found: Sequence[tuple[Endpoint, dict[str, str]]]
    ) -> None:
        """A change that this caller may not make is an entry of the audit; what the control plane refuses, it notes
        itself."""
        chosen = next((found for found in found if found[0].method == request.method), None)
        is_ours = isinstance(error, Unauthenticated | PermissionDenied | Forbidden)
        if self._note_refusal is None or chosen is None or chosen[0].method == "GET" or not is_ours:
            return
        action, kind, name = change_of(*chosen)
        await self._note_refusal(request.actor, action, kind, audited_name(name), CODES.get(error.code, error.code))

    def _refused(self, error: ModelportError, request: AdminRequest) -> ErrorBody:
        base = request.path.lstrip("/").partition("/")[0].lower()
        refuse = self._refusals.get(base)
        return encode(error) if refuse is None else refuse(error, request)

    def _found(self, path: str) -> list[tuple[Endpoint, dict[str, str]]]:
        """Every endpoint of this path, whatever its method."""
        segments = [unquote(segment) for segment in path.split("/")[1:]]
        if segments and not segments[-1]:
            segments.pop()
        fitting = ((endpoint, fitted(endpoint, pattern, segments)) for endpoint, pattern in self._endpoints)
        return [(endpoint, names) for endpoint, names in fitting if names is not None]


class UndeclaredPermission(Exception):
    """The table is wrong: said at start, not to a caller."""


def declared(endpoints: Sequence[Endpoint]) -> Sequence[Endpoint]:
    """Default-deny. Raises UndeclaredPermission for an endpoint that does not say who may use it."""
    for endpoint in endpoints:
        if endpoint.permission not in ("public", *Permission):
            raise UndeclaredPermission(f"{endpoint.method} {endpoint.path} declares no permission")
    return endpoints


def check_permission(request: AdminRequest, permission: Permission) -> None:
    """Raises Unauthenticated, PermissionDenied."""
    if request.principal is None:
        raise Unauthenticated
    if not request.principal.may(permission):
        raise PermissionDenied(request.principal.advice)


def change_of(endpoint: Endpoint, names: Mapping[str, str]) -> tuple[Action, str, str]:
    """What a call would have done, and the kind and name of the object: the last one that the path names."""
    segments = endpoint.path.split("/")
    last = segments[-1]
    places = [n for n, segment in enumerate(segments) if segment.startswith("{") and segment not in BESIDE]
    action: Action = "delete" if endpoint.method == "DELETE" else ACTIONS.get(last, "change")
    if not places:
        return action, "account", ""
    kind = segments[places[-1] - 1]
    return action, KINDS.get(kind, kind), names[segments[places[-1]][1:-1]]


def fitted(endpoint: Endpoint, pattern: Sequence[str], segments: Sequence[str]) -> dict[str, str] | None:
    """What stands in the places of an endpoint's path; None where it is another path."""
    if len(pattern) != len(segments):
        return None
    names: dict[str, str] = {}
    for expected, found in zip(pattern, segments, strict=True):
        if expected.startswith("{"):
            names[expected[1:-1]] = found
        elif expected != found and (endpoint.is_case_sensitive or expected.lower() != found.lower()):
            return None
    return names
