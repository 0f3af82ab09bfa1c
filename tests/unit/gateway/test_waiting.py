"""Calls that wait for room: when they may, in which order they go, and what is left when they give up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from modelport.core.catalog import RateLimits
from modelport.core.ports.quota import QuotaRefusal
from modelport.core.ports.stages import NeedsWaiting
from modelport.gateway.admissions import Admissions, Asked, Claim
from modelport.gateway.waiting import (
    BATCH,
    INTERACTIVE,
    RUNNING,
    WAITING_CALLS_OF_ONE_CALLER,
    Denied,
    FairQueue,
    Turn,
)
from modelport.stores.memory.quota import MemoryQuota


class SettableClock:
    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


class Gate:
    """Admissions over a limit of concurrent calls and tokens, and the order in which callers came in."""

    def __init__(self, **limits: Any) -> None:
        self.clock = SettableClock()
        self.quota = MemoryQuota(self.clock)
        self.admissions = Admissions(self.quota, self.clock)
        self.limits = RateLimits(**limits)
        self.order: list[str] = []

    def asked(
        self, caller: str, tokens: int = 1, *, weight: int = 1, rank: int = INTERACTIVE, seconds: float = 30.0
    ) -> Asked:
        claims = (Claim("a", self.limits),)
        return Asked(claims, tokens, Turn(caller, weight, rank, tokens), self.clock.time + seconds)

    def take(self, caller: str, tokens: int = 1, **how: Any) -> Any:
        return self.admissions.take(self.asked(caller, tokens, **how))

    async def queued(self, caller: str, tokens: int = 1, **how: Any) -> asyncio.Task[Any]:
        needs = self.take(caller, tokens, **how)
        assert isinstance(needs, NeedsWaiting)

        async def run() -> Any:
            outcome = await needs.resume()
            self.order.append(caller)
            return outcome

        task = asyncio.create_task(run())
        await asyncio.sleep(0)
        return task


async def settled(until: Callable[[], bool]) -> None:
    """Lets the queue work until this is so."""
    for _ in range(1000):
        if until():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came to that")


async def test_a_call_waits_until_a_running_one_ends():
    gate = Gate(concurrent_requests=1)
    first = gate.take("alice")
    second = await gate.queued("alice")
    await asyncio.sleep(0)
    assert not second.done()
    first.settle(1)
    assert (await second).reserved_tokens == 1
    assert len(gate.admissions.queue) == 0


async def test_a_call_that_room_comes_too_late_for_is_refused_at_once():
    gate = Gate(requests_per_minute=1)
    gate.take("alice").settle(1)
    denied = gate.take("alice", seconds=30)
    assert isinstance(denied, Denied)
    assert denied.refusal.retry_after_seconds == 60
    assert isinstance(gate.take("alice", seconds=60), NeedsWaiting)


async def test_a_call_waits_for_room_that_comes_in_a_part_of_a_second():
    gate = Gate(requests_per_minute=1)
    gate.take("alice").settle(1)
    gate.clock.time += 55.4
    assert gate.take("alice", seconds=3.9).refusal.retry_after_seconds == 5
    assert isinstance(gate.take("alice", seconds=4.7), NeedsWaiting)


async def test_nobody_waits_longer_than_they_may():
    gate = Gate(concurrent_requests=1)
    gate.take("alice")
    waiting = await gate.queued("bob", seconds=2)
    await asyncio.sleep(0)
    gate.clock.time += 2
    gate.admissions.queue._stirred.set()
    outcome = await waiting
    assert isinstance(outcome, Denied)
    assert outcome.refusal.kind == "concurrency"


async def test_a_newcomer_does_not_overtake_a_larger_call_that_waits():
    gate = Gate(tokens_per_minute=100)
    running = gate.take("alice", 60)
    large = await gate.queued("bob", 80)
    small = await gate.queued("carol", 10)
    await asyncio.sleep(0)
    running.settle(0)
    assert (await large).reserved_tokens == 80
    assert (await small).reserved_tokens == 10
    assert gate.order == ["bob", "carol"]


async def test_interactive_calls_go_before_batch_calls():
    gate = Gate(concurrent_requests=1)
    running = gate.take("alice")
    batch = await gate.queued("bob", rank=BATCH)
    interactive = await gate.queued("carol")
    await asyncio.sleep(0)
    running.settle(1)
    (await interactive).settle(1)
    await batch
    assert gate.order == ["carol", "bob"]


async def test_one_caller_with_many_calls_does_not_starve_another():
    gate = Gate(concurrent_requests=1)
    running = gate.take("greedy")
    many = [await gate.queued("greedy") for _ in range(20)]
    one = await gate.queued("modest")
    await asyncio.sleep(0)
    running.settle(1)
    for task in asyncio.as_completed([*many, one]):
        (await task).settle(1)
    assert gate.order.index("modest") <= 1


async def test_callers_share_by_weight():
    gate = Gate(concurrent_requests=1)
    running = gate.take("nobody")
    tasks = [
        await gate.queued(name, 10, weight=weight) for _ in range(30) for name, weight in (("heavy", 3), ("light", 1))
    ]
    await asyncio.sleep(0)
    running.settle(1)
    for task in asyncio.as_completed(tasks):
        (await task).settle(1)
    assert 14 <= gate.order[:20].count("heavy") <= 16


async def test_one_caller_cannot_fill_the_queue():
    gate = Gate(concurrent_requests=1)
    gate.take("alice")
    tasks = [await gate.queued("greedy") for _ in range(WAITING_CALLS_OF_ONE_CALLER)]
    await settled(lambda: len(gate.admissions.queue) == WAITING_CALLS_OF_ONE_CALLER)
    assert isinstance(gate.take("greedy"), Denied)
    assert isinstance(gate.take("modest"), NeedsWaiting)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len(gate.admissions.queue) == 0


async def test_a_caller_who_goes_leaves_nothing_taken_and_nobody_behind_waiting():
    gate = Gate(concurrent_requests=1)
    running = gate.take("alice")
    gone, behind = await gate.queued("bob"), await gate.queued("carol")
    await asyncio.sleep(0)
    gone.cancel()
    running.settle(1)
    assert (await behind).reserved_tokens == 1
    assert gone.cancelled()


async def test_a_place_that_comes_at_the_moment_that_the_caller_goes_is_given_back():
    gate = Gate(concurrent_requests=1)
    running = gate.take("alice")
    gone = await gate.queued("bob")
    queue = gate.admissions.queue
    await settled(lambda: len(queue) == 1)
    waiter = queue.waiters[0]
    running.settle(1)
    await settled(waiter.outcome.done)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert not isinstance(gate.take("carol"), Denied | NeedsWaiting)


async def test_a_queue_that_breaks_tells_those_who_wait():
    clock = SettableClock()
    queue = FairQueue(MemoryQuota(clock), clock)

    def broken() -> Any:
        raise RuntimeError("a defect")

    outcome = await queue.wait(broken, lambda _: None, ("a",), Turn("alice"), clock.time + 10)
    assert outcome.error.status == 500
    assert len(queue) == 0


async def test_a_running_answer_goes_before_new_calls():
    gate = Gate(tokens_per_minute=100)
    answer, other = gate.take("alice", 50), gate.take("bob", 50)
    new = await gate.queued("carol", 40)
    await asyncio.sleep(0)
    asked = gate.asked("alice", 40, rank=RUNNING)
    more = asyncio.create_task(gate.admissions.topped_up(answer, 40, asked.claims, asked.turn, asked.until))
    await settled(lambda: len(gate.admissions.queue) == 2)
    other.settle(10)
    assert await more is True
    assert answer.reserved_tokens == 90
    assert not new.done()
    answer.settle(0)
    await new


def test_a_call_takes_from_its_deployment_and_its_caller_or_from_neither():
    clock = SettableClock()
    quota = MemoryQuota(clock)
    admissions = Admissions(quota, clock)
    deployment = Claim("a", RateLimits(tokens_per_minute=100, requests_per_minute=10))
    caller = Claim("key:alice", RateLimits(tokens_per_minute=30))
    denied = admissions.take(Asked((deployment, caller), 40, Turn("alice"), 0.0))
    assert isinstance(denied, Denied)
    assert (denied.subject, denied.refusal.limit) == ("key:alice", 30)
    state = quota.reserve("a", deployment.limits, 0, clock.time).state()
    assert (state.remaining_tokens, state.remaining_requests) == (100, 9)

    both = admissions.take(Asked((deployment, caller), 20, Turn("alice"), 0.0))
    assert both.top_up(5) is True
    assert both.top_up(10) is False
    assert both.reserved_tokens == 25
    both.settle(12)
    assert quota.reserve("key:alice", caller.limits, 0, clock.time).state().remaining_tokens == 18
    assert quota.reserve("a", deployment.limits, 0, clock.time).state().remaining_tokens == 88


def test_a_repeat_of_a_failed_call_takes_no_second_unit_of_the_request_quota():
    clock = SettableClock()
    admissions = Admissions(MemoryQuota(clock), clock)
    asked = Asked((Claim("a", RateLimits(requests_per_minute=1)),), 1, Turn("alice"), 0.0, repeat=("alice", "id-1"))
    admissions.take(asked).settle(0)
    admissions.failures.note(asked.repeat, clock.time)
    repeated = admissions.take(asked)
    assert repeated.state().remaining_requests == 0
    repeated.settle(1)
    # It has succeeded, so that the next one of this name is a call of its own.
    assert isinstance(admissions.take(asked), Denied)


def test_a_failure_is_forgotten_after_two_minutes():
    clock = SettableClock()
    admissions = Admissions(MemoryQuota(clock), clock)
    admissions.failures.note(("alice", "id-1"), clock.time)
    assert admissions.failures.excuses(("alice", "id-1"), clock.time + 119)
    assert not admissions.failures.excuses(("alice", "id-1"), clock.time + 120)
    assert not admissions.failures.excuses(("bob", "id-1"), clock.time)


def test_failures_take_bounded_memory():
    clock = SettableClock()
    failures = Admissions(MemoryQuota(clock), clock).failures
    for number in range(10_100):
        failures.note(("alice", str(number)), clock.time)
    assert len(failures._until) == 10_000
    assert not failures.excuses(("alice", "0"), clock.time)
    assert failures.excuses(("alice", "10099"), clock.time)


def test_a_refusal_says_what_is_left():
    gate = Gate(tokens_per_minute=100, requests_per_minute=5)
    gate.take("alice", 90)
    denied = gate.take("alice", 20, seconds=0)
    assert isinstance(denied.refusal, QuotaRefusal)
    left = gate.admissions.state(gate.asked("alice", 20).claims, ())
    assert (left.remaining_tokens, left.remaining_requests) == (10, 4)
