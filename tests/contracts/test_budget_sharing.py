"""Budgets that several processes share: what each store promises them together, whoever dies and whatever is lost."""

from __future__ import annotations

import asyncio
import copy
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from decimal import Decimal
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule
from redis.asyncio import Redis

from budget_keepers import NOON, Books, FaultyBank, Keeper, SettableClock, SharedRedis, World, world
from modelport.core.budgets import Budget, window_of
from modelport.core.ports.money import BudgetRefusal
from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.stores.budgets import Ask, MemoryBank, SharedBudgets, Sum
from modelport.stores.budgets.bank import RECOVERY_MS, State, exchanged
from modelport.stores.redis.budgets import RedisBudgetBank

REDIS = SharedRedis()
STORES = ("one_bank", "sqlite", "redis")
MINE = Budget("key:k", "month", Decimal("100"))
TOKENS = Budget("key:k", "day", tokens=1000)


@pytest.fixture(scope="module", autouse=True)
def ended_redis() -> Iterator[None]:
    yield
    REDIS.end()


@pytest.fixture(params=STORES)
def opened(request: pytest.FixtureRequest) -> Iterator[World]:
    with world(request.param, REDIS) as found:
        yield found


@pytest.fixture
def faulty() -> Iterator[tuple[World, FaultyBank]]:
    banks: list[FaultyBank] = []

    def bank(clock: SettableClock) -> FaultyBank:
        banks.append(FaultyBank(clock))
        return banks[0]

    with world("faulty", REDIS, bank) as found:
        yield found, banks[0]


def take(keeper: Keeper, amount: str, tokens: int = 0, *of: Budget) -> Any:
    return keeper.reserve(of or (MINE,), Decimal(amount), tokens, keeper.clock.now())


def is_refused(keeper: Keeper, amount: str, tokens: int = 0, *of: Budget) -> bool:
    return isinstance(take(keeper, amount, tokens, *of), BudgetRefusal)


def idle(*keepers: Keeper) -> None:
    """Nobody has called for a while."""
    keepers[0].clock.time += 3
    for _ in range(2):
        for keeper in keepers:
            keeper.tick()


def test_processes_share_one_budget(opened: World) -> None:
    first, second = opened.connect(), opened.connect()
    take(first, "60").settle(Decimal(60), 0)
    idle(first, second)
    assert is_refused(second, "41")
    take(second, "40").settle(Decimal(40), 0)
    opened.clock.time += 1
    assert is_refused(first, "0.000001")


def test_tokens_are_shared_too(opened: World) -> None:
    first, second = opened.connect(), opened.connect()
    take(first, "0", 600, TOKENS).settle(Decimal(0), 600)
    idle(first, second)
    assert is_refused(second, "0", 401, TOKENS)
    assert not is_refused(second, "0", 400, TOKENS)


def test_what_one_process_gives_back_another_can_use(opened: World) -> None:
    first, second = opened.connect(), opened.connect()
    hold = take(first, "100")
    assert is_refused(second, "90")
    first.tells = False
    hold.settle(Decimal(5), 0)
    idle(first, second)
    assert not is_refused(second, "95")


def test_most_calls_are_met_without_asking(faulty: tuple[World, FaultyBank]) -> None:
    world, bank = faulty
    keeper = world.connect()
    keeper.tells = False
    for number in range(200):
        take(keeper, "0.01").settle(Decimal("0.002"), 0)
        if number % 50 == 49:
            world.clock.time += 0.25
            keeper.tick()
    assert len(bank.messages) < 20


def test_a_dead_process_counts_with_all_that_it_held_until_the_window_ends(opened: World) -> None:
    first, second = opened.connect(), opened.connect()
    take(first, "0", 700, TOKENS)
    opened.die(first)
    opened.clock.time += 7200  # it is not heard of any more, and folded into the past
    take(second, "0", 200, TOKENS).settle(Decimal(0), 200)
    assert is_refused(second, "0", 101, TOKENS)
    assert not is_refused(second, "0", 100, TOKENS)
    opened.clock.time = window_of("day", NOON).ends_at
    assert not is_refused(second, "0", 1000, TOKENS)


def test_a_dead_process_takes_a_small_part_of_what_was_left_along_however_busy_it_was(opened: World) -> None:
    first, second = opened.connect(), opened.connect()
    take(second, "1").settle(Decimal(1), 0)
    first.tells = False
    for number in range(1, 50):
        take(first, "1").settle(Decimal(1), 0)
        if number % 10 == 0:
            opened.clock.time += 0.25
            first.tick(number % 40 == 0)
    opened.die(first)
    assert not is_refused(second, "46")  # of fifty that are left


def test_a_process_that_was_taken_for_dead_is_counted_once(opened: World) -> None:
    first, second = opened.connect(), opened.connect()
    hold = take(first, "30")
    for _ in range(3):  # the others go on
        opened.clock.time += 3000
        take(second, "1").settle(Decimal(1), 0)
    hold.settle(Decimal(20), 0)
    idle(first, second)
    opened.clock.time += 3
    # Ten of its thirty are lost until the month ends: nobody could know.
    spent = second.spent(MINE, opened.clock.now())[0]
    assert 23 <= spent <= 34
    assert not is_refused(second, "65")


def test_a_closed_process_leaves_everything_to_the_others(opened: World) -> None:
    first, second = opened.connect(), opened.connect()
    take(first, "10").settle(Decimal(10), 0)
    first.run(first.budgets.close())  # type: ignore[union-attr]
    opened.keepers.remove(first)
    assert not is_refused(second, "90")


@pytest.mark.parametrize("name", ["sqlite", "redis"])
def test_a_store_remembers_over_a_restart_of_everybody(name: str) -> None:
    with world(name, REDIS) as opened:
        before = opened.connect()
        take(before, "70").settle(Decimal(70), 0)
        before.run(before.budgets.close())  # type: ignore[union-attr]
        opened.keepers.clear()
        opened.books.add("key:k", "2026-11", Decimal(70))  # which the ledger knows as well
        assert is_refused(opened.connect(), "30.1")


def test_every_ledger_is_asked_once_for_what_was_used_before(opened: World) -> None:
    other = Books("other")
    other.add("key:k", "2026-11", Decimal(25))
    opened.books.add("key:k", "2026-11", Decimal(50))
    first, second, third = opened.connect(), opened.connect(), opened.connect(other)
    for _ in range(2):
        for keeper in (first, second, third):
            take(keeper, "1")
        opened.clock.time += 5
    assert (opened.books.questions, other.questions) == (1, 1)
    assert third.spent(MINE, opened.clock.now())[0] == 75


def test_thresholds_are_told_by_one_process(opened: World) -> None:
    keepers = [opened.connect() for _ in range(3)]
    for keeper in keepers * 3:
        take(keeper, "10").settle(Decimal(10), 0)
    idle(*keepers)
    told = [(crossed.percent, crossed.spent) for keeper in keepers for crossed in keeper.told]
    assert sorted(told) == [(50, 50), (80, 80)]


def test_a_threshold_whose_answer_was_lost_is_told_all_the_same(faulty: tuple[World, FaultyBank]) -> None:
    world, bank = faulty
    first, second = world.connect(), world.connect()
    second_hold = take(second, "5")
    first.tells = False
    take(first, "60").settle(Decimal(55), 0)
    bank.next = "lose answer"
    first.tell()
    second_hold.settle(Decimal(5), 0)
    assert (first.told, second.told) == ([], [])
    world.clock.time += 1
    first.tick()
    first.tick()
    assert [crossed.percent for crossed in first.told] == [50]


# --- stores in trouble ------------------------------------------------------------------------------------------------


def gone(bank: FaultyBank, keeper: Keeper) -> None:
    """The store does not answer any more, and it is noticed."""
    bank.is_gone = True
    keeper.tell()


def test_without_a_store_what_is_held_may_be_spent_and_then_calls_are_refused(
    faulty: tuple[World, FaultyBank],
) -> None:
    world, bank = faulty
    keeper = world.connect()
    take(keeper, "10").settle(Decimal(1), 0)
    gone(bank, keeper)
    budgets = keeper.budgets
    assert isinstance(budgets, SharedBudgets) and budgets.is_degraded
    keeper.tells = False
    while not isinstance(taken := take(keeper, "1"), Refusal):
        taken.settle(Decimal(1), 0)
    assert (taken.error.status, taken.error.retry_after) == (503, 1)
    assert 1 < keeper.spent(MINE, NOON)[0] < 50
    bank.is_gone = False
    world.clock.time += 1
    keeper.tick()
    assert not budgets.is_degraded
    assert not isinstance(take(keeper, "1"), Refusal)


def test_a_budget_may_let_calls_pass_without_a_store_and_books_them_afterwards(
    faulty: tuple[World, FaultyBank],
) -> None:
    world, bank = faulty
    keeper = world.connect()
    lenient = Budget("key:k", "month", Decimal("100"), on_store_outage="allow")
    strict = Budget("project:p", "day", Decimal("100"))
    take(keeper, "1", 0, lenient, strict)
    gone(bank, keeper)
    keeper.tells = False
    assert isinstance(take(keeper, "99", 0, lenient, strict), Refusal)
    for _ in range(3):
        take(keeper, "50", 0, lenient).settle(Decimal(50), 0)
    bank.is_gone = False
    world.clock.time += 1
    keeper.tick()
    keeper.tick()
    assert is_refused(world.connect(), "1", 0, lenient)
    assert keeper.spent(lenient, NOON)[0] == 150


def test_a_ledger_that_does_not_answer_refuses_until_it_does(faulty: tuple[World, FaultyBank]) -> None:
    world, _ = faulty
    world.books.is_gone = True
    keeper = world.connect()
    budgets = keeper.budgets
    assert isinstance(take(keeper, "1"), Refusal)
    assert isinstance(budgets, SharedBudgets) and budgets.is_unread
    world.books.is_gone = False
    world.clock.time += 3
    keeper.tick()
    assert not isinstance(take(keeper, "1"), Refusal | BudgetRefusal)


def test_a_store_that_lost_its_data_begins_with_the_ledger_and_what_processes_hold() -> None:
    clock = SettableClock()
    url, prefix = REDIS.url, f"modelport:test:{secrets.token_hex(8)}:"

    async def flushed() -> None:
        async with Redis.from_url(url) as client:
            await client.delete(*await client.keys(f"{prefix}*"))

    with world("redis", REDIS, lambda clock: RedisBudgetBank(url, prefix=prefix, now_ms=clock.milliseconds)) as opened:
        clock = opened.clock
        first, second = opened.connect(), opened.connect()
        take(first, "20").settle(Decimal(20), 0)
        hold = take(second, "30")
        opened.books.add("key:k", "2026-11", Decimal(20))
        first.run(flushed())
        opened.connect()
        assert isinstance(take(first, "49"), Refusal)  # who knows what others hold?
        for _ in range(4):
            clock.time += 2.6
            first.tick()
            second.tick()
        assert is_refused(first, "50.1")
        hold.settle(Decimal(10), 0)
        idle(first, second)
        assert not is_refused(first, "69")


def test_a_refused_call_waits_a_moment_for_what_others_only_keep() -> None:
    async def let_go(second: SharedBudgets, clock: SettableClock) -> None:
        while True:
            await asyncio.sleep(0.02)
            clock.time += 0.1
            second._tick(False)

    with world("one_bank", REDIS) as opened:
        first, second = opened.connect(attempts=10), opened.connect()
        take(second, "50").settle(Decimal(1), 0)
        assert isinstance(second.budgets, SharedBudgets)

        async def both() -> Any:
            waiting = first.budgets.reserve((MINE,), Decimal(90), 0, NOON)
            assert isinstance(waiting, NeedsWaiting)
            letting = asyncio.create_task(let_go(second.budgets, opened.clock))  # type: ignore[arg-type]
            try:
                return await waiting.resume()
            finally:
                letting.cancel()

        assert not isinstance(first.run(both()), BudgetRefusal | Refusal)


# --- arithmetic -------------------------------------------------------------------------------------------------------

sums = st.builds(Sum, money=st.integers(0, 2_000_000), tokens=st.integers(0, 2_000))
limits = st.builds(
    Sum, money=st.sampled_from([-1, 1_000_000, 3_333_333]), tokens=st.sampled_from([-1, 700, 5_000])
).filter(lambda one: one != Sum(-1, -1))


@st.composite
def messages(draw: st.DrawFn) -> tuple[Ask, int]:
    need = draw(sums)
    extra = draw(sums)
    ask = Ask(
        subject="s",
        window="w",
        lasts_ms=draw(st.integers(-1000, 10**9)),
        holder=draw(st.sampled_from("abc")),
        number=draw(st.integers(1, 30)),
        epoch=draw(st.sampled_from(["", "", "e", "e", "e", "f"])),
        fresh_epoch="e",
        ledger=draw(st.sampled_from(["l", "l", "m"])),
        seed=draw(st.sampled_from([(), (Sum(0, 0),), (Sum(250_000, 100),)])),
        spent=draw(sums),
        keep=draw(sums),
        idle=draw(sums),
        need=need,
        want=need + extra,
        limits=draw(limits),
        heard=draw(st.integers(0, 30)),
        lifetime_ms=10_000,
    )
    return ask, draw(st.sampled_from([0, 100, 3_000, 4_000, 12_000, 3_700_000]))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(messages(), min_size=1, max_size=25))
def test_redis_counts_as_the_others_do(said: list[tuple[Ask, int]]) -> None:
    now = 1_795_262_400_000
    state: State | None = None

    async def compared() -> None:
        nonlocal now, state
        bank = RedisBudgetBank(REDIS.url, prefix=f"modelport:test:{secrets.token_hex(8)}:", now_ms=lambda: now)
        for ask, passed in said:
            now += passed
            state, expected = exchanged(copy.deepcopy(state), ask, now, RECOVERY_MS)
            assert await bank.exchange(ask) == expected
            decoded = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=State | None)
            assert decoded == state
        await bank.close()

    asyncio.run(compared())


# --- any order of events ----------------------------------------------------------------------------------------------

AMOUNTS = st.integers(min_value=0, max_value=40_000_000).map(lambda micro: Decimal(micro) / 1_000_000)
DAILY = Budget("project:p", "day", Decimal("120"), tokens=1500)


class Sharing(RuleBasedStateMachine):
    """Three processes whose calls never use more than they hold; they die, messages are lost, late and doubled."""

    name = "one_bank"
    bank: Callable[[SettableClock], Any] | None = None
    holds = Bundle("holds")

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.world = self.stack.enter_context(world(self.name, REDIS, type(self).bank))
        self.keepers = [self.world.connect() for _ in range(3)]
        for keeper in self.keepers:
            keeper.tells = False
        self.used: dict[tuple[Budget, str], list[Decimal | int]] = {}
        self.running: dict[int, tuple[Any, list[tuple[Budget, str]], Decimal, int, Keeper]] = {}
        self.number = 0

    def teardown(self) -> None:
        self.stack.close()

    @rule(
        target=holds,
        amount=AMOUNTS,
        tokens=st.integers(0, 700),
        of=st.sampled_from([(MINE,), (DAILY,), (MINE, DAILY)]),
        process=st.integers(0, 2),
    )
    def start(self, amount: Decimal, tokens: int, of: tuple[Budget, ...], process: int) -> Any:
        keeper, now = self.keepers[process], self.world.clock.now()
        taken = keeper.reserve(of, amount, tokens, now)
        if isinstance(taken, BudgetRefusal | Refusal):
            return multiple()
        self.number += 1
        accounts = [(budget, window_of(budget.per, now).name) for budget in of]
        self.running[self.number] = (taken, accounts, amount, tokens, keeper)
        return self.number

    @rule(number=holds, amount=AMOUNTS, tokens=st.integers(0, 200))
    def top_up(self, number: int, amount: Decimal, tokens: int) -> None:
        if number in self.running:
            hold, accounts, held, held_tokens, keeper = self.running[number]
            if hold.top_up(amount, tokens):
                self.running[number] = (hold, accounts, held + amount, held_tokens + tokens, keeper)

    @rule(number=consumes(holds), part=st.integers(0, 100))
    def settle(self, number: int, part: int) -> None:
        if number in self.running:
            hold, accounts, amount, tokens, _ = self.running.pop(number)
            hold.settle(amount * part / 100, tokens * part // 100)
            self.use(accounts, amount * part / 100, tokens * part // 100)

    @rule(process=st.integers(0, 2))
    def die(self, process: int) -> None:
        """Its calls are charged with all that they held, by the ledger as well."""
        keeper = self.keepers[process]
        for number, (_, accounts, amount, tokens, owner) in list(self.running.items()):
            if owner is keeper:
                del self.running[number]
                self.use(accounts, amount, tokens)
        self.world.die(keeper)
        self.keepers[process] = self.world.connect()
        self.keepers[process].tells = False

    @rule(seconds=st.sampled_from([0.3, 3.0, 30.0, 5_000.0, 40_000.0]), ticks=st.lists(st.integers(0, 2), max_size=6))
    def wait(self, seconds: float, ticks: list[int]) -> None:
        self.world.clock.time += seconds
        for process in ticks:
            self.keepers[process].tick()

    @rule(process=st.integers(0, 2), how=st.sampled_from(["lose message", "lose answer", "late"]))
    def lose(self, process: int, how: Literal["lose message", "lose answer", "late"]) -> None:
        budgets = self.keepers[process].budgets
        if isinstance(budgets, SharedBudgets) and isinstance(bank := budgets._bank, FaultyBank):
            bank.next = how

    @rule(first=st.integers(0, 2))
    def lose_data(self, first: int) -> None:
        """Everybody is there, and says what it holds before anything is granted."""
        keeper = self.keepers[first]
        budgets = keeper.budgets
        if not isinstance(budgets, SharedBudgets) or not isinstance(bank := budgets._bank, FaultyBank):
            return
        bank.late.clear()
        bank.next = "answer"
        bank.lose_data()
        for step in range(16):
            self.world.clock.time += 0.4
            self.keepers[(first + step) % 3].tick()

    def use(self, accounts: list[tuple[Budget, str]], amount: Decimal, tokens: int) -> None:
        for budget, window in accounts:
            sums = self.used.setdefault((budget, window), [Decimal(0), 0])
            sums[0] += amount
            sums[1] += tokens
            self.world.books.add(budget.subject, window, amount, tokens)

    @invariant()
    def used_and_held_stay_within_every_budget(self) -> None:
        totals = {account: list(sums) for account, sums in self.used.items()}
        for _, accounts, amount, tokens, _ in self.running.values():
            for account in accounts:
                sums = totals.setdefault(account, [Decimal(0), 0])
                sums[0] += amount
                sums[1] += tokens
        for (budget, _), (amount, tokens) in totals.items():
            assert budget.amount is None or amount <= budget.amount
            assert budget.tokens is None or tokens <= budget.tokens


@pytest.mark.parametrize("name", [*STORES, "faulty"])
def test_used_and_held_never_exceed_a_budget_whoever_dies(name: str) -> None:
    fields = {"name": name, "bank": staticmethod(FaultyBank) if name == "faulty" else None}
    machine = type(f"Sharing_{name}", (Sharing,), fields)
    machine.TestCase.settings = settings(
        max_examples=80 if name in ("one_bank", "faulty") else 8,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    machine.TestCase("runTest").runTest()


def test_a_bank_forgets_windows_that_are_over() -> None:
    clock = SettableClock()
    bank = MemoryBank(clock)
    ask = Ask(
        subject="s", window="w", lasts_ms=1000, holder="h", number=1, epoch="", fresh_epoch="e", ledger="l",
        seed=(Sum(),), spent=Sum(5, 5), keep=Sum(), idle=Sum(), need=Sum(), want=Sum(), limits=Sum(10, 10), heard=0,
        lifetime_ms=1000,
    )  # fmt: skip
    bank.exchanged(ask)
    clock.time += 100_000
    bank.exchanged(msgspec.structs.replace(ask, window="x"))
    assert bank.exchanged(msgspec.structs.replace(ask, seed=(), number=2)).status == "unknown"


def test_redis_forgets_a_window_a_day_after_it() -> None:
    async def left_ms() -> int:
        prefix = f"modelport:test:{secrets.token_hex(8)}:"
        bank = RedisBudgetBank(REDIS.url, prefix=prefix)
        try:
            ask = Ask(
                subject="key:k", window="2026-11-21", lasts_ms=60_000, holder="h", number=1, epoch="", fresh_epoch="e",
                ledger="l", seed=(Sum(),), spent=Sum(5, 5), keep=Sum(), idle=Sum(), need=Sum(), want=Sum(),
                limits=Sum(10, 10), heard=0, lifetime_ms=1000,
            )  # fmt: skip
            assert (await bank.exchange(ask)).total == Sum(5, 5)
            async with Redis.from_url(REDIS.url) as client:
                (key,) = await client.keys(f"{prefix}*")
                assert key.decode() == f"{prefix}key:k:2026-11-21"
                return int(await client.pttl(key))
        finally:
            await bank.close()

    assert 86_400_000 < asyncio.run(left_ms()) <= 86_460_000
