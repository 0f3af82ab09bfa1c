"""What every quota store promises. A new store joins by adding itself to STORES.

Stores that several processes share are asked through an event loop of the test's own; time is the test's, for the store
as well.
"""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from modelport.core.catalog import RateLimits
from modelport.core.ports.quota import Quota, QuotaRefusal, Reservation
from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.core.quota import QuotaState
from modelport.stores.allotments import Answer, Ask, Bank, MemoryBank, SharedQuota, StoreGone
from modelport.stores.memory.quota import MemoryQuota
from modelport.stores.redis.quota import RedisBank
from modelport.stores.sqlite_quota import SqliteBank
from redis_server import RedisServer, named_url


class SettableClock:
    """A clock that a test moves. What happens in the background happens every two seconds of it."""

    def __init__(self, start: float = 5000.0) -> None:
        self._time = start
        self.background: list[Callable[[], None]] = []

    @property
    def time(self) -> float:
        return self._time

    @time.setter
    def time(self, time: float) -> None:
        while self._time < time:
            self._time = min(time, self._time + 2.0) if self.background else time
            for happen in self.background:
                happen()

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    def milliseconds(self) -> int:
        return int(self.time * 1000)


class Asked:
    """A quota whose waiting is awaited at once."""

    def __init__(self, quota: Quota, runner: asyncio.Runner) -> None:
        self.quota = quota
        # Runner.run also takes over Ctrl-C each time, for a quarter of the time of these tests.
        self._complete = runner.get_loop().run_until_complete

    def reserve(self, subject: str, limits: RateLimits, tokens: int, now: float, *, requests: int = 1) -> Any:
        taken = self.final(self.quota.reserve(subject, limits, tokens, now, requests=requests))
        return taken if isinstance(taken, QuotaRefusal | Refusal) else AskedReservation(taken, self)

    def final(self, outcome: Any) -> Any:
        return self._complete(awaited(outcome)) if isinstance(outcome, NeedsWaiting) else outcome

    def run(self, coroutine: Any) -> Any:
        return self._complete(coroutine)


async def awaited(needs: NeedsWaiting[Any]) -> Any:
    return await needs.resume()


class AskedReservation:
    """Its reservation."""

    def __init__(self, reservation: Reservation, asked: Asked) -> None:
        self._reservation = reservation
        self._asked = asked

    def top_up(self, tokens: int) -> bool:
        return self._asked.final(self._reservation.top_up(tokens)) is True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reservation, name)


Connect = Callable[[], Asked]
"""One more process that shares the store; a store of one process gives the same again."""


@contextmanager
def memory(clock: SettableClock) -> Iterator[Connect]:
    with asyncio.Runner() as runner:
        quota = Asked(MemoryQuota(clock), runner)
        yield lambda: quota


@contextmanager
def shared(clock: SettableClock, bank: Callable[[], Bank]) -> Iterator[Connect]:
    with asyncio.Runner() as runner:
        opened: list[SharedQuota] = []

        def connect() -> Asked:
            # The machine that tests run on may be slow; how slow stores are borne is tested elsewhere.
            opened.append(SharedQuota(bank(), clock, on_outage="refuse", budget_seconds=30.0))
            return Asked(opened[-1], runner)

        try:
            yield connect
        finally:
            for quota in opened:
                runner.run(quota.close())


@contextmanager
def one_bank(clock: SettableClock) -> Iterator[Connect]:
    bank = MemoryBank(clock)
    with shared(clock, lambda: bank) as connect:
        yield connect


@contextmanager
def sqlite(clock: SettableClock) -> Iterator[Connect]:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "quota.sqlite"
        with shared(clock, lambda: SqliteBank(path, now_ms=clock.milliseconds)) as connect:
            yield connect


@contextmanager
def redis(clock: SettableClock) -> Iterator[Connect]:
    url = REDIS.url
    assert url is not None
    prefix = f"modelport:test:{secrets.token_hex(8)}:"
    with shared(clock, lambda: RedisBank(url, prefix=prefix, now_ms=clock.milliseconds)) as connect:
        yield connect


class LossyBank:
    """Loses what it is told to: the next message, its answer, or both until a later message has overtaken it."""

    def __init__(self, bank: MemoryBank) -> None:
        self.bank = bank
        self.next: Literal["answer", "lose message", "lose answer", "late"] = "answer"
        self.late: list[Ask] = []

    async def exchange(self, ask: Ask) -> Answer:
        how, self.next = self.next, "answer"
        if how == "lose message":
            raise StoreGone
        if how == "late":
            self.late.append(ask)
            raise StoreGone
        answer = self.bank.exchanged(ask)
        if answer.granted.tokens > 50:
            # What it would undo, if it counted, is large by now.
            for late in [late for late in self.late if late.holder == ask.holder]:
                self.late.remove(late)
                self.bank.exchanged(late)
        if how == "lose answer":
            raise StoreGone
        return answer

    async def close(self) -> None:
        pass


@contextmanager
def lossy(clock: SettableClock) -> Iterator[Connect]:
    bank = LossyBank(MemoryBank(clock))
    with shared(clock, lambda: bank) as connect:
        yield connect


class SharedRedis:
    """The Redis of this module: started when the first test wants it."""

    def __init__(self) -> None:
        self.url: str | None = None
        self._own: RedisServer | None = None
        self._directory: tempfile.TemporaryDirectory[str] | None = None

    def start(self) -> None:
        if self.url is None and (named := named_url()) is not None:
            self.url = named
        if self.url is None:
            self._directory = tempfile.TemporaryDirectory()
            self._own = RedisServer(Path(self._directory.name))
            self._own.start()
            self.url = self._own.url

    def end(self) -> None:
        if self._own is not None and self._directory is not None:
            self._own.kill()
            self._directory.cleanup()


REDIS = SharedRedis()
STORES_IN_TROUBLE: dict[str, Any] = {"lossy": lossy}
STORES: dict[str, Any] = {"memory": memory, "one_bank": one_bank, "sqlite": sqlite, "redis": redis}
SHARED_STORES = ["one_bank", "redis", "sqlite"]


@pytest.fixture(scope="module", autouse=True)
def ended_redis() -> Iterator[None]:
    yield
    REDIS.end()


def opened(name: str, clock: SettableClock) -> Any:
    if name == "redis":
        REDIS.start()
    return (STORES | STORES_IN_TROUBLE)[name](clock)


@pytest.fixture(params=sorted(STORES))
def store(request):
    clock = SettableClock()
    with opened(request.param, clock) as connect:
        asked = connect()
        if isinstance(quota := asked.quota, SharedQuota):
            clock.background.append(lambda: asked.run(ticked(quota, True)))
        yield asked, clock


@pytest.fixture(params=SHARED_STORES)
def two(request):
    """Two processes that share a store, and the clock."""
    clock = SettableClock()
    with opened(request.param, clock) as connect:
        yield (connect(), clock), (connect(), clock)


def take(store: tuple[Any, SettableClock], limits: RateLimits, tokens: int, subject: str = "a") -> Any:
    quota, clock = store
    return quota.reserve(subject, limits, tokens, clock.monotonic())


def test_requests_beyond_the_limit_are_refused_until_the_first_has_left_the_window(store):
    limits = RateLimits(requests_per_minute=2)
    for _ in range(2):
        take(store, limits, 1).settle(1)
        store[1].time += 10
    refused = take(store, limits, 1)
    assert (refused.kind, refused.limit, refused.retry_after_seconds) == ("requests", 2, 40)
    store[1].time += refused.retry_after_seconds - 1.001
    assert isinstance(take(store, limits, 1), QuotaRefusal)
    store[1].time += 1.001
    assert not isinstance(take(store, limits, 1), QuotaRefusal)


def test_tokens_beyond_the_limit_are_refused_until_enough_has_left_the_window(store):
    limits = RateLimits(tokens_per_minute=100)
    take(store, limits, 60).settle(60)
    store[1].time += 20
    take(store, limits, 40).settle(40)
    assert take(store, limits, 50).retry_after_seconds == 40
    refused = take(store, limits, 61)
    assert (refused.kind, refused.limit, refused.retry_after_seconds) == ("tokens", 100, 60)
    store[1].time += 40
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
    assert held.state() == QuotaState(5, 4, 100, 70, 60)
    store[1].time += 1
    held.settle(20)
    assert held.state() == QuotaState(5, 4, 100, 80, 60)


def test_what_is_left_is_told_without_taking_anything(store):
    asked, clock = store
    limits = RateLimits(tokens_per_minute=100, requests_per_minute=5)
    held = take(store, limits, 30)
    seen = [asked.quota.state("a", limits, clock.time) for _ in range(2)]
    assert seen == [held.state()] * 2
    assert isinstance(take(store, limits, 80), QuotaRefusal)
    assert asked.quota.state("a", limits, clock.time) == QuotaState(5, 4, 100, 70, 60)
    assert asked.quota.state("never seen", limits, clock.time).remaining_tokens in (None, 100)


def test_a_reservation_that_is_cancelled_was_never_taken(store):
    limits = RateLimits(tokens_per_minute=100, requests_per_minute=1, concurrent_requests=1)
    take(store, limits, 60).cancel()
    held = take(store, limits, 100)
    assert not isinstance(held, QuotaRefusal)
    held.settle(1)
    held.cancel()
    assert isinstance(take(store, limits, 1), QuotaRefusal)


def test_a_part_that_is_given_back_can_be_taken_again(store):
    limits = RateLimits(tokens_per_minute=100)
    held = take(store, limits, 80)
    held.give_back(30)
    assert held.reserved_tokens == 50
    assert not isinstance(take(store, limits, 50), QuotaRefusal)
    assert isinstance(take(store, limits, 1), QuotaRefusal)


def test_a_repeat_takes_tokens_and_a_place_and_no_request(store):
    limits = RateLimits(tokens_per_minute=100, requests_per_minute=1)
    take(store, limits, 10).settle(10)
    repeated = store[0].reserve("a", limits, 10, store[1].monotonic(), requests=0)
    assert repeated.state().remaining_tokens == 80
    assert isinstance(take(store, limits, 10), QuotaRefusal)


def test_a_refusal_says_what_is_left(store):
    limits = RateLimits(tokens_per_minute=100, requests_per_minute=5)
    take(store, limits, 90)
    assert isinstance(take(store, limits, 20), QuotaRefusal)
    state = store[0].quota.state("a", limits, store[1].monotonic())
    assert (state.remaining_tokens, state.remaining_requests) == (10, 4)


# --- several processes ---------------------------------------------------------------------------------------------


def test_processes_share_one_limit(two):
    first, second = two
    limits = RateLimits(tokens_per_minute=50, requests_per_minute=3)
    take(first, limits, 30).settle(30)
    assert isinstance(take(second, limits, 21), QuotaRefusal)
    take(second, limits, 20).settle(20)
    assert isinstance(take(first, limits, 1), QuotaRefusal)


def test_what_one_process_gives_back_another_can_use(two):
    first, second = two
    limits = RateLimits(tokens_per_minute=100)
    held = take(first, limits, 100)
    assert isinstance(take(second, limits, 90), QuotaRefusal)
    held.settle(5)
    quota = first[0].quota
    first[1].time += 5  # nobody has called it lately: it keeps nothing
    first[0].run(ticked(quota, True))
    first[0].run(quota.tell())
    assert not isinstance(take(second, limits, 90), QuotaRefusal)


def test_what_a_dead_process_held_counts_as_used_and_comes_back_with_the_window(two):
    first, second = two
    limits = RateLimits(tokens_per_minute=100)
    take(first, limits, 80)
    second[1].time += 11  # it is not heard of any more
    assert isinstance(take(second, limits, 50), QuotaRefusal)
    second[1].time += 61
    assert not isinstance(take(second, limits, 100), QuotaRefusal)


def test_a_process_that_was_silent_for_too_long_spends_nothing_without_asking(two):
    first, second = two
    limits = RateLimits(tokens_per_minute=6400)
    take(first, limits, 10).settle(10)
    assert first[0].quota._accounts["a"].grant.tokens > 0
    first[1].time += 9
    assert isinstance(first[0].quota.reserve("a", limits, 1, first[1].time), NeedsWaiting)
    take(second, limits, 1)


def test_a_process_that_closes_leaves_everything_to_the_others(two):
    first, second = two
    limits = RateLimits(tokens_per_minute=6400)
    take(first, limits, 10).settle(10)
    first[0].run(first[0].quota.tell())
    assert isinstance(take(second, limits, 6390), QuotaRefusal)
    first[0].quota._is_closing = True
    first[0].run(first[0].quota.tell())
    second[1].time += 1
    assert not isinstance(take(second, limits, 6390), QuotaRefusal)


@pytest.mark.parametrize("name", ["redis", "sqlite"])
def test_a_restarted_process_finds_what_the_last_minute_used(name):
    clock = SettableClock()
    with opened(name, clock) as connect:
        limits = RateLimits(tokens_per_minute=100)
        before = connect()
        take((before, clock), limits, 70).settle(70)
        before.run(before.quota.tell())
        assert isinstance(take((connect(), clock), limits, 31), QuotaRefusal)


class Accounting(RuleBasedStateMachine):
    """Calls that use at most what they reserved, at any times, under any top-ups."""

    limits = RateLimits(tokens_per_minute=1000, requests_per_minute=12, concurrent_requests=6)
    open: Callable[[SettableClock], Any]
    processes = 1
    running = Bundle("running")

    def __init__(self) -> None:
        super().__init__()
        self.clock = SettableClock()
        self.stack = ExitStack()
        self.connect = self.stack.enter_context(type(self).open(self.clock))
        self.quotas: list[Asked] = [self.connect() for _ in range(self.processes)]
        self.started: list[float] = []
        self.settled: list[tuple[float, float, int]] = []
        self.held: dict[int, tuple[Any, float, int]] = {}
        self.number = 0

    @rule(seconds=st.floats(min_value=0.0, max_value=70.0))
    def wait(self, seconds: float) -> None:
        """Processes that live are heard of every few seconds."""
        until = self.clock.time + seconds
        while self.clock.time < until:
            self.clock.time = min(until, self.clock.time + 5.0)
            for process in range(self.processes):
                self.tick(process=process, is_second=True)

    @rule(process=st.integers(min_value=0, max_value=9))
    def die(self, process: int) -> None:
        """The calls of a process that dies are charged with all that they had reserved, by the ledger as well."""
        index = process % self.processes
        if not isinstance(self.quotas[index].quota, SharedQuota):
            return
        for number, (reservation, at, owner) in list(self.held.items()):
            if owner == index:
                del self.held[number]
                self.settled.append((at, self.clock.time, reservation.reserved_tokens))
        self.quotas[index] = self.connect()

    def teardown(self) -> None:
        self.stack.close()

    @rule(process=st.integers(min_value=0, max_value=9), how=st.sampled_from(["lose message", "lose answer", "late"]))
    def lose(self, process: int, how: Literal["lose message", "lose answer", "late"]) -> None:
        quota = self.quotas[process % self.processes].quota
        if isinstance(quota, SharedQuota) and isinstance(bank := quota._bank, LossyBank):
            bank.next = how

    @rule(process=st.integers(min_value=0, max_value=9), is_second=st.booleans())
    def tick(self, process: int, is_second: bool) -> None:
        asked = self.quotas[process % self.processes]
        if isinstance(asked.quota, SharedQuota):
            asked.run(ticked(asked.quota, is_second))

    @rule(
        target=running,
        tokens=st.integers(min_value=0, max_value=700),
        process=st.integers(min_value=0, max_value=9),
    )
    def start(self, tokens: int, process: int) -> int:
        self.number += 1
        quota = self.quotas[process % self.processes]
        taken = quota.reserve("a", self.limits, tokens, self.clock.monotonic())
        if isinstance(taken, Refusal):
            assert isinstance(self.quotas[0].quota, SharedQuota)  # only a store can be gone
        elif isinstance(taken, QuotaRefusal):
            assert 1 <= taken.retry_after_seconds <= 60
        else:
            self.started.append(self.clock.time)
            self.held[self.number] = (taken, self.clock.time, process % self.processes)
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
            reservation, at, _ = self.held.pop(number)
            actual = int(reservation.reserved_tokens * used)
            reservation.settle(actual)
            self.settled.append((at, self.clock.time, actual))

    @invariant()
    def tokens_used_and_held_stay_within_the_limit_over_every_window(self) -> None:
        held = sum(reservation.reserved_tokens for reservation, _, _ in self.held.values())
        edge = self.clock.time - 60
        by_end = sum(tokens for _, ended, tokens in self.settled if ended > edge)
        by_start = sum(tokens for began, _, tokens in self.settled if began > edge)
        assert max(by_end, by_start) + held <= 1000

    @invariant()
    def requests_stay_within_the_limit_over_every_window(self) -> None:
        assert sum(at > self.clock.time - 60 for at in self.started) <= 12
        assert len(self.held) <= 6


async def ticked(quota: SharedQuota, is_second: bool) -> None:
    """What happens in the background every quarter of a second, to its end."""
    quota._tick(is_second)
    talking = [account.talking for account in quota._accounts.values() if account.talking is not None]
    await asyncio.gather(*talking)


@pytest.mark.parametrize(
    ("name", "processes"), [("memory", 1), *[(name, count) for name in (*SHARED_STORES, "lossy") for count in (1, 3)]]
)
def test_used_and_held_never_exceed_the_limit(name, processes):
    fields = {"open": staticmethod(partial(opened, name)), "processes": processes}
    machine = type(f"Accounting_{name}", (Accounting,), fields)
    machine.TestCase.settings = settings(
        max_examples=100 if name in ("memory", "one_bank", "lossy") else 25,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    machine.TestCase("runTest").runTest()


def test_a_message_from_before_an_account_was_forgotten_changes_nothing():
    fields = {"open": staticmethod(partial(opened, "lossy")), "processes": 3}
    state = type("Accounting_lossy", (Accounting,), fields)()
    try:
        state.lose(how="lose message", process=0)
        state.start(process=1, tokens=0)
        state.lose(how="late", process=0)
        state.wait(seconds=20.0)
        first = state.start(process=0, tokens=441)
        state.start(process=1, tokens=315)
        state.top_up(number=first, tokens=245)
        state.tokens_used_and_held_stay_within_the_limit_over_every_window()
    finally:
        state.teardown()
