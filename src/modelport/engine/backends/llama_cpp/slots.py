"""The bounded queue in front of the engine's slots; the engine itself would queue without limit and in no order."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager

from modelport.engine.backend import WorkerError

_RETRY_AFTER_LIMIT_SECONDS = 60


class SlotQueue:
    """`slots` places to generate in, `capacity` places to wait in, both in order of arrival.

    Prompts are read one at a time, also in order of arrival, so that first tokens come in that order: the engine
    would fill its batches by slot number, and a long prompt in a low slot would hold up everyone after it.
    """

    def __init__(self, slots: int, capacity: int) -> None:
        self.slots = slots
        self.capacity = capacity
        self.busy = 0
        self._admitted = 0
        self._free = asyncio.Semaphore(slots)  # wakes its waiters first in, first out
        self._prompt_turn = asyncio.Lock()  # so does this
        self._usual_seconds = 1.0

    @property
    def waiting(self) -> int:
        """How many are admitted and have no slot yet."""
        return self._admitted - self.busy

    @contextmanager
    def admit(self, generations: int, begins: Callable[[], None] = lambda: None) -> Iterator[Admission]:
        """Room for so many generations, or `queue_full`. Nothing is waited for here; `begins` is called with each slot
        that one of them gets."""
        if self._admitted + generations > self.slots + self.capacity:
            raise WorkerError.queue_full(self._retry_after_seconds())
        self._admitted += generations
        admission = Admission(self, generations, begins)
        try:
            yield admission
        finally:
            self._admitted -= admission.generations

    @asynccontextmanager
    async def occupy(self, admission: Admission) -> AsyncIterator[None]:
        """One slot, in turn, for one of the admitted generations."""
        async with self._free:
            started = time.monotonic()
            self.busy += 1
            try:
                admission.begins()
                yield
            finally:
                self.busy -= 1
                self._admitted -= 1
                admission.generations -= 1
                self._usual_seconds += 0.2 * (time.monotonic() - started - self._usual_seconds)

    async def take_prompt_turn(self) -> PromptTurn:
        """Waits until it is this slot's turn to have its prompt read."""
        await self._prompt_turn.acquire()
        return PromptTurn(self._prompt_turn)

    def _retry_after_seconds(self) -> int:
        wait_seconds = self._usual_seconds * (self.waiting + 1) / self.slots
        return max(1, min(_RETRY_AFTER_LIMIT_SECONDS, math.ceil(wait_seconds)))


class Admission:
    """What one request may still start: `generations` that have a place in the queue or a slot."""

    def __init__(self, queue: SlotQueue, generations: int, begins: Callable[[], None]) -> None:
        self._queue = queue
        self.generations = generations
        self.begins = begins

    def slot(self) -> AbstractAsyncContextManager[None]:
        """A slot for one of them, once its turn comes."""
        return self._queue.occupy(self)


class PromptTurn:
    """The right to have a prompt read, given back once."""

    def __init__(self, lock: asyncio.Lock) -> None:
        self._lock: asyncio.Lock | None = lock

    def end(self) -> None:
        """Lets the next one read its prompt; further calls do nothing."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None
