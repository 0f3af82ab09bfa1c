"""What every quota store promises. A new store joins by adding itself to STORES."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from modelport.core.catalog import RateLimits
from modelport.core.ports import Quota, QuotaRefusal, QuotaState
from modelport.stores.memory.quota import MemoryQuota


class SettableClock:
    """A clock that a test moves."""

    def __init__(self, start: float = 5000.0) -> None:
        self.time = start

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


STORES: dict[str, Callable[[SettableClock], Quota]] = {"memory": MemoryQuota}


@pytest.fixture(params=sorted(STORES))
def store(request):
    clock = SettableClock()
    return STORES[request.param](clock), clock


def take(store: tuple[Quota, SettableClock], limits: RateLimits, tokens: int, subject: str = "a") -> Any:
    quota, clock = store
    return quota.reserve(subject, limits, tokens, clock.monotonic())


def test_requests_beyond_the_limit_are_refused_until_the_first_has_left_the_window(store):
    limits = RateLimits(requests_per_minute=2)
    for _ in range(2):
        take(store, limits, 1).settle(1)
        store[1].time += 10
    refused = take(store, limits, 1)
    assert (refused.kind, refused.limit, refused.retry_after_seconds) == ("requests", 2, 41)
    store[1].time += refused.retry_after_seconds - 1.001
    assert isinstance(take(store, limits, 1), QuotaRefusal)
    store[1].time += 1.001
    assert not isinstance(take(store, limits, 1), QuotaRefusal)


def test_tokens_beyond_the_limit_are_refused_until_enough_has_left_the_window(store):
    limits = RateLimits(tokens_per_minute=100)
    take(store, limits, 60).settle(60)
    store[1].time += 20
    take(store, limits, 40).settle(40)
    assert take(store, limits, 50).retry_after_seconds == 41
    refused = take(store, limits, 61)
    assert (refused.kind, refused.limit, refused.retry_after_seconds) == ("tokens", 100, 61)
    store[1].time += 41
    assert not isinstance(take(store, limits, 50), QuotaRefusal)


def test_a_refusal_takes_nothing_not_even_the_request(store):
    limits = RateLimits(tokens_per_minute=100, requests_per_minute=2)
    for _ in range(5):
        assert isinstance(take(store, limits, 101), QuotaRefusal)
    assert take(store, limits, 100).state().remaining_requests == 1


def test_what_was_not_used_is_given_back(store):
    limits = RateLimits(tokens_per_minute=100)
    take(store, limits, 100).settle(10)
    assert not isinstance(take(store, limits, 90), QuotaRefusal)


def test_a_running_call_holds_its_tokens_however_long_it_takes(store):
    limits = RateLimits(tokens_per_minute=100)
    held = take(store, limits, 80)
    store[1].time += 300
    assert isinstance(take(store, limits, 21), QuotaRefusal)
    held.settle(0)
    assert not isinstance(take(store, limits, 100), QuotaRefusal)


def test_what_was_used_beyond_the_reservation_is_booked_at_once(store):
    limits = RateLimits(tokens_per_minute=100)
    held = take(store, limits, 10)
    held.settle(150)
    assert held.state().remaining_tokens == 0
    refused = take(store, limits, 1)
    assert isinstance(refused, QuotaRefusal)
    store[1].time += refused.retry_after_seconds
    assert not isinstance(take(store, limits, 100), QuotaRefusal)


def test_settling_twice_is_the_same_as_once(store):
    limits = RateLimits(tokens_per_minute=100, concurrent_requests=1)
    held = take(store, limits, 50)
    held.settle(50)
    held.settle(0)
    assert held.state().remaining_tokens == 50
    take(store, limits, 10)
    assert isinstance(take(store, limits, 10), QuotaRefusal)


def test_a_place_is_free_again_when_its_call_ends(store):
    limits = RateLimits(concurrent_requests=1)
    held = take(store, limits, 1)
    refused = take(store, limits, 1)
    assert (refused.kind, refused.limit) == ("concurrency", 1)
    assert refused.retry_after_seconds >= 1
    held.settle(1)
    assert not isinstance(take(store, limits, 1), QuotaRefusal)


def test_a_refusal_for_want_of_a_place_names_the_time_that_calls_take(store):
    limits = RateLimits(concurrent_requests=1)
    for _ in range(60):
        held = take(store, limits, 1)
        store[1].time += 12
        held.settle(1)
    take(store, limits, 1)
    assert take(store, limits, 1).retry_after_seconds in (11, 12)


def test_a_top_up_is_taken_whole_or_not_at_all(store):
    held = take(store, RateLimits(tokens_per_minute=100), 40)
    assert held.top_up(60)
    assert held.reserved_tokens == 100
    assert not held.top_up(1)
    assert held.reserved_tokens == 100


def test_a_settled_reservation_takes_nothing_more(store):
    held = take(store, RateLimits(tokens_per_minute=100), 40)
    held.settle(40)
    assert not held.top_up(1)


def test_a_call_that_never_fits_is_told_a_whole_window(store):
    assert take(store, RateLimits(tokens_per_minute=100), 101).retry_after_seconds == 60


def test_subjects_do_not_share(store):
    limits = RateLimits(requests_per_minute=1, tokens_per_minute=10, concurrent_requests=1)
    take(store, limits, 10, "a")
    assert not isinstance(take(store, limits, 10, "b"), QuotaRefusal)


def test_without_limits_everything_passes_and_nothing_is_told(store):
    held = [take(store, RateLimits(), 10**9) for _ in range(100)][-1]
    assert held.top_up(10**9)
    assert held.state() == QuotaState()


def test_a_limit_that_comes_later_counts_what_was_used_before_it(store):
    take(store, RateLimits(), 80).settle(80)
    assert isinstance(take(store, RateLimits(tokens_per_minute=100), 21), QuotaRefusal)


def test_the_state_says_what_is_left_and_when_all_of_it_is_back(store):
    limits = RateLimits(tokens_per_minute=100, requests_per_minute=5)
    held = take(store, limits, 30)
    assert held.state() == QuotaState(5, 4, 100, 70, 61)
    store[1].time += 1
    held.settle(20)
    assert held.state() == QuotaState(5, 4, 100, 80, 61)


class Accounting(RuleBasedStateMachine):
    """Calls that use at most what they reserved, at any times, under any top-ups."""

    limits = RateLimits(tokens_per_minute=1000, requests_per_minute=12, concurrent_requests=6)
    make: Callable[[SettableClock], Quota]
    running = Bundle("running")

    def __init__(self) -> None:
        super().__init__()
        self.clock = SettableClock()
        self.quota = type(self).make(self.clock)
        self.started: list[float] = []
        self.settled: list[tuple[float, float, int]] = []
        self.held: dict[int, tuple[Any, float]] = {}
        self.number = 0

    @rule(seconds=st.floats(min_value=0.0, max_value=70.0))
    def wait(self, seconds: float) -> None:
        self.clock.time += seconds

    @rule(target=running, tokens=st.integers(min_value=0, max_value=700))
    def start(self, tokens: int) -> int:
        self.number += 1
        taken = self.quota.reserve("a", self.limits, tokens, self.clock.monotonic())
        if isinstance(taken, QuotaRefusal):
            assert 1 <= taken.retry_after_seconds <= 61
        else:
            self.started.append(self.clock.time)
            self.held[self.number] = (taken, self.clock.time)
        return self.number

    @rule(number=running, tokens=st.integers(min_value=1, max_value=300))
    def top_up(self, number: int, tokens: int) -> None:
        if number in self.held:
            reservation = self.held[number][0]
            before = reservation.reserved_tokens
            taken = tokens if reservation.top_up(tokens) else 0
            assert reservation.reserved_tokens == before + taken

    @rule(number=consumes(running), used=st.floats(min_value=0.0, max_value=1.0))
    def settle(self, number: int, used: float) -> None:
        if number in self.held:
            reservation, at = self.held.pop(number)
            actual = int(reservation.reserved_tokens * used)
            reservation.settle(actual)
            self.settled.append((at, self.clock.time, actual))

    @invariant()
    def tokens_used_and_held_stay_within_the_limit_over_every_window(self) -> None:
        held = sum(reservation.reserved_tokens for reservation, _ in self.held.values())
        edge = self.clock.time - 60
        by_end = sum(tokens for _, ended, tokens in self.settled if ended > edge)
        by_start = sum(tokens for began, _, tokens in self.settled if began > edge)
        assert max(by_end, by_start) + held <= 1000

    @invariant()
    def requests_stay_within_the_limit_over_every_window(self) -> None:
        assert sum(at > self.clock.time - 60 for at in self.started) <= 12
        assert len(self.held) <= 6


@pytest.mark.parametrize("name", sorted(STORES))
def test_used_and_held_never_exceed_the_limit(name):
    machine = type(f"Accounting_{name}", (Accounting,), {"make": staticmethod(STORES[name])})
    machine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
    machine.TestCase("runTest").runTest()
