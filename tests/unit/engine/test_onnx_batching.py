"""Batches across requests: order, fairness, bounds, cancelling, failures."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.engine.backend import WorkerError, request_begins
from modelport.engine.onnx.batching import Batcher, Vectors


class Model:
    """Stands for a model: a number's vector is itself. Waits before each batch until it is let go."""

    def __init__(self, *, held: bool = False) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Semaphore(0 if held else 1_000_000)
        self.entered = threading.Semaphore(0)

    def run(self, items: Sequence[int]) -> Vectors:
        self.batches.append(list(items))
        self.entered.release()
        self.gate.acquire()
        if 13 in items:
            raise ValueError("13")
        return np.array([[item] for item in items], dtype=np.float32)

    def batcher(self, **bounds: int) -> Batcher[int]:
        whole = {"batch_items": 4, "batch_size": 1000, "waiting_requests": 8, "waiting_items": 100, **bounds}
        return Batcher(self.run, lambda item: item, **whole)


@given(
    st.lists(st.lists(st.integers(14, 60), min_size=1, max_size=9), min_size=1, max_size=6),
    st.integers(1, 8),
    st.integers(60, 300),
)
def test_every_request_gets_its_own_vectors_in_order_and_no_batch_is_too_big(
    requests: list[list[int]], batch_items: int, batch_size: int
) -> None:
    async def scenario() -> tuple[list[Vectors], Model]:
        model = Model()
        batcher = model.batcher(batch_items=batch_items, batch_size=batch_size)
        answers = await asyncio.gather(*(batcher.submit(items) for items in requests))
        await batcher.close()
        return answers, model

    answers, model = asyncio.run(scenario())
    assert [answer[:, 0].tolist() for answer in answers] == requests
    for batch in model.batches:
        assert len(batch) <= batch_items
        assert max(batch) * len(batch) <= batch_size
    assert sorted(item for batch in model.batches for item in batch) == sorted(itertools.chain(*requests))


async def test_a_small_request_does_not_wait_for_all_of_a_large_one() -> None:
    model = Model(held=True)
    batcher = model.batcher()
    large = asyncio.create_task(batcher.submit(list(range(20, 60))))
    await asyncio.to_thread(model.entered.acquire)
    small = asyncio.create_task(batcher.submit([99]))
    await asyncio.sleep(0)
    model.gate.release(2)
    assert (await small)[:, 0].tolist() == [99]
    assert not large.done()
    model.gate.release(100)
    assert len(await large) == 40
    await batcher.close()


async def test_a_cancelled_request_leaves_the_queue_at_once() -> None:
    model = Model(held=True)
    batcher = model.batcher()
    first = asyncio.create_task(batcher.submit([20]))
    await asyncio.to_thread(model.entered.acquire)
    gone = asyncio.create_task(batcher.submit(list(range(30, 50))))
    await asyncio.sleep(0)
    assert batcher.waiting == 1
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    assert batcher.waiting == 0
    model.gate.release(100)
    await first
    assert (await batcher.submit([21]))[:, 0].tolist() == [21]
    assert model.batches == [[20], [21]]
    await batcher.close()


async def test_a_full_queue_refuses_with_503_and_keeps_what_waits() -> None:
    model = Model(held=True)
    batcher = model.batcher(waiting_requests=2)
    tasks = [asyncio.create_task(batcher.submit([20]))]
    await asyncio.to_thread(model.entered.acquire)
    tasks += [asyncio.create_task(batcher.submit([number])) for number in (21, 22)]
    await asyncio.sleep(0)
    with pytest.raises(WorkerError) as caught:
        await batcher.submit([23])
    assert (caught.value.status, caught.value.code, caught.value.retry_after_seconds) == (503, "queue_full", 1)
    model.gate.release(100)
    assert [answer[:, 0].tolist() for answer in await asyncio.gather(*tasks)] == [[20], [21], [22]]
    await batcher.close()


async def test_a_failing_batch_fails_its_requests_and_no_other() -> None:
    model = Model(held=True)
    batcher = model.batcher(batch_items=1)
    bad = asyncio.create_task(batcher.submit([13, 12]))
    good = asyncio.create_task(batcher.submit([14, 15]))
    model.gate.release(100)
    with pytest.raises(ValueError, match="13"):
        await bad
    assert (await good)[:, 0].tolist() == [14, 15]
    assert (await batcher.submit([16]))[:, 0].tolist() == [16]
    await batcher.close()


async def test_a_request_begins_with_the_batch_that_takes_its_first_input():
    model = Model(held=True)
    batcher = model.batcher(batch_items=2)
    begun: list[str] = []

    async def one(name: str, items: list[int]) -> None:
        request_begins.set(lambda: begun.append(name))
        await batcher.submit(items)

    first = asyncio.create_task(one("first", [20]))
    await asyncio.to_thread(model.entered.acquire)
    second = asyncio.create_task(one("second", [21, 22, 23]))
    await asyncio.sleep(0.01)
    assert begun == ["first"]
    model.gate.release(3)
    await asyncio.gather(first, second)
    assert begun[:2] == ["first", "second"]
    await batcher.close()
