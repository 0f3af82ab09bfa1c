"""One request to an upstream, under way: its bytes, its deadlines, and who waits for the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from modelport.core.catalog import Timeouts
from modelport.core.errors import ModelportError
from modelport.upstream.reply_head import RawHeaders

NEVER: Final = float("inf")


class Receiver(Protocol):
    """Who waits for an answer. None of these may raise."""

    def answer_began(self, status: int, headers: Callable[[], RawHeaders]) -> None:
        """`headers` must be called at once or not at all: nearly nobody needs them."""

    def answer_grew(self, data: bytes) -> None:
        """What one read of the socket held of the body."""

    def answer_ended(self) -> None: ...

    def answer_whole(self, body: bytes) -> None:
        """A 200, all at once: instead of `answer_began`, `answer_grew` and `answer_ended`."""

    def answer_failed(self, error: ModelportError) -> None:
        """Instead of any of the others; nothing comes after it."""


class HasLoop(Protocol):
    """wire.Pool, as far as a request needs it."""

    loop: asyncio.AbstractEventLoop


class Socket(Protocol):
    """wire_connection.Connection, as far as a request needs it."""

    transport: asyncio.Transport

    def drop(self) -> None:
        """Closes at once, without a word to the receiver."""
        ...


class Exchange:
    """One request under way. Its maker sets all of it (`wire.Pool.send`)."""

    __slots__ = (
        "body",
        "connecting",
        "connection",
        "deadline",
        "first_seconds",
        "head",
        "is_paused",
        "is_queued",
        "left_bytes",
        "paused_at",
        "pool",
        "receiver",
        "timeouts",
        "whole_deadline",
    )

    pool: HasLoop
    head: bytes
    body: bytes
    timeouts: Timeouts
    deadline: float
    whole_deadline: float
    first_seconds: float
    is_queued: bool
    """The target has not begun yet: the head of its answer will say so."""
    paused_at: float
    receiver: Receiver | None
    connection: Socket | None
    connecting: asyncio.Task[None] | None
    is_paused: bool
    left_bytes: float
    """How much of its answer may still come."""

    def starts(self, now: float) -> None:
        """The request goes out. While it is queued, nothing but the queue has a time."""
        if self.is_queued:
            self.deadline = self.whole_deadline = now + self.timeouts.queue
        else:
            self.whole_deadline = now + self.timeouts.whole
            self.deadline = min(now + self.first_seconds, self.whole_deadline)

    def leaves_queue(self, now: float) -> None:
        """The target begins, so its times do."""
        self.is_queued = False
        self.starts(now)
        if self.is_paused:
            self.deadline, self.paused_at = NEVER, now

    def abort(self) -> None:
        """Nobody waits any more. The connection closes, which is how the upstream learns it."""
        self.receiver = None
        if self.connection is not None:
            self.connection.drop()
        elif self.connecting is not None:
            self.connecting.cancel()

    def pause(self) -> None:
        """The receiver cannot take more now. Its own pace is not the upstream's, so nothing is late meanwhile."""
        self.is_paused = True
        if self.connection is not None:
            if not self.is_queued and self.deadline != NEVER:
                self.deadline, self.paused_at = NEVER, self.pool.loop.time()
            self.connection.transport.pause_reading()

    def resume(self) -> None:
        """The receiver can again."""
        self.is_paused = False
        if self.connection is not None:
            now = self.pool.loop.time()
            if self.deadline == NEVER:
                self.whole_deadline += now - self.paused_at
            self.moved(now)
            self.connection.transport.resume_reading()

    def moved(self, now: float) -> None:
        """Something came: the next has its time from now."""
        if self.is_queued:
            self.deadline = self.whole_deadline
        elif not self.is_paused:
            self.deadline = min(now + self.timeouts.between_events, self.whole_deadline)

    def failed(self, error: ModelportError) -> None:
        """Tells the receiver, if it still waits."""
        self.connecting = None
        receiver, self.receiver = self.receiver, None
        if receiver is not None:
            receiver.answer_failed(error)
