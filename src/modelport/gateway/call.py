"""What a door hands to the call machine, and what the machine needs of whoever drives it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal, Protocol

from msgspec import Struct

from modelport.core.catalog import Deployment, Snapshot, Target, Timeouts
from modelport.core.errors import ModelportError
from modelport.core.events import Event
from modelport.core.identity import Credential
from modelport.core.operations import Operation
from modelport.core.ports.providers import OpeningProvider, Provider, UpstreamRequest
from modelport.core.quota import QuotaState
from modelport.core.requests import Request
from modelport.dialects.reasoning import ReasoningPlace
from modelport.gateway.codec import Speech

RawHeaders = list[tuple[bytes, bytes]]


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


class CallHead(Struct, frozen=True, kw_only=True):
    """What the head of an inference request decides, in our words."""

    operation: Operation
    surface: str
    """The surface's package name: `azure_inference`, `azure_openai`, `openai_v1`."""
    credential: Credential
    selector: Selector
    decode: Callable[[bytes], Request]
    """The surface's dialect. Raises MalformedBody, InvalidParameters, ExtraParametersRefused …"""
    speech: Speech
    """The same dialect, for the answer."""
    reasoning: ReasoningPlace
    extra_parameters: str | None = None
    """The header's value as sent; None when absent."""
    checks_extras: bool = True
    """Whether the surface knows the extra-parameters header at all."""
    explains: bool = False
    """The caller wants to know what its call would do, and nothing else."""


class Arrival(Struct, frozen=True):
    """One request, as far as its head is here."""

    id: str
    """Ours, for this request alone. It stands in JSON as it is."""
    client_request_id: str | None
    key: bytes
    """A keyed hash of all that `head` is made from: requests with the same one ask by the same head."""
    head: Callable[[], CallHead]
    request_seconds: float
    """For so long after it has come, somebody waits for its answer."""


class Origin(Struct, frozen=True):
    """What a 200 says about how it was made."""

    quota: QuotaState
    deployment: Deployment
    snapshot: Snapshot
    dropped: tuple[str, ...] = ()
    """Parameters that were not passed on."""
    load_seconds: float | None = None
    """How long the call has waited for a model to load; None: not at all."""
    kept: dict[Any, Any] = {}
    """What the door keeps for answers that are made like this one."""


class Reply(Protocol):
    """One answer's bytes on their way to the client."""

    response_started: bool
    response_complete: bool

    def whole(self, body: bytes, origin: Origin) -> None:
        """The answer as one JSON object."""
        ...

    def stream(self, origin: Origin) -> None:
        """Begins a stream."""
        ...

    def piece(self, data: bytes) -> None:
        """More of a stream; `flush` writes it."""
        ...

    def flush(self) -> None:
        """Writes the pieces."""
        ...

    def last(self, data: bytes) -> None:
        """The end of a stream."""
        ...

    def refuse(self, error: ModelportError) -> None:
        """The error in the surface's own words, instead of an answer."""
        ...

    def cut(self, last_word: bytes) -> None:
        """Breaks a stream off: an error chunk, and no end."""
        ...

    def abandoned(self) -> None:
        """Nobody is there any more."""
        ...


class Asking(Protocol):
    """One request to a target, under way."""

    @property
    def connection(self) -> object | None:
        """None: the target has not been reached."""
        ...

    def abort(self) -> None:
        """Nobody waits any more: the target's work stops."""
        ...

    def pause(self) -> None:
        """No more can be taken now."""
        ...

    def resume(self) -> None:
        """More can be taken again."""
        ...


class Cancellable(Protocol):
    """Something that is waited for."""

    def cancel(self) -> object: ...


class Written(Protocol):
    """Goes on once the journal's lines are with the kernel."""

    def written(self, failure: ModelportError | None) -> None:
        """`failure`: they are not, and what cannot be recorded is not served."""
        ...


class Receiver(Protocol):
    """What a target's answer is told to."""

    def answer_began(self, status: int, headers: Callable[[], RawHeaders]) -> None: ...

    def answer_grew(self, data: bytes) -> None:
        """What one read held of the body."""

    def events_made(self, events: list[Event]) -> None:
        """More of the answer of a provider that makes its events itself."""

    def answer_ended(self) -> None: ...

    def answer_whole(self, body: bytes) -> None:
        """A 200, all at once: instead of `answer_began`, `answer_grew` and `answer_ended`."""

    def answer_failed(self, error: Exception) -> None:
        """Instead of any of the others; nothing comes after it. What is no ModelportError is a fault of ours."""


class Shell(Protocol):
    """What drives a call: the connection that it came by (lane/shell.py)."""

    def now(self) -> float:
        """The loop's clock."""
        ...

    def is_blocked(self) -> bool:
        """Whether the client reads more slowly than we write."""
        ...

    def when_written(self, call: Written) -> None:
        """Lets the call go on when all lines of the journal that are queued by now are written."""
        ...

    def write_lines(self) -> None:
        """For a call that has failed: its lines go out if they can, else with the next ones."""
        ...

    def ask(self, provider: Provider, request: UpstreamRequest, timeouts: Timeouts, receiver: Receiver) -> Asking:
        """Sends a request to a target. The receiver hears the rest, never before this has returned."""
        ...

    def make(
        self, provider: OpeningProvider, request: Request, deployment: Deployment, target: Target, receiver: Receiver
    ) -> Asking:
        """Lets a provider make its events, likewise."""
        ...

    def wait(self, resume: Callable[[], Awaitable[Any]], done: Callable[[Any, Exception | None], None]) -> Cancellable:
        """Awaits what `resume` gives, and tells `done` of it or of the error."""
        ...

    def later(self, seconds: float, step: Callable[[], None]) -> Cancellable:
        """Takes a step after so many seconds."""
        ...

    def want_body(self) -> None:
        """The caller is known and its body still arrives: a client that waits for our word sends it now."""
        ...

    def when_read(self, step: Callable[[], None]) -> None:
        """Takes a step once the rest of the request is out of the way: an answer before that would not be read."""
        ...

    def call_over(self, reply: object) -> None:
        """The answer is written, or nobody is there to read it."""
        ...
