"""What a surface is made of: how it words refusals, how it speaks each operation, and which paths lead to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

from msgspec import Struct

from modelport.core.errors import ModelportError
from modelport.core.identity import Audience
from modelport.core.operations import Operation
from modelport.core.roles import Permission
from modelport.dialects.error_body import ErrorBody
from modelport.dialects.reasoning import ReasoningPlace
from modelport.gateway.call import Selector
from modelport.gateway.codec import Speech
from modelport.surfaces.asgi import Reply
from modelport.surfaces.exchange import Exchange
from modelport.surfaces.headers import RequestHead

Access = Permission | Literal["public", "endpoint"]
"""What a caller needs. `public`: nothing. `endpoint`: a subtree whose own table of endpoints asks (admin/app.py).
`Permission.INFER` is asked by the way itself, which knows the deployment."""

Parameters = Mapping[str, str]
"""The names in a path's places, decoded."""


class Door(Struct, frozen=True, kw_only=True):
    """One surface, in one of its forms."""

    surface: str
    """Its package's name."""
    refuse: Callable[[ModelportError, RequestHead, Operation | None], ErrorBody]


class Inference(Struct, frozen=True, kw_only=True):
    """An endpoint that makes a Call."""

    operation: Operation
    speech: Callable[[], Speech]
    is_shared: bool = True
    """Whether calls can share one speech; if not, each call asks for its own."""
    selector: Callable[[RequestHead, Parameters], Selector]
    reasoning: Callable[[str | None], ReasoningPlace]
    """By api-version."""
    checks_extras: bool
    needs_api_version_when_strict: bool = False


class Recorded(Struct, frozen=True, kw_only=True):
    """An endpoint that asks no deployment, and leaves the record of a call by itself; it asks for the permission, too,
    so that refusals are recorded."""

    answer: Callable[[Exchange], Awaitable[Reply]]


def always(speech: Speech) -> Callable[[], Speech]:
    """For what keeps nothing from one call to the next."""
    return lambda: speech


class Route(Struct, frozen=True, kw_only=True):
    """One method on one path. `{name}` in the path stands for one segment, `{*}` at its end for all that follow."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    permission: Access | None = None
    """None is no permission: such a route does not start."""
    audience: Audience = "inference"
    """What tokens have to be issued for here."""
    base: str | None = None
    """The path of the base URL that clients are given for this route; None: it is not one to recommend."""
    door: Door
    endpoint: Inference | Recorded | Callable[[Exchange], Reply | Awaitable[Reply]]
