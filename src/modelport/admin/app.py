"""Finds the endpoint, asks for what it demands, and words every failure: the control plane over HTTP, without a server.
It runs where the store is; other processes relay requests to it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from urllib.parse import unquote

from msgspec import structs

from modelport.admin.endpoint import NEVER_STORED, AdminRequest, Answer, Endpoint
from modelport.admin.errors import encode
from modelport.core.errors import (
    InternalError,
    MethodNotAllowed,
    ModelportError,
    PermissionDenied,
    RouteNotFound,
    Unauthenticated,
)
from modelport.core.faults import frames
from modelport.core.roles import Permission
from modelport.dialects.error_body import ErrorBody

Refuse = Callable[[ModelportError, AdminRequest], ErrorBody]
"""How an API words refusals."""

_logger = logging.getLogger("modelport.admin")


class AdminApp:
    """A table of endpoints, each with the permission that it demands."""

    def __init__(self, endpoints: Sequence[Endpoint], refusals: Mapping[str, Refuse] | None = None) -> None:
        """`refusals`: by the first segment of a path, in lower case; others are worded as `/admin/v1` does. Raises
        UndeclaredPermission."""
        self._refusals = refusals or {}
        self._endpoints = [(endpoint, endpoint.path.split("/")[1:]) for endpoint in declared(endpoints)]

    @property
    def endpoints(self) -> Iterator[Endpoint]:
        """All there are."""
        return (endpoint for endpoint, _ in self._endpoints)

    async def __call__(self, request: AdminRequest) -> Answer:
        """Never raises."""
        try:
            answer = await self._answered(request, self._found(request.path))
        except ModelportError as error:
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
