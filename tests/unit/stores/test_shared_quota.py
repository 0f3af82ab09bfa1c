"""One process and its store: what is asked and what is not, and what happens when no answer comes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from modelport.core.catalog import RateLimits
from modelport.core.ports.quota import QuotaRefusal
from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.stores.allotments import Answer, Ask, MemoryBank, SharedQuota, StoreGone
from modelport.stores.allotments.held import SharedHeld

LIMITS = RateLimits(tokens_per_minute=1000, requests_per_minute=100)


class SettableClock:
    def __init__(self) -> None:
        self.time = 5000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


class Store:
    """A bank that can be gone, slow, or overtaken, and that counts its messages."""

    def __init__(self, clock: SettableClock) -> None:
        self.bank = MemoryBank(clock)
        self.messages: list[Ask] = []
        self.is_gone = False
        self.gate: asyncio.Event | None = None
        self.gate_after_loss: asyncio.Event | None = None

    async def open(self) -> None:
        if self.is_gone:
            raise StoreGone("gone")

    async def exchange(self, ask: Ask) -> Answer:
        self.messages.append(ask)
        if self.is_gone:
            raise StoreGone("gone")
        if self.gate is not None:
            await self.gate.wait()
        answer = self.bank.exchanged(ask)
        if answer.status == "lost":
            self.gate = self.gate_after_loss
        return answer

    async def close(self) -> None:
        pass


class Process:
    """One process with a store."""

    def __init__(self, store: Store | None = None, clock: SettableClock | None = None, **how: Any) -> None:
        self.clock = clock or SettableClock()
        self.store = store or Store(self.clock)
        self.quota = SharedQuota(self.store, self.clock, **{"budget_seconds": 30.0, **how})

    def try_now(self, tokens: int = 10, limits: RateLimits = LIMITS, subject: str = "a") -> Any:
        return self.quota.reserve(subject, limits, tokens, self.clock.monotonic())

    async def take(self, tokens: int = 10, limits: RateLimits = LIMITS, subject: str = "a") -> Any:
        taken = self.try_now(tokens, limits, subject)
        return await taken.resume() if isinstance(taken, NeedsWaiting) else taken

    async def tick(self) -> None:
        self.quota._tick(True)
        await asyncio.gather(*[a.talking for a in self.quota._accounts.values() if a.talking is not None])


async def test_only_an_empty_allotment_asks_the_store():
    process = Process()
    for _ in range(3):
        (await process.take(10)).settle(10)
        process.clock.time += 0.3
    asked = len(process.store.messages)
    for _ in range(2):
        process.try_now(1).settle(1)
    assert len(process.store.messages) == asked


async def test_a_call_that_needs_waiting_has_taken_nothing():
    process = Process()
    needs = process.try_now(1000)
    assert isinstance(needs, NeedsWaiting)
    assert process.store.messages == []
    assert (await process.take(1000)).reserved_tokens == 1000


async def test_many_calls_at_once_are_few_messages_and_served_in_order():
    process = Process()
    done: list[int] = []

    async def one(number: int) -> None:
        assert (await process.take(10)).reserved_tokens == 10
        done.append(number)

    await asyncio.gather(*[one(number) for number in range(90)])
    assert done == sorted(done)
    assert len(process.store.messages) < 30


async def test_a_flood_of_refused_calls_is_no_flood_of_messages_and_each_hears_its_own_time():
    process = Process()
    (await process.take(500)).settle(500)
    for _ in range(4):
        process.clock.time += 2.5
        await process.tick()
    (await process.take(500)).settle(500)
    assert isinstance(await process.take(400), QuotaRefusal)
    asked = len(process.store.messages)
    times = [process.try_now(tokens).retry_after_seconds for tokens in (1, 500, 501, 1000, 1001)]
    assert times == [50, 50, 60, 60, 60]
    assert len(process.store.messages) == asked
    process.clock.time += 0.2
    assert isinstance(process.try_now(400), NeedsWaiting)


async def test_a_caller_who_goes_while_the_store_is_asked_leaves_nothing_taken():
    process = Process()
    process.store.gate = asyncio.Event()
    gone = asyncio.create_task(process.take(800))
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    process.store.gate.set()
    assert (await process.take(1000)).reserved_tokens == 1000


async def test_a_slow_store_is_left_alone_until_a_probe_is_answered_in_time():
    process = Process(budget_seconds=0.01, on_outage="refuse")
    process.store.gate = asyncio.Event()
    refused = await process.take(10)
    assert isinstance(refused, Refusal)
    assert (refused.error.status, refused.error.retry_after) == (503, 1)
    assert process.quota.is_degraded
    asked = len(process.store.messages)
    assert isinstance(process.try_now(10), Refusal)
    assert len(process.store.messages) == asked
    process.store.gate.set()
    process.quota._budget_seconds = 30.0
    await process.tick()
    assert not process.quota.is_degraded
    assert not isinstance(await process.take(10), Refusal | QuotaRefusal)


async def test_what_is_held_is_spent_while_the_store_is_gone_but_not_for_longer_than_is_sure():
    process = Process(on_outage="refuse")
    first = await process.take(10, RateLimits(tokens_per_minute=6400))
    first.settle(0)
    process.store.is_gone = True
    assert not isinstance(process.try_now(10, RateLimits(tokens_per_minute=6400)), Refusal | NeedsWaiting)
    process.clock.time += 9
    assert isinstance(await process.take(10, RateLimits(tokens_per_minute=6400)), Refusal)


async def test_without_the_store_a_process_allows_its_share():
    clock = SettableClock()
    store = Store(clock)
    one, other = Process(store, clock), Process(store, clock)
    (await one.take(100)).settle(100)
    (await other.take(100)).settle(100)
    await one.tick()
    store.is_gone = True
    clock.time += 9
    assert not isinstance(await one.take(400), QuotaRefusal)
    assert isinstance(await one.take(1), QuotaRefusal)  # half of the limit: 100 and 400


async def test_what_was_used_during_an_outage_is_told_afterwards():
    clock = SettableClock()
    store = Store(clock)
    one = Process(store, clock)
    await one.take(1)
    store.is_gone = True
    clock.time += 9
    (await one.take(700)).settle(700)
    store.is_gone = False
    await one.tick()
    assert not one.quota.is_degraded
    assert isinstance(await Process(store, clock).take(400), QuotaRefusal)


async def test_a_store_that_has_lost_its_data_hears_the_last_minute():
    clock = SettableClock()
    store = Store(clock)
    one = Process(store, clock)
    (await one.take(700)).settle(700)
    await one.tick()
    store.bank = MemoryBank(clock)
    await one.take(290)
    assert one.quota.is_degraded
    clock.time += 2.5
    await one.tick()
    assert not one.quota.is_degraded
    assert isinstance(await Process(store, clock).take(400), QuotaRefusal)


async def test_a_store_that_has_lost_its_data_is_not_ready_before_it_has_heard():
    process = Process(on_outage="refuse")
    (await process.take(700)).settle(700)
    await process.tick()
    process.store.bank = MemoryBank(process.clock)
    process.store.gate_after_loss = asyncio.Event()
    asked = len(process.store.messages)
    taking = asyncio.create_task(process.take(290))
    while len(process.store.messages) < asked + 2:
        await asyncio.sleep(0)
    assert process.quota.is_degraded  # `lost` has come; what was used is on its way
    process.store.gate_after_loss.set()
    assert isinstance(await taking, Refusal)
    assert process.quota.is_degraded  # it waits for what others have used


@pytest.mark.parametrize("is_noticed", [True, False])
async def test_what_one_subject_has_lost_is_told_for_all(is_noticed):
    clock = SettableClock()
    store = Store(clock)
    one = Process(store, clock)
    (await one.take(700, subject="b")).settle(700)
    for _ in range(4):
        clock.time += 2.5
        await one.tick()
    (await one.take(100)).settle(100)
    store.bank = MemoryBank(clock)
    store.is_gone = is_noticed
    await one.tick()
    store.is_gone = False
    for _ in range(2):
        await one.tick()
        assert one.quota.is_degraded
    clock.time += 2.5
    await one.tick()
    assert not one.quota.is_degraded
    assert isinstance(await Process(store, clock).take(400, subject="b"), QuotaRefusal)


async def test_a_message_that_comes_late_does_not_undo_what_came_after_it():
    clock = SettableClock()
    store = Store(clock)
    one = Process(store, clock)
    held = await one.take(100)
    late = store.messages[-1]
    assert (await one.take(800)).reserved_tokens == 800
    store.bank.exchanged(late)
    assert isinstance(await Process(store, clock).take(150), QuotaRefusal)
    held.settle(100)


async def test_a_top_up_asks_the_store_when_nothing_is_left_here():
    process = Process()
    held = await process.take(100)
    needs = held.top_up(300)
    assert isinstance(needs, NeedsWaiting)
    assert await needs.resume() is True
    assert held.reserved_tokens == 400
    more = held.top_up(700)
    assert isinstance(more, NeedsWaiting)
    assert await more.resume() is not True
    assert held.reserved_tokens == 400


async def test_a_closed_process_leaves_all_it_held():
    clock = SettableClock()
    store = Store(clock)
    one = Process(store, clock)
    one.quota.start()
    (await one.take(10)).settle(10)
    await one.quota.close()
    assert (await Process(store, clock).take(990)).reserved_tokens == 990


async def test_accounts_of_nobody_are_forgotten():
    process = Process()
    (await process.take(10)).settle(10)
    for _ in range(40):
        process.clock.time += 2
        await process.tick()
    assert process.quota._accounts == {}


@pytest.mark.parametrize("otherwise", ["local_cap", "refuse"])
async def test_a_limit_s_own_word_on_outages_goes_before_the_general_one(otherwise):
    store_gone = Process(on_outage=otherwise)
    store_gone.store.is_gone = True
    lenient = RateLimits(requests_per_minute=5, on_store_outage="local_cap")
    strict = RateLimits(requests_per_minute=5, on_store_outage="refuse")
    silent = RateLimits(requests_per_minute=5)
    assert not isinstance(await store_gone.take(1, lenient, "lenient"), Refusal)
    assert isinstance(await store_gone.take(1, strict, "strict"), Refusal)
    assert isinstance(await store_gone.take(1, silent, "silent"), Refusal) is (otherwise == "refuse")


async def test_a_running_answer_gets_more_without_the_store_only_where_its_limit_lets_it():
    process = Process()
    modes = {"local_cap": True, "refuse": False}
    held = {
        mode: await process.take(10, RateLimits(tokens_per_minute=20, on_store_outage=mode), mode) for mode in modes
    }
    process.store.is_gone = True
    process.clock.time += 9.0  # what was granted beyond the need is void by now
    for mode, is_covered in modes.items():
        more = held[mode].top_up(5)
        assert (await more.resume() if isinstance(more, NeedsWaiting) else more) is is_covered


async def test_limits_cannot_declare_anything_where_the_store_is_the_owner_of_the_process():
    process = Process(on_outage="refuse", may_limits_declare=False)
    process.store.is_gone = True
    assert isinstance(await process.take(1, RateLimits(requests_per_minute=5, on_store_outage="local_cap")), Refusal)


@pytest.mark.parametrize(("limit", "shares"), [(30, [10, 10, 10]), (10, [4, 3, 3]), (2, [1, 1, 0])])
@pytest.mark.parametrize("field", ["requests_per_minute", "tokens_per_minute", "concurrent_requests"])
async def test_workers_that_have_never_reached_the_store_divide_each_limit(field, limit, shares):
    limits = RateLimits(**{field: limit})
    taken = []
    for number in range(3):
        process = Process(workers=3, number=number)
        process.store.is_gone = True
        outcomes = [await process.take(1, limits) for _ in range(limit + 1)]
        taken.append(sum(isinstance(outcome, SharedHeld) for outcome in outcomes))
    assert taken == shares
    assert sum(taken) == limit


async def test_a_worker_that_has_not_used_a_limit_knows_of_the_others_all_the_same():
    clock = SettableClock()
    store = Store(clock)
    workers = [Process(store, clock, workers=3, number=number) for number in range(3)]
    limits = RateLimits(requests_per_minute=9)
    (await workers[0].take(1, limits)).settle(1)  # the store knows of one holder
    store.is_gone = True
    for worker in workers:
        worker.clock.time += 60
        outcomes = [await worker.take(1, limits) for _ in range(10)]
        assert sum(isinstance(outcome, SharedHeld) for outcome in outcomes) <= 3


async def test_processes_of_other_servers_that_shared_another_limit_are_counted_too():
    clock = SettableClock()
    store = Store(clock)
    servers = [Process(store, clock) for _ in range(4)]
    for server in servers:
        (await server.take(1, subject="busy")).settle(1)
    for server in servers:  # each hears of all four
        await server.quota.tell()
    store.is_gone = True
    limits = RateLimits(requests_per_minute=8)
    outcomes = [await servers[-1].take(1, limits, "fresh") for _ in range(9)]
    assert sum(isinstance(outcome, SharedHeld) for outcome in outcomes) == 2
