"""What a worker asks of the library that runs its weights, and the one error type that such a library may raise.

A backend is a module `modelport.engine.backends.<name>` with `async def open(options: Options) -> Backend`. It runs
alone in a worker process; it speaks the OpenAI dialect as plain JSON-shaped dictionaries, and knows no HTTP and no
gateway.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final, Literal, Protocol, runtime_checkable

from modelport.core.excerpts import excerpt

_MESSAGE_CHARACTERS: Final = 1000
"""A message may quote what the caller sent."""

JsonObject = dict[str, Any]
"""A JSON object as the OpenAI dialect has it; the dialect's own shapes are its documentation."""

Operation = Literal["chat", "completions", "embeddings", "image_embeddings"]


request_begins: Final[ContextVar[Callable[[], None]]] = ContextVar("request_begins", default=lambda: None)
"""What a backend calls when a request has a slot, or a place in a batch, and so waits no more. Called again, it does
nothing. The gateway's time-outs of an answer begin there."""


class WorkerError(Exception):
    """A refusal or failure with the answer that the caller gets: `{"error": {message, type, param, code}}`."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message[:_MESSAGE_CHARACTERS]
        self.param = param if param is None else excerpt(param)
        self.retry_after_seconds = retry_after_seconds

    def body(self) -> JsonObject:
        """The OpenAI error object."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    @classmethod
    def invalid(cls, param: str, message: str) -> WorkerError:
        """A value outside its type or bounds (422)."""
        return cls(422, "invalid_value", message, param=param)

    @classmethod
    def unsupported(cls, param: str, message: str) -> WorkerError:
        """A parameter that this model or this engine cannot honour (422): refused, never ignored."""
        return cls(422, "parameter_not_supported", message, param=param)

    @classmethod
    def failed(cls, message: str = "The engine failed while answering.") -> WorkerError:
        """The engine broke; the message says no more than its caller may know."""
        return cls(500, "engine_failed", message)

    @classmethod
    def queue_full(cls, retry_after_seconds: int) -> WorkerError:
        """Nothing was started: the bounded queue has no place."""
        return cls(
            503,
            "queue_full",
            "The model's queue is full; try again later.",
            retry_after_seconds=retry_after_seconds,
        )


class Backend(Protocol):
    """Weights that are loaded and answer.

    The worker calls only the methods named in `operations`; the others may raise `NotImplementedError`. Requests are
    OpenAI bodies, already parsed from JSON and otherwise unchecked: the backend validates every field that it reads,
    before it allocates anything. It refuses with `WorkerError`; any other exception becomes an `engine_failed` (500)
    without its text.
    """

    operations: frozenset[Operation]

    def chat(self, request: JsonObject) -> AsyncIterator[JsonObject]:
        """`chat.completion.chunk` objects, the last one `{"choices": [], "usage": {...}}`, asked for or not.

        Refusals are raised before the first chunk. Cancelling the consumer (or closing the iterator) stops the work
        within a token. Called for streamed and whole answers alike; the worker folds the latter.
        """
        ...

    def completions(self, request: JsonObject) -> AsyncIterator[JsonObject]:
        """As `chat`, with `text_completion` objects."""
        ...

    async def embeddings(self, request: JsonObject) -> JsonObject:
        """The answer to `POST /v1/embeddings`, vectors as lists of numbers or as `encoding_format` asks."""
        ...

    async def image_embeddings(self, request: JsonObject) -> JsonObject:
        """The answer to `POST /v1/images/embeddings` (`input: [{"image": data-url, "text"?}]`), as `embeddings`."""
        ...

    async def tokenize(self, request: JsonObject) -> JsonObject:
        """`{"count": n}` for `{"text": ...}`, `{"texts": [...]}` (sum) or, on chat models, `{"messages": [...]}`."""
        ...

    def facts(self) -> JsonObject:
        """What the model is: `context_length`, `slots`, `dimensions` … constant after opening."""
        ...

    def load(self) -> JsonObject:
        """What it is doing now: at least `busy_slots` and `queue_length`; counters since the start may follow."""
        ...

    async def close(self) -> None:
        """Frees what it holds. Called once, when nothing is being answered."""
        ...


@runtime_checkable
class SafetyBackend(Protocol):
    """A backend that can judge texts (`{"texts": [...]}`) and a picture for the safety filters, too."""

    async def safety_scores(self, request: JsonObject) -> JsonObject:
        """`{"version": ..., "heads": [names], "scores": [[a score for each head] for each text]}`, 0 to 1."""
        ...

    async def attack_scores(self, request: JsonObject) -> JsonObject:
        """`{"scores": [...]}`: how sure a second model is, 0 to 1, that each text is a prompt attack."""
        ...

    async def image_score(self, request: JsonObject) -> JsonObject:
        """`{"score": ...}`: how sure a model is, 0 to 1, that `{"image": data-url}` is sexual; null: undecodable."""
        ...


Options = Mapping[str, Any]
"""A backend's own options, from the worker's option file: at least `weights`, the path of the file to load."""
