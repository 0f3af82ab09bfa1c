"""Gathers the inputs of concurrent requests into batches for one model, fairly; refuses what would queue too long."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from modelport.engine.backend import WorkerError, request_begins

Vectors = npt.NDArray[np.float32]
Item = TypeVar("Item")


class _Job(Generic[Item]):
    """One request's inputs: which are still to do, and the vectors made so far."""

    def __init__(self, items: Sequence[Item], size: Callable[[Item], int]) -> None:
        self.items = items
        # The longest first: neighbours in a batch are of like length, so little is spent on padding.
        self.order = collections.deque(sorted(range(len(items)), key=lambda index: -size(items[index])))
        self.vectors: list[Vectors | None] = [None] * len(items)
        self.missing = len(items)
        self.begins = request_begins.get()
        self.answer: asyncio.Future[Vectors] = asyncio.get_running_loop().create_future()

    def put(self, index: int, vector: Vectors) -> None:
        self.vectors[index] = vector
        self.missing -= 1
        if self.missing == 0 and not self.answer.done():
            self.answer.set_result(np.stack([vector for vector in self.vectors if vector is not None]))


class Batcher(Generic[Item]):
    """Runs `run` over batches in a thread of its own, one batch at a time, taking from every waiting request in turn.

    A batch holds at most `batch_items` inputs, and at most `batch_size` when its largest input's size counts for all.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Vectors],
        size: Callable[[Item], int],
        *,
        batch_items: int,
        batch_size: int,
        waiting_requests: int,
        waiting_items: int,
    ) -> None:
        self._run, self._size = run, size
        self._batch_items, self._batch_size = batch_items, batch_size
        self._waiting_requests, self._waiting_items = waiting_requests, waiting_items
        self._jobs: collections.deque[_Job[Item]] = collections.deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="inference")
        self._loop_task: asyncio.Task[None] | None = None
        self.batches = 0
        self.busy = False

    @property
    def waiting(self) -> int:
        """Requests that have inputs which no batch has taken yet."""
        return len(self._jobs)

    async def submit(self, items: Sequence[Item]) -> Vectors:
        """The vectors of `items`, in their order. Cancelling takes what is not yet running out of the queue."""
        self._require_room(len(items))
        job = _Job(items, self._size)
        self._jobs.append(job)
        if self._loop_task is None or self._loop_task.done():
            self._loop_task = asyncio.create_task(self._work())
        try:
            return await job.answer
        finally:
            if job in self._jobs:
                self._jobs.remove(job)

    async def close(self) -> None:
        """Ends the thread after the batch that is running; what waits is refused."""
        if self._loop_task is not None:
            self._loop_task.cancel()
            await asyncio.gather(self._loop_task, return_exceptions=True)
        for job in self._jobs:
            job.answer.cancel()
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _require_room(self, count: int) -> None:
        waiting_items = sum(len(job.order) for job in self._jobs)
        if self._jobs and (len(self._jobs) >= self._waiting_requests or waiting_items + count > self._waiting_items):
            raise WorkerError.queue_full(1)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._jobs:
            batch = self._next_batch()
            self.busy = True
            for job in {id(job): job for job, _ in batch}.values():
                job.begins()
            try:
                vectors = await loop.run_in_executor(self._thread, self._run, [job.items[at] for job, at in batch])
            except Exception as error:  # noqa: BLE001  whatever broke, only the requests of this batch fail
                self._fail({id(job): job for job, _ in batch}.values(), error)
                continue
            finally:
                self.busy = False
                self.batches += 1
            for (job, at), vector in zip(batch, vectors, strict=True):
                job.put(at, vector)

    def _next_batch(self) -> list[tuple[_Job[Item], int]]:
        """One input from each waiting request in turn until the batch is full."""
        batch: list[tuple[_Job[Item], int]] = []
        largest = 0
        while self._jobs and len(batch) < self._batch_items:
            job = self._jobs[0]
            largest = max(largest, self._size(job.items[job.order[0]]))
            if batch and largest * (len(batch) + 1) > self._batch_size:
                break
            batch.append((job, job.order.popleft()))
            self._jobs.rotate(-1)
            if not job.order:
                self._jobs.remove(job)
        return batch

    def _fail(self, jobs: Iterable[_Job[Item]], error: Exception) -> None:
        for job in jobs:
            if job in self._jobs:
                self._jobs.remove(job)
            if not job.answer.done():
                job.answer.set_exception(error)
