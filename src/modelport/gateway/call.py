"""What a door hands to the way, and what it gets back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Literal

from msgspec import Struct

from modelport.core.catalog import Deployment, Snapshot
from modelport.core.errors import ModelportError
from modelport.core.events import Event
from modelport.core.identity import Credential, Principal
from modelport.core.operations import Operation
from modelport.core.quota import QuotaState
from modelport.core.requests import Request


class Selector(Struct, frozen=True):
    """How the deployment is found: by `path`, else by `header`, else (if `body_selects`) by the body's `model`."""

    path: str | None = None
    """The name in the path (`/openai/deployments/{d}`, `/deployments/{d}`): it wins over everything."""
    header: str | None = None
    """`azureml-model-deployment` on the root form; `x-ms-model-mesh-model-name` on `/models`."""
    body_selects: bool = True
    """Does the body's `model` name a deployment? Not on the root form, nor where the path does."""
    wrong_operation: Literal["400", "404"] = "400"
    """Asked for an operation that the model does not do: 404 on the root forms."""


def by_the_caller() -> ModelportError | None:
    """The usual reason of a cancellation: nobody is there to be told anything."""
    return None


class Call(Struct, frozen=True, kw_only=True):
    """One inference call as a door received it. `read` is awaited once, after the caller is known."""

    operation: Operation
    surface: str
    """The surface's package name: `azure_inference`, `azure_openai`, `openai_v1`."""
    credential: Credential
    selector: Selector
    read: Callable[[], Awaitable[bytes]]
    """Reads the whole body. Raises BodyTooLarge, RequestTimedOut."""
    decode: Callable[[bytes], Request]
    """The surface's dialect. Raises MalformedBody, InvalidParameters, ExtraParametersRefused …"""
    extra_parameters: str | None = None
    """The header's value as sent; None when absent."""
    checks_extras: bool = True
    """Whether the surface knows the extra-parameters header at all."""
    request_id: str
    client_request_id: str | None = None
    deadline: float | None = None
    """The moment of the monotonic clock at which the door gives up; None: it does not tell."""
    why_cancelled: Callable[[], ModelportError | None] = by_the_caller
    """Asked when the call is cancelled: what the caller is told then (a deadline of the door's); None: it has gone."""


class Answer(Struct, frozen=True, kw_only=True):
    """An answer that is under way. Its first event exists: a refusal would have been raised instead.

    `events` gives batches, one per read of the upstream. When it ends normally the lease is settled and journalled,
    so the door writes its last bytes after that. It raises ModelportError when the answer breaks in the middle."""

    request: Request
    deployment: Deployment
    principal: Principal
    snapshot: Snapshot
    events: AsyncIterator[list[Event]]
    dropped: tuple[str, ...] = ()
    """Parameters that `extra-parameters: drop` removed."""
    quota: QuotaState = QuotaState()
