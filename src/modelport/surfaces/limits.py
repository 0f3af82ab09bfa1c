"""Reading a request's body: not more than allowed, not slower than allowed, and never after the client has gone."""

from __future__ import annotations

import asyncio
from typing import Final

from modelport.core.errors import BodyTooLarge, RequestTimedOut
from modelport.surfaces.asgi import Receive
from modelport.surfaces.headers import RequestHead
from modelport.surfaces.options import Limits

UNREAD_BYTES_SWALLOWED: Final = 1024 * 1024
"""An announced rest of this size is left to the server, which reads and drops it after our answer."""
DISCARDED_BYTES: Final = 64 * 1024 * 1024
DISCARD_SECONDS: Final = 5.0


class Body:
    """One request's body. Read once; what was not read can be discarded."""

    def __init__(self, receive: Receive, head: RequestHead, limits: Limits) -> None:
        self._receive = receive
        self._limits = limits
        self._announced = head.content_length
        self._expects_continue = head.expects_continue
        self._chunked = b"transfer-encoding" in head.headers
        self.complete = self._announced in (None, 0) and not self._chunked
        """Nothing is left to read."""
        self.client_gone = False

    async def read(self) -> bytes:
        """All of it. Raises BodyTooLarge, RequestTimedOut, and CancelledError when the client hangs up meanwhile."""
        limits = self._limits
        if self._announced is not None and self._announced > limits.body_bytes:
            raise BodyTooLarge(limits.body_bytes)
        loop = asyncio.get_running_loop()
        end = loop.time() + limits.request_seconds
        pieces: list[bytes] = []
        size = 0
        while not self.complete:
            try:
                async with asyncio.timeout_at(min(end, loop.time() + limits.idle_seconds)):
                    piece = await self._next()
            except TimeoutError:
                raise RequestTimedOut from None
            size += len(piece)
            if size > limits.body_bytes:
                raise BodyTooLarge(limits.body_bytes)
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def discard(self) -> bool:
        """Makes way for an answer to an unread body: a client that is still sending would otherwise see its connection
        reset before it has read why. False: too much is left, the connection must end after the answer."""
        if self.complete:
            return True
        if self._expects_continue:
            return False
        if self._announced is not None and self._announced <= UNREAD_BYTES_SWALLOWED:
            return True
        discarded = 0
        try:
            async with asyncio.timeout(DISCARD_SECONDS):
                while not self.complete and discarded <= DISCARDED_BYTES:
                    discarded += len(await self._next())
        except TimeoutError:
            return False
        return self.complete

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.client_gone = True
            # Work for someone who is not there ends as cancelled work does.
            raise asyncio.CancelledError
        self.complete = not message.get("more_body", False)
        piece: bytes = message.get("body", b"")
        return piece
