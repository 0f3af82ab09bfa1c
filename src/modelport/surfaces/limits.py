"""Reading a request's body: not more than allowed, not slower than allowed, and never after the client has gone."""

from __future__ import annotations

import asyncio
from typing import Final

from modelport.core.errors import BodyTooLarge, RequestTimedOut, UnsupportedEncoding
from modelport.surfaces.asgi import Receive
from modelport.surfaces.headers import RequestHead
from modelport.surfaces.options import Limits

DISCARDED_BYTES: Final = 64 * 1024 * 1024
DISCARD_SECONDS: Final = 30.0
DISCARD_IDLE_SECONDS: Final = 2.0


class Body:
    """One request's body. Read once; what was not read can be discarded."""

    def __init__(self, receive: Receive, head: RequestHead, limits: Limits) -> None:
        self._receive = receive
        self._limits = limits
        self._announced = head.content_length
        self._expects_continue = head.expects_continue
        self._encoding = head.content_encoding
        self._chunked = b"transfer-encoding" in head.headers
        self.complete = self._announced in (None, 0) and not self._chunked
        """Nothing is left to read."""
        self.client_gone = False
        self._is_late = False

    async def read(self) -> bytes:
        """All of it. Raises UnsupportedEncoding, BodyTooLarge, RequestTimedOut, and CancelledError when the client
        hangs up meanwhile."""
        limits = self._limits
        if self._encoding is not None and not self.complete:
            raise UnsupportedEncoding(self._encoding)
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
                raise self.late() from None
            size += len(piece)
            if size > limits.body_bytes:
                raise BodyTooLarge(limits.body_bytes)
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def late(self) -> RequestTimedOut:
        """The refusal of a body that took too long; the rest of it is not waited for either."""
        self._is_late = True
        return RequestTimedOut()

    async def discard(self) -> bool:
        """Makes way for an answer to an unread body: a client that is still sending would otherwise see its connection
        reset before it has read why. False: too much is left, the connection must end after the answer."""
        if self.complete:
            return True
        if self._expects_continue or self._is_late:
            return False
        discarded = 0
        loop = asyncio.get_running_loop()
        end = loop.time() + DISCARD_SECONDS
        try:
            while not self.complete and discarded <= DISCARDED_BYTES:
                async with asyncio.timeout_at(min(end, loop.time() + DISCARD_IDLE_SECONDS)):
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
