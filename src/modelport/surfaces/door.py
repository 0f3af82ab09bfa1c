"""What a surface is made of: how it words refusals, how it speaks each operation, and which paths lead to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Literal, Protocol

from msgspec import Struct

from modelport.core.answers import AnswerHead
from modelport.core.errors import ModelportError
from modelport.core.events import Event, ExtraFields
from modelport.core.operations import Operation
from modelport.core.requests import Request
from modelport.dialects.body import check_counts
from modelport.dialects.error_body import ErrorBody
from modelport.dialects.plain_chat import PlainChat
from modelport.dialects.reasoning import ReasoningPlace
from modelport.gateway.call import Selector
from modelport.gateway.fold import WholeAnswer
from modelport.surfaces.asgi import Reply
from modelport.surfaces.exchange import Exchange
from modelport.surfaces.headers import RequestHead
from modelport.surfaces.options import Limits

Permission = Literal["public", "credential", "administrator", "operation"]
"""`public`: anyone. `credential`: whoever is known. `administrator`: whoever has that role. `operation`: whoever may do
this there; the way itself asks."""

Parameters = Mapping[str, str]
"""The names in a path's places, decoded."""


class StreamWriter(Protocol):
    """Makes one answer's server-sent events."""

    def feed(self, events: Sequence[Event]) -> bytes: ...

    def text_frame(self, extra: ExtraFields | None) -> tuple[bytes, bytes] | None:
        """What a text of the first choice with these further fields stands in, if nothing else is due before it."""
        ...

    def end(self) -> bytes: ...

    def broken(self, error: ModelportError) -> bytes: ...


class Speech(Struct, frozen=True, kw_only=True):
    """One operation in a surface's dialect."""

    decode: Callable[[bytes, int], Request]
    """Body and greatest nesting → request."""
    whole: Callable[[AnswerHead, Request, WholeAnswer, ReasoningPlace], bytes]
    """Writes the folded answer as one JSON object."""
    stream: Callable[[AnswerHead, Request, ReasoningPlace], StreamWriter] | None = None
    """None: this operation is never streamed."""
    new_id: Callable[[], str]
    plain: Callable[[bytes], PlainChat | None] | None = None
    """Reads a chat that is as nearly all are; None: not this operation, or not this body."""

    def read(self, body: bytes, limits: Limits) -> Request:
        """The request. Raises MalformedBody before any decoding if the body holds more than the limits allow."""
        check_counts(body, limits.json_containers)
        return self.decode(body, limits.json_depth)


class Door(Struct, frozen=True, kw_only=True):
    """One surface, in one of its forms."""

    surface: str
    """Its package's name."""
    refuse: Callable[[ModelportError, RequestHead, Operation | None], ErrorBody]


class Inference(Struct, frozen=True, kw_only=True):
    """An endpoint that makes a Call."""

    operation: Operation
    speech: Callable[[], Speech]
    """Asked for once a call."""
    selector: Callable[[RequestHead, Parameters], Selector]
    reasoning: Callable[[str | None], ReasoningPlace]
    """By api-version."""
    checks_extras: bool
    needs_api_version_when_strict: bool = False


def always(speech: Speech) -> Callable[[], Speech]:
    """For what keeps nothing from one call to the next."""
    return lambda: speech


class Route(Struct, frozen=True, kw_only=True):
    """One method on one path. `{name}` in the path stands for one segment."""

    method: Literal["GET", "POST"]
    path: str
    permission: Permission | None = None
    """None is no permission: such a route does not start."""
    base: str | None = None
    """The path of the base URL that clients are given for this route; None: it is not one to recommend."""
    door: Door
    endpoint: Inference | Callable[[Exchange], Reply | Awaitable[Reply]]
