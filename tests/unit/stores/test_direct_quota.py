"""What is taken from an account directly is what a reservation takes: both mixed on one subject, and one beside it
that knows reservations alone. For both kinds of accounts."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec import Struct

from modelport.core.catalog import RateLimits
from modelport.core.ports.quota import DirectAccount, DirectQuota, QuotaRefusal, Reservation
from modelport.core.ports.stages import NeedsWaiting
from modelport.core.quota import QuotaState
from modelport.stores.allotments import MemoryBank, SharedQuota
from modelport.stores.allotments.account import LocalAccount
from modelport.stores.memory.quota import SWEEP_AT, MemoryQuota

SUBJECT = "chat"


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


class Call(Struct):
    """One that is under way on both sides."""

    reserved: int
    started: float
    general: Reservation
    reservation: Reservation | None
    """None: it was taken directly."""
    account: DirectAccount


class Both(RuleBasedStateMachine):
    """The same steps on two quotas: `mixed` is taken from in both ways, `plain` by reservations."""

    mixed: Any
    plain: Any

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.mixed, self.plain = self.quota(), self.quota()
        self.calls: list[Call] = []
        self.woken = [0, 0]
        self.mixed.when_freed(lambda: self._wake(0))
        self.plain.when_freed(lambda: self._wake(1))
        self.overdrawn = False

    def quota(self) -> Any:
        return MemoryQuota(self.clock)

    def _known(self, said: Any) -> Any:
        return said

    def _wake(self, side: int) -> None:
        self.woken[side] += 1

    @initialize(
        tokens=st.none() | st.integers(1, 400),
        requests=st.none() | st.integers(1, 12),
        concurrent=st.none() | st.integers(1, 4),
    )
    def limited(self, tokens: int | None, requests: int | None, concurrent: int | None) -> None:
        self.limits = RateLimits(tokens_per_minute=tokens, requests_per_minute=requests, concurrent_requests=concurrent)

    @property
    def account(self) -> DirectAccount:
        return self.mixed.account(SUBJECT, self.clock.time)

    def _choose(self, which: int) -> Call:
        return self.calls.pop(which % len(self.calls))

    @rule(seconds=st.sampled_from([0.0, 0.3, 0.9, 1.0, 7.5, 29.0, 59.5, 60.0, 61.0, 200.0]))
    def passes(self, seconds: float) -> None:
        self.clock.time += seconds

    @rule(tokens=st.integers(0, 150), is_direct=st.booleans())
    def takes(self, tokens: int, is_direct: bool) -> None:
        now = self.clock.time
        general = self.plain.reserve(SUBJECT, self.limits, tokens, now)
        reservation = None
        if is_direct:
            is_taken = self.account.take(self.limits, tokens, now)
            assert is_taken == (not isinstance(general, QuotaRefusal))
            if not is_taken:  # whoever is refused asks for the reason
                assert self.mixed.reserve(SUBJECT, self.limits, tokens, now) == general
        else:
            found = self.mixed.reserve(SUBJECT, self.limits, tokens, now)
            if isinstance(found, QuotaRefusal):
                assert found == general
            else:
                reservation = found
        if not isinstance(general, QuotaRefusal):
            assert is_direct or reservation is not None
            self.calls.append(Call(tokens, now, general, reservation, self.account))

    @precondition(lambda self: self.calls)
    @rule(which=st.integers(0, 9), actual=st.integers(1, 300))  # a plain answer has a prompt
    def settles(self, which: int, actual: int) -> None:
        call, now = self._choose(which), self.clock.time
        self.overdrawn = self.overdrawn or actual > call.general.reserved_tokens
        state = call.general.state()
        if call.reservation is None:
            left = call.account.settle(self.limits, call.reserved, actual, now - call.started, now)
            if state != QuotaState():  # else nobody is told
                assert left == state
        else:
            assert call.reservation.state() == state
            call.reservation.settle(actual)
        call.general.settle(actual)

    @precondition(lambda self: any(call.reservation is None for call in self.calls))
    @rule(which=st.integers(0, 9))
    def becomes_general(self, which: int) -> None:
        direct = [call for call in self.calls if call.reservation is None]
        call = direct[which % len(direct)]
        call.reservation = self.mixed.held(call.account, self.limits, call.reserved, call.started)

    @precondition(lambda self: any(call.reservation is not None for call in self.calls))
    @rule(which=st.integers(0, 9), tokens=st.integers(1, 80))
    def tops_up(self, which: int, tokens: int) -> None:
        general = [call for call in self.calls if call.reservation is not None]
        call = general[which % len(general)]
        assert call.reservation is not None
        assert self._known(call.reservation.top_up(tokens)) == self._known(call.general.top_up(tokens))

    @precondition(lambda self: any(call.reservation is not None for call in self.calls))
    @rule(which=st.integers(0, 9))
    def cancels(self, which: int) -> None:
        general = [call for call in self.calls if call.reservation is not None]
        call = general[which % len(general)]
        self.calls.remove(call)
        assert call.reservation is not None
        call.reservation.cancel()
        call.general.cancel()

    @invariant()
    def all_is_the_same(self) -> None:
        if not hasattr(self, "limits"):
            return
        now = self.clock.time
        self.compare(self.mixed.account(SUBJECT, now), self.plain.account(SUBJECT, now), now)

    def compare(self, mixed: Any, plain: Any, now: float) -> None:
        assert mixed.state(self.limits, now) == plain.state(self.limits, now)
        assert (mixed.running, mixed.held_tokens) == (plain.running, plain.held_tokens)
        assert mixed.running == len(self.calls)
        assert mixed.held_tokens == sum(call.general.reserved_tokens for call in self.calls)
        assert mixed.tokens.by_second(now) == plain.tokens.by_second(now)
        assert mixed.requests.by_second(now) == plain.requests.by_second(now)
        assert mixed.mean_seconds == plain.mean_seconds
        assert self.woken[0] == self.woken[1]

    @invariant()
    def no_limit_is_passed(self) -> None:
        if not hasattr(self, "limits"):
            return
        account, limits = self.mixed.account(SUBJECT, self.clock.time), self.limits
        if limits.concurrent_requests is not None:
            assert account.running <= limits.concurrent_requests
        if limits.requests_per_minute is not None:
            assert account.requests.total <= limits.requests_per_minute
        if limits.tokens_per_minute is not None and not self.overdrawn:
            assert account.tokens.total + account.held_tokens <= limits.tokens_per_minute


class BothShared(Both):
    """The same, for accounts whose quota is granted by a store. What is not here is asked for by both."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        super().__init__()

    def teardown(self) -> None:
        self.loop.close()

    def quota(self) -> SharedQuota:
        return SharedQuota(MemoryBank(self.clock), self.clock, budget_seconds=30.0)

    @rule(tokens=st.integers(0, 150), is_direct=st.booleans())
    def takes(self, tokens: int, is_direct: bool) -> None:
        now = self.clock.time
        general = self._asked(self.plain, tokens)
        reservation = None
        if not (is_direct and self.account.take(self.limits, tokens, now)):
            reservation = self._asked(self.mixed, tokens)
            if isinstance(reservation, QuotaRefusal):
                assert reservation == general
                return
        assert not isinstance(general, QuotaRefusal)
        self.calls.append(Call(tokens, now, general, reservation, self.account))

    @rule()
    def ticks(self) -> None:
        async def tick(quota: SharedQuota) -> None:
            quota._tick(True)
            await asyncio.gather(*[a.talking for a in quota._accounts.values() if a.talking is not None])

        for quota in (self.mixed, self.plain):
            self.loop.run_until_complete(tick(quota))

    def _asked(self, quota: SharedQuota, tokens: int) -> Any:
        return self._known(quota.reserve(SUBJECT, self.limits, tokens, self.clock.time))

    def _known(self, said: Any) -> Any:
        """What the store says, where it must be asked."""
        return self.loop.run_until_complete(said.resume()) if isinstance(said, NeedsWaiting) else said

    def compare(self, mixed: Any, plain: Any, now: float) -> None:
        super().compare(Seen(mixed.account), Seen(plain.account), now)
        sides = (mixed.tokens, mixed.requests, mixed.places), (plain.tokens, plain.requests, plain.places)
        assert sides[0] == sides[1]
        assert untold(mixed.account) == untold(plain.account)

    @invariant()
    def no_limit_is_passed(self) -> None:
        """That is for all processes together: tests/contracts/test_quota_port.py."""


class Seen:
    """A LocalAccount as `compare` looks at accounts."""

    def __init__(self, account: LocalAccount) -> None:
        own = account.own
        self.state, self.running, self.held_tokens = account.state, own.running, own.held_tokens
        self.requests, self.tokens, self.mean_seconds = own.requests, own.tokens, own.mean_seconds


def untold(account: LocalAccount) -> list[tuple[int, float, int, int]]:
    """What the store has not heard."""
    return [(number, slot.latest, slot.tokens, slot.requests) for number, slot in account.pending.items()]


class TestBoth(Both.TestCase):
    settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


class TestBothShared(BothShared.TestCase):
    settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def test_both_can_be_taken_from_directly() -> None:
    assert isinstance(MemoryQuota(Clock()), DirectQuota)
    assert isinstance(SharedQuota(MemoryBank(Clock()), Clock()), DirectQuota)


def test_what_is_left_is_told_where_only_one_kind_is_limited() -> None:
    clock = Clock()
    for limits, left in (
        (RateLimits(tokens_per_minute=100), QuotaState(None, None, 100, 70, 60)),
        (RateLimits(requests_per_minute=9), QuotaState(9, 8, None, None, 60)),
        (RateLimits(tokens_per_minute=100, requests_per_minute=9), QuotaState(9, 8, 100, 70, 60)),
    ):
        account = MemoryQuota(clock).account(SUBJECT, clock.time)
        assert account.take(limits, 30, clock.time)
        assert account.settle(limits, 30, 10, 0.0, clock.time) == left


def test_an_account_that_is_forgotten_says_so_and_a_busy_one_is_not() -> None:
    clock, limits = Clock(), RateLimits(requests_per_minute=2)
    quota = MemoryQuota(clock)
    idle, busy = quota.account("idle", clock.time), quota.account("busy", clock.time)
    assert idle.take(limits, 5, clock.time)
    idle.settle(limits, 5, 5, 0.0, clock.time)
    assert busy.take(limits, 5, clock.time)
    clock.time += 100
    for number in range(SWEEP_AT):
        quota.account(f"subject-{number}", clock.time)
    assert (idle.is_open, busy.is_open) == (False, True)
    assert quota.account("idle", clock.time) is not idle
    assert quota.account("busy", clock.time) is busy
