"""The adapter `ask` of the safety filters: a chat with one of this server's own deployments, without a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec

from modelport.core.catalog import Deployment, Target
from modelport.core.errors import ModelportError
from modelport.core.identity import Credential
from modelport.core.operations import Operation
from modelport.core.ports.providers import OpeningProvider
from modelport.core.ports.safety import FilterOutageError
from modelport.core.requests import Request
from modelport.dialects import fresh_ids
from modelport.gateway.call import Arrival, Asking, CallHead, Cancellable, Origin, Receiver, Selector
from modelport.gateway.internal import InternalCall
from modelport.lane.lane import Lane
from modelport.lane.shell import awaited
from modelport.surfaces.openai_speech import SPEECHES
from modelport.upstream import pushing

SURFACE: Final = "content_filter"


class InternalAsk:
    """core.ports.safety.Ask"""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    async def __call__(self, deployment: str, body: Mapping[str, Any], timeout_seconds: float) -> Mapping[str, Any]:
        reply = InternalReply()
        arrival = Arrival(fresh_ids.uuid(), None, b"", lambda: self._head(deployment), timeout_seconds)
        call = InternalCall(self._lane.gateway, InternalShell(self._lane), reply, arrival)
        call.begin_with(msgspec.json.encode({**body, "model": deployment}))
        try:
            async with asyncio.timeout(timeout_seconds):
                content = await reply.content
        except ModelportError as error:
            raise FilterOutageError(f"the deployment {deployment!r} answered {error.status} {error.code}") from error
        except TimeoutError as error:
            raise FilterOutageError(f"the deployment {deployment!r} has not answered in time") from error
        finally:
            call.client_gone()  # nothing, where it is over
        answer: Mapping[str, Any] = msgspec.json.decode(content)
        return answer

    def _head(self, deployment: str) -> CallHead:
        speech, limits = SPEECHES[Operation.CHAT_COMPLETIONS], self._lane.options.limits
        return CallHead(
            operation=Operation.CHAT_COMPLETIONS,
            surface=SURFACE,
            credential=Credential(),
            selector=Selector(path=deployment),
            decode=speech.reader(limits.json_containers, limits.json_depth),
            speech=speech,
            reasoning="field",
            checks_extras=False,
        )


class InternalReply:
    """gateway.call.Reply: a future instead of a client."""

    def __init__(self) -> None:
        self.content: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.response_started = self.response_complete = False

    def whole(self, body: bytes, origin: Origin) -> None:
        self.response_started = self.response_complete = True
        if not self.content.done():
            self.content.set_result(body)

    def refuse(self, error: ModelportError) -> None:
        self.response_started = self.response_complete = True
        if not self.content.done():
            self.content.set_exception(error)

    def abandoned(self) -> None:
        self.response_complete = True

    def stream(self, origin: Origin) -> None:
        raise NotImplementedError

    def piece(self, data: bytes) -> None:
        raise NotImplementedError

    def flush(self) -> None: ...

    def last(self, data: bytes) -> None:
        raise NotImplementedError

    def cut(self, last_word: bytes) -> None:
        raise NotImplementedError


class InternalShell:
    """gateway.call.Shell"""

    def __init__(self, lane: Lane) -> None:
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time
        self.when_written, self.write_lines, self.ask = lane.when_written, lane.write_lines, lane.ask

    def is_blocked(self) -> bool:
        return False

    def make(
        self, provider: OpeningProvider, request: Request, deployment: Deployment, target: Target, receiver: Receiver
    ) -> Asking:
        return pushing.made(provider, request, deployment, target, receiver)

    def wait(self, resume: Callable[[], Awaitable[Any]], done: Callable[[Any, Exception | None], None]) -> Cancellable:
        return self._loop.create_task(awaited(resume, done))

    def later(self, seconds: float, step: Callable[[], None]) -> Cancellable:
        return self._loop.call_later(seconds, step)

    def want_body(self) -> None: ...

    def when_read(self, step: Callable[[], None]) -> None:
        step()

    def call_over(self, reply: object) -> None: ...
