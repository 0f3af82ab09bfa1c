"""The queue in front of the slots keeps its order and its bounds."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.engine.backend import WorkerError
from modelport.engine.backends.llama_cpp.slots import SlotQueue


async def test_slots_and_prompt_turns_are_given_in_order_of_arrival() -> None:
    queue = SlotQueue(slots=2, capacity=10)
    order: list[str] = []

    async def generate(name: str) -> None:
        with queue.admit(1) as admission:
            async with admission.slot():
                turn = await queue.take_prompt_turn()
                order.append(name)
                await asyncio.sleep(0)
                turn.end()
                turn.end()  # harmless
                await asyncio.sleep(0)

    await asyncio.gather(*(generate(name) for name in "abcdefg"))
    assert order == list("abcdefg")
    assert (queue.busy, queue.waiting) == (0, 0)


async def test_a_full_queue_refuses_and_says_when_to_come_again() -> None:
    queue = SlotQueue(slots=1, capacity=2)
    with queue.admit(3), pytest.raises(WorkerError) as raised, queue.admit(1):
        pass
    assert (raised.value.status, raised.value.code) == (503, "queue_full")
    assert raised.value.retry_after_seconds is not None
    assert raised.value.retry_after_seconds >= 1
    with queue.admit(3):
        assert queue.waiting == 3


async def test_who_gives_up_waiting_leaves_the_queue() -> None:
    queue = SlotQueue(slots=1, capacity=5)
    is_in_slot, may_end = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        with queue.admit(1) as admission:
            async with admission.slot():
                is_in_slot.set()
                await may_end.wait()

    holder = asyncio.create_task(hold())
    await is_in_slot.wait()
    waiter = asyncio.create_task(hold())
    await asyncio.sleep(0)
    assert queue.waiting == 1
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    assert queue.waiting == 0
    may_end.set()
    await holder
    assert queue.busy == 0


@given(st.integers(1, 3), st.integers(0, 4), st.lists(st.tuples(st.integers(1, 3), st.booleans()), max_size=8))
async def test_the_bounds_hold_whatever_comes_and_goes(
    slots: int, capacity: int, calls: list[tuple[int, bool]]
) -> None:
    queue = SlotQueue(slots, capacity)

    async def generate(size: int) -> None:
        with queue.admit(size) as admission:
            for _ in range(size):
                async with admission.slot():
                    assert queue.busy <= slots
                    assert queue.busy + queue.waiting <= slots + capacity
                    await asyncio.sleep(0)

    # What is drawn is drawn before: a draw may raise, and the tasks would end with exceptions that no code retrieves.
    tasks = [asyncio.create_task(generate(size)) for size, _ in calls]
    await asyncio.sleep(0)
    for task, (_, is_cancelled) in zip(tasks, calls, strict=True):
        if is_cancelled:
            task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(end is None or isinstance(end, WorkerError | asyncio.CancelledError) for end in ended)
    assert (queue.busy, queue.waiting) == (0, 0)


async def test_a_request_begins_when_it_has_its_first_slot_and_not_before():
    queue = SlotQueue(slots=1, capacity=2)
    begun: list[str] = []

    async def one(name: str) -> None:
        with queue.admit(1, lambda: begun.append(name)) as admission:
            async with admission.slot():
                await release.wait()

    release = asyncio.Event()
    tasks = [asyncio.create_task(one("first")), asyncio.create_task(one("second"))]
    await asyncio.sleep(0.01)
    assert begun == ["first"]
    release.set()
    await asyncio.gather(*tasks)
    assert begun == ["first", "second"]
