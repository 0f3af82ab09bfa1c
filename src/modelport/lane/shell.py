"""The shell of a call: what gateway/machine.py asks of the connection that the call came by."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from modelport.core.catalog import Deployment, Target, Timeouts
from modelport.core.ports.providers import OpeningProvider, Provider, UpstreamRequest
from modelport.core.requests import Request
from modelport.gateway.call import Asking, Cancellable, Receiver, Written
from modelport.lane.connection import HttpConnection
from modelport.lane.lane import Lane, Serving
from modelport.upstream import pushing


class ShellConnection(HttpConnection):
    """A connection with a call, perhaps."""

    lane: Lane | None = None
    now: Callable[[], float]
    """gateway.call.Shell: the loop's clock"""
    when_written: Callable[[Written], None]
    """gateway.call.Shell"""
    ask: Callable[[Provider, UpstreamRequest, Timeouts, Receiver], Asking]
    """gateway.call.Shell"""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._call: Serving | None = None
        self.now = self.loop.time
        if self.lane is not None:
            self.when_written, self.ask = self.lane.when_written, self.lane.ask

    def is_blocked(self) -> bool:
        """gateway.call.Shell"""
        return self.flow.write_paused

    def write_lines(self) -> None:
        """gateway.call.Shell"""
        assert self.lane is not None
        self.lane.write_lines()

    def make(
        self, provider: OpeningProvider, request: Request, deployment: Deployment, target: Target, receiver: Receiver
    ) -> Asking:
        """gateway.call.Shell"""
        return pushing.made(provider, request, deployment, target, receiver)

    def wait(self, resume: Callable[[], Awaitable[Any]], done: Callable[[Any, Exception | None], None]) -> Cancellable:
        """gateway.call.Shell"""
        return self.loop.create_task(awaited(resume, done))

    def later(self, seconds: float, step: Callable[[], None]) -> Cancellable:
        """gateway.call.Shell"""
        return self.loop.call_later(seconds, step)

    def call_over(self, reply: object) -> None:
        """gateway.call.Shell"""
        self._call = None
        if self.cycle is reply:
            self.cycle = None  # type: ignore[assignment]
        self.on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._call is not None:
            self._call.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._call is not None:
            self._call.resume()

    def end_call(self) -> None:
        """lane.Connection"""
        if self._call is not None:
            self._call.end_now()


async def awaited(resume: Callable[[], Awaitable[Any]], done: Callable[[Any, Exception | None], None]) -> None:
    """Tells what came of it, in a task that cannot fail."""
    try:
        value = await resume()
    except Exception as error:  # noqa: BLE001 - whatever it is, it ends the call and not this task
        done(None, error)
    else:
        done(value, None)
