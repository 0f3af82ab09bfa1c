"""The engine as a provider: a worker speaks the OpenAI dialect over its unix socket, so the way is the same as for any
upstream. Only readiness, and what its errors mean, differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

import msgspec

from modelport.core.answers import PlainAnswer
from modelport.core.catalog import Target
from modelport.core.errors import ModelportError, Unavailable
from modelport.core.ports.providers import Address, Codec, Decoder, UpstreamRequest
from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.core.requests import ChatRequest, CompletionsRequest, Request
from modelport.dialects.openai_chat.upstream import UpstreamCodec, UpstreamFacts
from modelport.engine.supervisor import EngineUnavailableError, WorkerAddress, WorkerSpec, WorkerState

State = Literal["ready", "loading", "restarting", "failed", "unloaded"]
LOADING_RETRY_SECONDS = 2
HEEDED_EXTRAS = frozenset(
    [
        "n",
        "best_of",
        "logprobs",
        "top_logprobs",
        "logit_bias",
        "max_completion_tokens",
        "min_tokens",
        "stop_token_ids",
        "ignore_eos",
        "skip_special_tokens",
        "include_stop_str_in_output",
        "use_beam_search",
        "parallel_tool_calls",
        "safe_prompt",
        "safe_mode",
        "top_k",
        "min_p",
        "typical_p",
        "repetition_penalty",
        "repeat_penalty",
    ]
)
"""Extras that the workers carry out, or refuse."""


class EngineWorker(Protocol):
    """A worker, supervised by this process (`supervisor.Worker`) or by another."""

    spec: WorkerSpec
    state: WorkerState
    reason: str
    address: WorkerAddress | None

    async def ready(self, timeout_seconds: float | None = None) -> WorkerAddress:
        """The address, once the model can answer; loads it if need be. Raises EngineUnavailableError."""
        ...


class EngineProvider(Codec):
    """One worker, seen from the way."""

    def __init__(self, worker: EngineWorker) -> None:
        self.worker = worker
        self._codec = UpstreamCodec(engine=True)
        self._codec_in_pieces = UpstreamCodec(UpstreamFacts(asks_running_usage=True), engine=True)

    @property
    def address(self) -> Address:
        """Where the worker listens now. Ask after `readiness`."""
        found = self.worker.address
        socket = str(found.socket_path) if found is not None else ""
        return Address(base_url="http://engine/v1", unix_socket=socket)

    @property
    def state(self) -> State:
        state: Any = self.worker.state.value
        return state  # type: ignore[no-any-return]

    @property
    def reason(self) -> str | None:
        """Why it is not ready, in one line."""
        return self.worker.reason or None

    def readiness(self) -> Refusal | NeedsWaiting[None] | None:
        """Ready; or it loads, and is waited for; or 503 with the time after which asking again makes sense."""
        state = self.worker.state
        if state in (WorkerState.FAILED, WorkerState.RESTARTING):
            return Refusal(self._unavailable(state))
        return None if state is WorkerState.READY and self.worker.address is not None else NeedsWaiting(self._loaded)

    async def _loaded(self) -> Refusal | None:
        try:
            await self.worker.ready()
        except EngineUnavailableError as error:
            return Refusal(Unavailable(str(error), code="NoCapacity", retry_after=LOADING_RETRY_SECONDS))
        return None

    def _unavailable(self, state: WorkerState) -> Unavailable:
        name = self.worker.spec.name
        if state is WorkerState.FAILED:
            text = f"The model {name!r} could not be loaded."
        else:
            text = f"The model {name!r} is {state.value}; try again in a moment."
        return Unavailable(text, code="NoCapacity", retry_after=LOADING_RETRY_SECONDS)

    def encode(self, request: Request, target: Target) -> UpstreamRequest:
        """core.ports.providers.Provider"""
        found = self.worker.address
        if found is None:
            raise self._unavailable(self.worker.state)
        if can_come_in_pieces(request):
            # The caller gets it whole; what has been made until then is known all the same.
            upstream = self._codec_in_pieces.encode(msgspec.structs.replace(request, stream=True), target)
            upstream = msgspec.structs.replace(upstream, streamed=False, in_pieces=True)
        else:
            upstream = self._codec.encode(request, target)
        return msgspec.structs.replace(
            upstream, headers=(*upstream.headers, ("authorization", f"Bearer {found.secret}")), queued=True
        )

    def ignored(self, request: Request) -> tuple[str, ...]:
        """core.ports.providers.Codec: the worker refuses those that would change an answer."""
        return (*self._codec.ignored(request), *(name for name in request.extra if name not in HEEDED_EXTRAS))

    def decoder(self, request: Request) -> Decoder:
        """core.ports.providers.Provider"""
        return self._codec.decoder(request)

    def whole_answer(self, body: bytes) -> PlainAnswer | None:
        """core.ports.providers.Codec"""
        return self._codec.whole_answer(body)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ModelportError:
        """core.ports.providers.Provider"""
        return self._codec.failure(status, headers, body)


def can_come_in_pieces(request: Request) -> bool:
    """Whether a worker can stream the answer to a request for a whole one: not where it chooses among several."""
    if request.stream or not isinstance(request, ChatRequest | CompletionsRequest):
        return False
    chosen = isinstance(request, CompletionsRequest) and request.best_of is not None
    return not (chosen or request.extra.get("best_of") or request.extra.get("use_beam_search"))
