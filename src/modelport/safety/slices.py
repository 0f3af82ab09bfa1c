"""Judging in slices, so that the event loop is never held for long. What takes more time goes on between other work; a
library that releases the interpreter's lock is called in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from functools import partial
from time import thread_time
from typing import Any, Final, TypeVar

from modelport.core.ports.stages import NeedsWaiting

SLICE_SECONDS: Final = 0.0003

Result = TypeVar("Result")
Job = Callable[[], Any]
Steps = Generator[Job | None, Any, Result]
"""Yields None where it may pause, and a job where it needs the job's value, which it gets back."""


def at_once(steps: Steps[Result]) -> Result | NeedsWaiting[Result]:
    """Takes the steps for one slice; the rest, if any, when the outcome is resumed. Raises what they raise."""
    end = thread_time() + SLICE_SECONDS
    try:
        while (job := next(steps)) is None:
            if thread_time() > end:
                break
    except StopIteration as done:
        result: Result = done.value
        return result
    return NeedsWaiting(partial(_go_on, steps, job))


async def _go_on(steps: Steps[Result], job: Job | None) -> Result:
    try:
        while True:
            value = None
            if job is None:
                await asyncio.sleep(0)
            else:
                value = await in_thread(job)
            end = thread_time() + SLICE_SECONDS
            job = steps.send(value)
            while job is None and thread_time() < end:
                job = next(steps)
    except StopIteration as done:
        result: Result = done.value
        return result


Queue = list[tuple[Job, "asyncio.Future[Any]"]]
_QUEUES: Final[dict[asyncio.AbstractEventLoop, Queue]] = {}
"""The jobs that each loop has been given in its present turn."""


async def in_thread(job: Job) -> Any:
    """The job's value, or what it raises. Jobs of one turn of the loop share a thread: changing to it costs more than
    most of them."""
    loop = asyncio.get_running_loop()
    queue = _QUEUES.get(loop)
    if queue is None:
        queue = _QUEUES[loop] = []
        loop.call_soon(_start, loop)
    future = loop.create_future()
    queue.append((job, future))
    return await future


def _start(loop: asyncio.AbstractEventLoop) -> None:
    queue = _QUEUES.pop(loop)
    done = loop.run_in_executor(None, _work, [job for job, _ in queue])
    done.add_done_callback(partial(_settle, [future for _, future in queue]))


def _work(jobs: list[Job]) -> list[Any]:
    outcomes: list[Any] = []
    for job in jobs:
        try:
            outcomes.append(job())
        except Exception as error:  # noqa: BLE001  the job's caller raises it
            outcomes.append(error)
    return outcomes


def _settle(futures: list[asyncio.Future[Any]], done: asyncio.Future[list[Any]]) -> None:
    if done.cancelled():
        outcomes: list[Any] = []
    else:
        outcomes = done.result()
    for index, future in enumerate(futures):
        if future.done():
            continue
        outcome = outcomes[index] if index < len(outcomes) else asyncio.CancelledError()
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
