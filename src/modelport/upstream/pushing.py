"""What a coroutine makes, told to a receiver as upstream/wire.py tells it: for what the wire cannot reach, and for
providers that make their events themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Protocol

from modelport.core.catalog import Deployment, Target, Timeouts
from modelport.core.errors import UpstreamGivenUp
from modelport.core.events import Event
from modelport.core.ports.providers import Address, OpeningProvider, Transport, UpstreamRequest
from modelport.core.requests import Request
from modelport.upstream.reply_head import RawHeaders

Steps = AsyncGenerator[Callable[[], None], None]


class Receiver(Protocol):
    """gateway.call.Receiver"""

    def answer_began(self, status: int, headers: Callable[[], RawHeaders]) -> None: ...

    def answer_grew(self, data: bytes) -> None: ...

    def events_made(self, events: list[Event]) -> None: ...

    def answer_ended(self) -> None: ...

    def answer_failed(self, error: Exception) -> None: ...


class Pushed:
    """One request under way, in a task of its own."""

    def __init__(self) -> None:
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._task: asyncio.Task[None] | None = None
        self.connection: object | None = self
        """Nobody can say whether the target has been reached, so it counts as reached."""

    def runs(self, receiver: Receiver, work: Callable[[], Steps]) -> None:
        """Takes each step of `work` when the one before is done and more can be taken."""
        self._task = asyncio.get_running_loop().create_task(self._run(receiver, work))

    async def _run(self, receiver: Receiver, work: Callable[[], Steps]) -> None:
        try:
            async with aclosing(work()) as steps:
                async for step in steps:
                    step()
                    await self._flowing.wait()
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends the call and not this task
            receiver.answer_failed(error)
        else:
            receiver.answer_ended()

    def abort(self) -> None:
        """gateway.call.Asking"""
        if self._task is not None:
            self._task.cancel()

    def pause(self) -> None:
        """gateway.call.Asking"""
        self._flowing.clear()

    def resume(self) -> None:
        """gateway.call.Asking"""
        self._flowing.set()


def asked(
    transport: Transport, address: Address, request: UpstreamRequest, timeouts: Timeouts, receiver: Receiver
) -> Pushed:
    """A request that a transport carries."""

    async def work() -> Steps:
        async with transport.send(address, request, timeouts) as answer:
            fields = [
                (name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in answer.headers.items()
            ]
            yield lambda: receiver.answer_began(answer.status, lambda: fields)
            async for data in answer.chunks():
                yield lambda data=data: receiver.answer_grew(data)  # type: ignore[misc]

    pushed = Pushed()
    pushed.runs(receiver, work)
    return pushed


def made(
    provider: OpeningProvider, request: Request, deployment: Deployment, target: Target, receiver: Receiver
) -> Pushed:
    """The events of a provider that makes them itself, under the deployment's time-outs."""

    async def work() -> Steps:
        async with timed_events(provider, request, deployment, target) as events:
            async for event in events:
                yield lambda event=event: receiver.events_made([event])  # type: ignore[misc]

    pushed = Pushed()
    pushed.runs(receiver, work)
    return pushed


@asynccontextmanager
async def timed_events(
    provider: OpeningProvider, request: Request, deployment: Deployment, target: Target
) -> AsyncIterator[AsyncIterator[Event]]:
    """Raises UpstreamGivenUp for an event that is late. The reader's own pace, or its wait for quota, is not the
    target's."""
    source = provider.open(request, target)
    timeouts = deployment.timeouts

    async def events() -> AsyncIterator[Event]:
        limit = timeouts.first_event
        loop = asyncio.get_running_loop()
        end = loop.time() + timeouts.whole
        while True:
            try:
                async with asyncio.timeout_at(min(loop.time() + limit, end)):
                    event = await anext(source, None)
            except TimeoutError:
                raise UpstreamGivenUp("The model did not answer in time.") from None
            if event is None:
                return
            limit = timeouts.between_events
            given_at = loop.time()
            yield event
            end += loop.time() - given_at

    try:
        yield events()
    finally:
        close = getattr(source, "aclose", None)
        if close is not None:
            await close()
