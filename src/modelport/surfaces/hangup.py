"""Client gone = work stopped: listens for the hang-up while an answer is made, and cancels the task that makes it."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from modelport.surfaces.asgi import Receive


class Hangup:
    """Around the handling of one request. A cancellation that it caused ends here; others pass."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._listener: asyncio.Task[None] | None = None
        self._answering: asyncio.Task[object] | None = None
        self._is_over = False
        self.client_gone = False

    async def __aenter__(self) -> Self:
        self._answering = asyncio.current_task()
        return self

    def listen(self) -> None:
        """From now on. The body has been read: all that can still come is the hang-up."""
        self._listener = asyncio.create_task(self._listen())

    def over(self) -> None:
        """The answer is as good as written: a hang-up (or the server saying that it is done) changes nothing more."""
        self._is_over = True

    async def _listen(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if self._is_over or self._answering is None:
            return
        self.client_gone = True
        self._answering.cancel()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self._is_over = True
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.wait({self._listener})
        if not self.client_gone or self._answering is None:
            return False
        self._answering.uncancel()
        return isinstance(error, asyncio.CancelledError)
