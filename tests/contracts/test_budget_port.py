"""What every keeper of budgets promises: nothing is spent twice, nothing is lost, and a window begins empty.

A new one joins by adding itself to `budget_keepers`. What several processes that share a store promise beside that is
in test_budget_sharing.py."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from budget_keepers import NOON, Hold, Keeper, SharedRedis, World, world
from modelport.core.budgets import Budget, window_of
from modelport.core.ports.money import BudgetRefusal
from modelport.core.ports.stages import Refusal
from modelport.stores.memory.budgets import MemoryBudgets

DAY = 86_400.0
MINE = Budget("key:k", "month", Decimal("10"))
OURS = Budget("project:p", "day", Decimal("15"), tokens=1000)
KEEPERS = ("memory", "one_bank", "sqlite", "redis")
REDIS = SharedRedis()


@pytest.fixture(scope="module", autouse=True)
def ended_redis() -> Iterator[None]:
    yield
    REDIS.end()


@pytest.fixture(params=KEEPERS)
def opened(request: pytest.FixtureRequest) -> Iterator[World]:
    with world(request.param, REDIS) as found:
        yield found


@pytest.fixture
def budgets(opened: World) -> Keeper:
    return opened.connect()


def held(budgets: Keeper, amount: str, tokens: int = 1, now: float = NOON, *of: Budget) -> Hold:
    taken = budgets.reserve(of or (MINE,), Decimal(amount), tokens, now)
    assert not isinstance(taken, BudgetRefusal | Refusal)
    return taken


def refused(budgets: Keeper, amount: str, tokens: int = 1, now: float = NOON, *of: Budget) -> BudgetRefusal:
    taken = budgets.reserve(of or (MINE,), Decimal(amount), tokens, now)
    assert isinstance(taken, BudgetRefusal)
    return taken


def test_what_is_held_counts_until_it_is_settled(budgets: Keeper) -> None:
    hold = held(budgets, "6")
    refused(budgets, "4.000001")
    hold.settle(Decimal("1.5"), 1)
    held(budgets, "8.5")
    refused(budgets, "0.000000000001")


def test_a_budget_can_be_used_to_its_last_digit(budgets: Keeper) -> None:
    for _ in range(3):
        held(budgets, "3.333333333333").settle(Decimal("3.333333333333"), 1)
    held(budgets, "0.000000000001").settle(Decimal("0.000000000001"), 1)
    refused(budgets, "0.000000000001")


def test_a_call_takes_from_all_of_its_budgets_or_from_none(budgets: Keeper) -> None:
    held(budgets, "9", 1, NOON, MINE)
    assert refused(budgets, "2", 1, NOON, MINE, OURS).budget == MINE
    held(budgets, "15", 1, NOON, OURS)
    assert refused(budgets, "1", 1, NOON, MINE, OURS).budget == OURS
    held(budgets, "1", 1, NOON, MINE)


def test_a_refusal_names_the_budget_that_begins_anew_last(budgets: Keeper) -> None:
    refusal = refused(budgets, "20", 1, NOON, OURS, MINE)
    assert (refusal.budget, refusal.resets_at) == (MINE, window_of("month", NOON).ends_at)
    assert refused(budgets, "12", 2000, NOON, OURS).resets_at == window_of("day", NOON).ends_at


def test_what_is_left_of_the_tokens_is_told(budgets: Keeper) -> None:
    money_alone = Budget("key:rich", "day", Decimal("5"))
    hold = held(budgets, "0", 400, NOON, OURS, money_alone)
    for _ in range(2):
        (left,) = budgets.budgets.states((money_alone, OURS), NOON)
        assert (left.limit_tokens, left.remaining_tokens, left.limit_requests) == (1000, 600, None)
        assert left.reset_seconds == window_of("day", NOON).ends_at - NOON
        hold.settle(Decimal(0), 400)


def test_tokens_are_a_budget_too(budgets: Keeper) -> None:
    hold = held(budgets, "0", 900, NOON, OURS)
    refused(budgets, "0", 101, NOON, OURS)
    hold.settle(Decimal(0), 950)
    held(budgets, "0", 50, NOON, OURS)


def test_what_costs_nothing_needs_no_room(budgets: Keeper) -> None:
    held(budgets, "1").settle(Decimal("11"), 1)
    held(budgets, "0", 0)
    held(budgets, "0", 5)
    refused(budgets, "0.01")


def test_what_was_used_beyond_the_hold_is_booked(budgets: Keeper) -> None:
    held(budgets, "1").settle(Decimal("9.5"), 1)
    refused(budgets, "0.6")
    held(budgets, "0.5")


def test_settling_twice_is_the_same_as_once(budgets: Keeper) -> None:
    hold = held(budgets, "5")
    hold.settle(Decimal(2), 1)
    hold.settle(Decimal(5), 1)
    held(budgets, "8")
    assert not hold.top_up(Decimal("0.1"), 1)


def test_a_top_up_is_taken_or_nothing_is(budgets: Keeper) -> None:
    hold = held(budgets, "4")
    assert not hold.top_up(Decimal("6.1"), 1)
    assert hold.top_up(Decimal("6"), 1)
    refused(budgets, "0.1")
    hold.settle(Decimal("4.5"), 2)
    held(budgets, "5.5")


def test_a_window_begins_empty_and_what_began_before_it_counts_before_it(budgets: Keeper) -> None:
    tomorrow = window_of("day", NOON).ends_at
    before = held(budgets, "15", 1, tomorrow - 0.001, OURS)
    held(budgets, "15", 1, tomorrow, OURS)
    before.settle(Decimal("14"), 1)
    refused(budgets, "1", 1, tomorrow, OURS)


def test_a_month_goes_on_when_a_day_ends(budgets: Keeper) -> None:
    held(budgets, "9", 1, NOON, MINE, OURS).settle(Decimal("9"), 1)
    held(budgets, "15", 1, NOON + DAY, OURS)
    refused(budgets, "1.1", 1, NOON + DAY, MINE)


def test_thresholds_are_told_once_in_their_order(budgets: Keeper) -> None:
    for amount in ("4.9", "0.05", "0.05", "4", "2"):
        held(budgets, "0").settle(Decimal(amount), 10)
    assert [crossed.percent for crossed in budgets.told] == [50, 80, 100]
    assert [crossed.spent for crossed in budgets.told] == [5, 9, 11]
    assert {(crossed.subject, crossed.window, crossed.amount) for crossed in budgets.told} == {
        ("key:k", "2026-11", Decimal(10))
    }
    held(budgets, "0", 0, NOON + 20 * DAY).settle(Decimal(10), 1)
    assert [crossed.percent for crossed in budgets.told[3:]] == [50, 80, 100]
    assert budgets.told[3].window == "2026-12"


def test_what_was_used_before_is_counted_and_told_to_nobody_again(opened: World) -> None:
    opened.books.add("key:k", "2026-11", Decimal("5.5"), 400)
    opened.books.add("project:p", "2026-11-21", Decimal("3"), 150)
    budgets = opened.connect()
    if isinstance(keeper := budgets.budgets, MemoryBudgets):
        keeper.restore(MINE, Decimal("5.5"), 400, NOON)
        keeper.restore(OURS, Decimal("3"), 150, NOON)
    elif opened.is_volatile:
        refusal = budgets.reserve((MINE, OURS), Decimal(1), 1, NOON)
        assert isinstance(refusal, Refusal)  # others may hold what only they know of
        opened.clock.time += 5
        budgets.tick()
        assert isinstance(budgets.reserve((OURS,), Decimal(1), 1, NOON + 5), Refusal)
        opened.clock.time += 5
        budgets.tick()
    refused(budgets, "4.6", 1, NOON, MINE)
    held(budgets, "4.5", 1, NOON, MINE).settle(Decimal("2.4"), 1)
    refused(budgets, "12.1", 1, NOON, OURS)
    refused(budgets, "0", 851, NOON, OURS)
    held(budgets, "0", 850, NOON, OURS)
    assert budgets.told == []


AMOUNTS = st.integers(min_value=0, max_value=4_000_000).map(lambda micro: Decimal(micro) / 1_000_000)


class Spending(RuleBasedStateMachine):
    """Calls that never use more than they hold, on overlapping budgets, over days."""

    name = "memory"
    precision = Decimal(0)
    holds = Bundle("holds")

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.budgets = self.stack.enter_context(world(self.name, REDIS)).connect()
        self.now = NOON
        self.spent: dict[tuple[Budget, str], Decimal] = {}
        self.held: dict[tuple[Budget, str], Decimal] = {}

    def teardown(self) -> None:
        self.stack.close()

    def add(self, sums: dict[tuple[Budget, str], Decimal], accounts: list[tuple[Budget, str]], by: Decimal) -> None:
        for account in accounts:
            sums[account] = sums.get(account, Decimal(0)) + by

    @rule(target=holds, amount=AMOUNTS, of=st.sampled_from([(MINE,), (OURS,), (MINE, OURS)]))
    def reserve(self, amount: Decimal, of: tuple[Budget, ...]) -> Any:
        accounts = [(budget, window_of(budget.per, self.now).name) for budget in of]
        room = min(
            (account[0].amount or 0) - self.spent.get(account, Decimal(0)) - self.held.get(account, Decimal(0))
            for account in accounts
        )
        taken = self.budgets.reserve(of, amount, 0, self.now)
        assert not isinstance(taken, Refusal)
        if isinstance(taken, BudgetRefusal):
            assert amount > room - self.precision
            return multiple()
        assert not amount or amount <= room
        self.add(self.held, accounts, amount)
        return taken, accounts, amount

    @rule(hold=consumes(holds), part=st.integers(min_value=0, max_value=100))
    def settle(self, hold: Any, part: int) -> None:
        taken, accounts, amount = hold
        used = amount * part / 100
        taken.settle(used, 0)
        self.add(self.held, accounts, -amount)
        self.add(self.spent, accounts, used)

    @rule(hours=st.integers(min_value=1, max_value=200))
    def wait(self, hours: int) -> None:
        self.now += hours * 3600

    @invariant()
    def nothing_is_exceeded_and_the_sums_agree(self) -> None:
        for account in {*self.spent, *self.held}:
            budget, window = account
            assert budget.amount is not None
            spent = self.spent.get(account, Decimal(0))
            assert spent + self.held.get(account, Decimal(0)) <= budget.amount
            if window == window_of(budget.per, self.now).name:
                assert 0 <= spent - self.budgets.spent(budget, self.now)[0] <= self.precision


@pytest.mark.parametrize("name", KEEPERS)
def test_spent_and_held_never_exceed_a_budget_and_what_fits_is_given(name: str) -> None:
    fields = {"name": name, "precision": Decimal(0) if name == "memory" else Decimal("0.000003")}
    machine = type(f"Spending_{name}", (Spending,), fields)
    machine.TestCase.settings = settings(
        max_examples=60 if name in ("memory", "one_bank") else 15,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    machine.TestCase("runTest").runTest()
