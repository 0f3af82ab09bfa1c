"""What the store in memory promises beyond its port: that it does not grow."""

from __future__ import annotations

from modelport.core.catalog import RateLimits
from modelport.core.ports.quota import QuotaRefusal
from modelport.stores.memory.quota import SWEEP_AT, MemoryQuota


class SettableClock:
    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


def test_subjects_that_are_idle_for_a_minute_are_forgotten():
    clock = SettableClock()
    quota = MemoryQuota(clock)
    for number in range(20 * SWEEP_AT):
        clock.time += 1
        taken = quota.reserve(f"subject-{number}", RateLimits(), 5, clock.monotonic())
        assert not isinstance(taken, QuotaRefusal)
        taken.settle(5)
    assert len(quota) <= SWEEP_AT


def test_a_subject_with_a_running_call_is_never_forgotten():
    clock = SettableClock()
    quota = MemoryQuota(clock)
    limits = RateLimits(concurrent_requests=1)
    quota.reserve("busy", limits, 5, clock.monotonic())
    for number in range(3 * SWEEP_AT):
        clock.time += 100
        taken = quota.reserve(f"subject-{number}", limits, 5, clock.monotonic())
        assert not isinstance(taken, QuotaRefusal)
        taken.settle(5)
    assert isinstance(quota.reserve("busy", limits, 5, clock.monotonic()), QuotaRefusal)
