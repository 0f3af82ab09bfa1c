"""What every keeper of budgets promises: nothing is spent twice, nothing is lost, and a window begins empty."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from modelport.core.budgets import Budget, BudgetCrossed, window_of
from modelport.core.ports import BudgetHold, BudgetRefusal, Budgets, Refusal
from modelport.core.usage import TokenUsage, UsageRecord
from modelport.stores.memory.budgets import MemoryBudgets

NOON = 1_795_262_400.0
"""2026-11-21T12:00:00Z"""
DAY = 86_400.0
MINE = Budget("key:k", "month", Decimal("10"))
OURS = Budget("project:p", "day", Decimal("15"), tokens=1000)

KEEPERS: dict[str, Callable[[], Budgets]] = {"memory": MemoryBudgets}


@pytest.fixture(params=KEEPERS)
def budgets(request: pytest.FixtureRequest) -> Budgets:
    return KEEPERS[request.param]()


def held(budgets: Budgets, amount: str, tokens: int = 1, now: float = NOON, *of: Budget) -> BudgetHold:
    taken = budgets.reserve(of or (MINE,), Decimal(amount), tokens, now)
    assert not isinstance(taken, BudgetRefusal | Refusal)
    return taken


def refused(budgets: Budgets, amount: str, tokens: int = 1, now: float = NOON, *of: Budget) -> BudgetRefusal:
    taken = budgets.reserve(of or (MINE,), Decimal(amount), tokens, now)
    assert isinstance(taken, BudgetRefusal)
    return taken


def record(cost: str | None, tokens: int, started_at: float = NOON, **fields: Any) -> UsageRecord:
    about = {"principal": "K", "project": "P", "deployment": "D", **fields}
    return UsageRecord(
        id="c",
        started_at=started_at,
        key_id=None,
        surface="openai_v1",
        operation="chat_completions",
        streamed=False,
        requested_model=None,
        usage=TokenUsage(output=tokens),
        cost=cost,
        **about,
    )


def test_what_is_held_counts_until_it_is_settled(budgets: Budgets) -> None:
    hold = held(budgets, "6")
    refused(budgets, "4.000001")
    hold.settle(Decimal("1.5"), 1)
    held(budgets, "8.5")
    refused(budgets, "0.000000000001")


def test_a_budget_can_be_used_to_its_last_digit(budgets: Budgets) -> None:
    for _ in range(3):
        held(budgets, "3.333333333333").settle(Decimal("3.333333333333"), 1)
    held(budgets, "0.000000000001").settle(Decimal("0.000000000001"), 1)
    refused(budgets, "0.000000000001")


def test_a_call_takes_from_all_of_its_budgets_or_from_none(budgets: Budgets) -> None:
    held(budgets, "9", 1, NOON, MINE)
    assert refused(budgets, "2", 1, NOON, MINE, OURS).budget == MINE
    held(budgets, "15", 1, NOON, OURS)
    assert refused(budgets, "1", 1, NOON, MINE, OURS).budget == OURS
    held(budgets, "1", 1, NOON, MINE)


def test_a_refusal_names_the_budget_that_begins_anew_last(budgets: Budgets) -> None:
    refusal = refused(budgets, "20", 1, NOON, OURS, MINE)
    assert (refusal.budget, refusal.resets_at) == (MINE, window_of("month", NOON).ends_at)
    assert refused(budgets, "12", 2000, NOON, OURS).resets_at == window_of("day", NOON).ends_at


def test_tokens_are_a_budget_too(budgets: Budgets) -> None:
    hold = held(budgets, "0", 900, NOON, OURS)
    refused(budgets, "0", 101, NOON, OURS)
    hold.settle(Decimal(0), 950)
    held(budgets, "0", 50, NOON, OURS)


def test_what_costs_nothing_needs_no_room(budgets: Budgets) -> None:
    held(budgets, "1").settle(Decimal("11"), 1)
    held(budgets, "0", 0)
    held(budgets, "0", 5)
    refused(budgets, "0.01")


def test_what_was_used_beyond_the_hold_is_booked(budgets: Budgets) -> None:
    held(budgets, "1").settle(Decimal("9.5"), 1)
    refused(budgets, "0.6")
    held(budgets, "0.5")


def test_settling_twice_is_the_same_as_once(budgets: Budgets) -> None:
    hold = held(budgets, "5")
    hold.settle(Decimal(2), 1)
    hold.settle(Decimal(5), 1)
    held(budgets, "8")
    assert not hold.top_up(Decimal("0.1"), 1)


def test_a_top_up_is_taken_or_nothing_is(budgets: Budgets) -> None:
    hold = held(budgets, "4")
    assert not hold.top_up(Decimal("6.1"), 1)
    assert hold.top_up(Decimal("6"), 1)
    refused(budgets, "0.1")
    hold.settle(Decimal("4.5"), 2)
    held(budgets, "5.5")


def test_a_window_begins_empty_and_what_began_before_it_counts_before_it(budgets: Budgets) -> None:
    tomorrow = window_of("day", NOON).ends_at
    before = held(budgets, "15", 1, tomorrow - 0.001, OURS)
    held(budgets, "15", 1, tomorrow, OURS)
    before.settle(Decimal("14"), 1)
    refused(budgets, "1", 1, tomorrow, OURS)


def test_a_month_goes_on_when_a_day_ends(budgets: Budgets) -> None:
    held(budgets, "9", 1, NOON, MINE, OURS).settle(Decimal("9"), 1)
    held(budgets, "15", 1, NOON + DAY, OURS)
    refused(budgets, "1.1", 1, NOON + DAY, MINE)


def test_thresholds_are_told_once_in_their_order(budgets: Budgets) -> None:
    told: list[BudgetCrossed] = []
    budgets.on_crossing(told.append)
    for amount in ("4.9", "0.05", "0.05", "4", "2"):
        held(budgets, "0.01").settle(Decimal(amount), 10)
    assert [crossed.percent for crossed in told] == [50, 80, 100]
    assert [str(crossed.spent) for crossed in told] == ["5.00", "9.00", "11.00"]
    assert {(crossed.subject, crossed.window, crossed.amount) for crossed in told} == {
        ("key:k", "2026-11", Decimal(10))
    }
    held(budgets, "0", 0, NOON + 20 * DAY).settle(Decimal(10), 1)
    assert [crossed.percent for crossed in told[3:]] == [50, 80, 100]
    assert told[3].window == "2026-12"


def test_a_restart_forgets_nothing_of_the_window_and_tells_nothing_again(budgets: Budgets) -> None:
    told: list[BudgetCrossed] = []
    records = [
        record("3", 100),
        record("2.5", 300, NOON - 2 * DAY),
        record("4", 100, NOON - 30 * DAY),
        record(None, 50),
        record("1", 500, principal="else"),
        record("7", 1, principal="else", project=None),
    ]
    budgets.restore((MINE, OURS), records, NOON)
    budgets.on_crossing(told.append)
    refused(budgets, "4.6", 1, NOON, MINE)
    held(budgets, "4.5", 1, NOON, MINE).settle(Decimal("2.4"), 1)
    refused(budgets, "11.1", 1, NOON, OURS)
    refused(budgets, "0", 351, NOON, OURS)
    held(budgets, "0", 350, NOON, OURS)
    assert told == []


AMOUNTS = st.integers(min_value=0, max_value=4_000_000).map(lambda micro: Decimal(micro) / 1_000_000)


class Spending(RuleBasedStateMachine):
    """Calls that never use more than they hold, on overlapping budgets, over days."""

    holds = Bundle("holds")

    def __init__(self) -> None:
        super().__init__()
        self.budgets = MemoryBudgets()
        self.now = NOON
        self.spent: dict[tuple[Budget, str], Decimal] = {}
        self.held: dict[tuple[Budget, str], Decimal] = {}

    def add(self, sums: dict[tuple[Budget, str], Decimal], accounts: list[tuple[Budget, str]], by: Decimal) -> None:
        for account in accounts:
            sums[account] = sums.get(account, Decimal(0)) + by

    @rule(target=holds, amount=AMOUNTS, of=st.sampled_from([(MINE,), (OURS,), (MINE, OURS)]))
    def reserve(self, amount: Decimal, of: tuple[Budget, ...]) -> Any:
        accounts = [(budget, window_of(budget.per, self.now).name) for budget in of]
        fits = all(
            not amount
            or self.spent.get(account, Decimal(0)) + self.held.get(account, Decimal(0)) + amount
            <= (account[0].amount or 0)
            for account in accounts
        )
        taken = self.budgets.reserve(of, amount, 0, self.now)
        assert isinstance(taken, BudgetRefusal) != fits
        if isinstance(taken, BudgetRefusal):
            return multiple()
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
                assert self.budgets.spent(budget, self.now)[0] == spent


TestSpending = Spending.TestCase
TestSpending.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
