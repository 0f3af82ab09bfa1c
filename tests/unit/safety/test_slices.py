"""Work in slices: when it is done at once, what is done in a thread, and what becomes of errors."""

from __future__ import annotations

import asyncio
import threading

import pytest

from modelport.core.ports.stages import NeedsWaiting, passed
from modelport.safety import slices
from modelport.safety.slices import Steps, at_once, in_thread


def counting(steps: int) -> Steps[int]:
    for _ in range(steps):
        yield None
    return steps


def thread_of_a_job() -> Steps[tuple[str, str]]:
    name = yield lambda: threading.current_thread().name
    return name, threading.current_thread().name


def failing() -> Steps[None]:
    yield lambda: int("x")


def test_what_takes_little_time_is_done_at_once() -> None:
    assert at_once(counting(1)) == 1


async def test_what_takes_more_leaves_the_loop_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "SLICE_SECONDS", 0)
    outcome = at_once(counting(50))
    assert isinstance(outcome, NeedsWaiting)
    task = asyncio.ensure_future(outcome.resume())
    turns = 0
    while not task.done():
        turns += 1
        await asyncio.sleep(0)
    assert (passed(await task), turns >= 40) == (50, True)


async def test_a_job_is_done_in_a_thread() -> None:
    outcome = at_once(thread_of_a_job())
    assert isinstance(outcome, NeedsWaiting)
    name, own = passed(await outcome.resume())
    assert name != own == threading.current_thread().name


async def test_jobs_of_one_turn_share_a_thread_and_fail_alone() -> None:
    names = [in_thread(lambda: threading.current_thread().name) for _ in range(5)]
    outcomes = await asyncio.gather(*names, in_thread(lambda: int("x")), return_exceptions=True)
    assert len(set(outcomes[:5])) == 1
    assert isinstance(outcomes[5], ValueError)


async def test_an_error_of_a_job_is_raised_where_it_is_awaited() -> None:
    outcome = at_once(failing())
    assert isinstance(outcome, NeedsWaiting)
    with pytest.raises(ValueError, match="invalid literal"):
        await outcome.resume()


async def test_a_caller_that_leaves_does_not_hold_the_others_up() -> None:
    gone, kept = (asyncio.ensure_future(in_thread(lambda: 1)) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    assert await kept == 1
