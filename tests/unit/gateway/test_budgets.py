"""Costs in records, and budgets at admission: over the real quota, budgets, price book and journal."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from plans import ALICE, Parts, facts_of, plan_of

from modelport.control.prices import Book, OwnList, OwnRow
from modelport.core.budgets import Budget, BudgetCrossed
from modelport.core.catalog import Deployment, Model, RateLimits, Sku, Snapshot, Target
from modelport.core.content import Message
from modelport.core.errors import ModelportError, Unavailable
from modelport.core.events import ChoiceFinished, FinishReason, TextDelta, UsageReported
from modelport.core.limit_errors import BudgetExhausted, PriceUnknown, RateLimited
from modelport.core.operations import Operation
from modelport.core.ports.records import UnknownCaller
from modelport.core.pricing import ServiceTier, UnpricedPolicy
from modelport.core.requests import ChatRequest
from modelport.core.usage import Ending, Pricing, TokenUsage, UsageRecord
from modelport.gateway.admissions import Admissions
from modelport.gateway.admit import admit
from modelport.gateway.count import Count
from modelport.gateway.facts import CallFacts, record_refusal
from modelport.gateway.lease import CallLease
from modelport.gateway.plan import CallPlan
from modelport.stores.journal import FileJournal
from modelport.stores.memory.budgets import MemoryBudgets
from modelport.stores.memory.quota import MemoryQuota
from usage_records import read_lines

HOUSE = Target("house", "m")
OTHER = Target("other", "m")
MINE = Budget("key:alice", "month", Decimal("1"))
START = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()


class SettableClock:
    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return START + self.time - 1000.0

    def monotonic(self) -> float:
        return self.time


class Seen:
    def __init__(self) -> None:
        self.ended: list[UsageRecord] = []

    def call_started(self, operation: Operation, surface: str) -> None:
        pass

    def call_ended(self, record: UsageRecord, unknown: UnknownCaller | None = None) -> None:
        self.ended.append(record)


class House:
    """One process that knows what `m` costs: 1 for a thousand tokens of prompt, 2 for a thousand of answer."""

    def __init__(self, directory: Path, unpriced: UnpricedPolicy = "allow", *rows: OwnRow) -> None:
        self.clock = SettableClock()
        self.directory = directory
        self.journal = FileJournal(directory)
        self.seen = Seen()
        self.budgets = MemoryBudgets()
        self.admissions = Admissions(MemoryQuota(self.clock), self.clock)
        self.admissions.budgets = self.budgets
        listed = rows or (OwnRow(model="m", input=Decimal(1000), output=Decimal(2000), cached_input=Decimal(100)),)
        self.book = Book(None, OwnList(prices=listed), unpriced=unpriced)
        self.number = 0

    def facts(self, *budgets: Budget, **fields: Any) -> tuple[CallPlan, CallFacts]:
        self.number += 1
        about: dict[str, Any] = {"model": Model("Custom", "m"), "targets": (HOUSE,), "limits": RateLimits(), **fields}
        deployment = Deployment(name="Gpt", **about)
        snapshot = Snapshot(id="s1", deployments={"gpt": deployment}, reserve_tokens=100, prices=self.book)
        plan = plan_of(deployment, snapshot, replace(ALICE, project="research", budgets=budgets))
        return plan, facts_of(plan, self.clock, f"call-{self.number}")

    def admit(self, request: ChatRequest, *budgets: Budget, **fields: Any) -> Any:
        plan, facts = self.facts(*budgets, **fields)
        return admit(plan, request, facts, Parts(self.admissions, self.journal, self.seen, self.clock))

    def lease(self, request: ChatRequest, *budgets: Budget, **fields: Any) -> CallLease:
        lease = self.admit(request, *budgets, **fields)
        assert isinstance(lease, CallLease)
        return lease

    def refusal(self, request: ChatRequest, *budgets: Budget, **fields: Any) -> ModelportError:
        refused = self.admit(request, *budgets, **fields)
        assert not isinstance(refused, CallLease)
        error: ModelportError = refused.error
        return error

    def record(self, lease: CallLease, usage: TokenUsage, ending: str = Ending.COMPLETED, **fields: Any) -> UsageRecord:
        lease.target = fields.pop("target", HOUSE)
        lease.settle(ending, usage, **fields)
        return self.seen.ended[-1]

    def spent(self, budget: Budget = MINE) -> Decimal:
        return self.budgets.spent(budget, self.clock.now())[0]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.journal.stop()


def chat(text: str = "Hello there", **fields: Any) -> ChatRequest:
    return ChatRequest(messages=(Message(role="user", content=text),), body_bytes=30 + len(text.encode()), **fields)


# --- what a record says -----------------------------------------------------------------------------------------------


def test_a_record_says_what_the_call_has_cost_and_by_which_list(house: House) -> None:
    record = house.record(house.lease(chat()), TokenUsage(input=9, cached_input=3, output=2))
    assert (record.cost, record.currency, record.pricing) == ("0.0133", "USD", Pricing.PRICED)
    assert (record.price_version, record.project, record.provider) == (house.book.version, "research", "house")


def test_the_target_that_has_answered_is_the_one_that_is_paid(tmp_path: Path) -> None:
    rows = [
        OwnRow(provider=name, input=Decimal(price), output=Decimal(0)) for name, price in (("house", 1), ("other", 5))
    ]
    house = House(tmp_path, "allow", *rows)
    lease = house.lease(chat(), targets=(HOUSE, OTHER))
    lease.target = HOUSE
    record = house.record(lease, TokenUsage(input=1_000_000), target=OTHER)
    assert (record.cost, record.provider) == ("5", "other")
    house.journal.stop()


def test_an_unknown_price_is_unpriced_and_never_nothing(tmp_path: Path) -> None:
    house = House(tmp_path, "allow", OwnRow(model="else", input=Decimal(1)))
    record = house.record(house.lease(chat()), TokenUsage(input=9, output=2))
    assert (record.cost, record.currency, record.pricing) == (None, None, Pricing.UNPRICED)
    assert record.price_version == house.book.version
    house.journal.stop()


def test_a_class_of_token_without_a_price_makes_the_record_unpriced(house: House) -> None:
    record = house.record(house.lease(chat()), TokenUsage(input=9, output=2, audio_output=1))
    assert (record.cost, record.pricing) == (None, Pricing.UNPRICED)


def test_a_price_of_nothing_is_free_because_a_list_says_so(tmp_path: Path) -> None:
    house = House(tmp_path, "allow", OwnRow(model="m", input=Decimal(0), output=Decimal(0)))
    record = house.record(house.lease(chat()), TokenUsage(input=9, output=2))
    assert (record.cost, record.pricing) == ("0", Pricing.FREE)
    house.journal.stop()


def test_a_call_that_came_to_nothing_is_free_whatever_the_model(tmp_path: Path) -> None:
    house = House(tmp_path, "allow", OwnRow(model="else", input=Decimal(1)))
    failed = house.record(house.lease(chat()), TokenUsage(), Ending.FAILED, status=503)
    _, facts = house.facts()
    record_refusal(facts, Ending.REFUSED, 404, "X", house.journal, house.seen, house.clock)
    refused = house.seen.ended[-1]
    assert [(record.cost, record.pricing) for record in (failed, refused)] == [("0", Pricing.FREE)] * 2
    house.journal.stop()


def test_counts_of_our_own_make_the_cost_an_estimate(house: House) -> None:
    lease = house.lease(chat())
    count = Count(lease, chat())
    count.feed([TextDelta("Hi"), TextDelta(" there")])
    lease.settle(Ending.CANCELLED, status=499)
    record = house.seen.ended[-1]
    assert record.pricing == Pricing.ESTIMATED
    assert record.usage.output == 2
    assert record.cost is not None and Decimal(record.cost) == Decimal(record.usage.input) / 1000 + Decimal("0.004")


@pytest.mark.parametrize(
    ("asked", "said", "cost", "pricing", "recorded"),
    [
        (None, None, "4", Pricing.PRICED, None),
        (None, "default", "4", Pricing.PRICED, None),
        (None, "priority", "8", Pricing.PRICED, "priority"),
        ("priority", "default", "4", Pricing.PRICED, None),
        ("priority", None, "8", Pricing.PRICED, "priority"),
        ("auto", "flex", "3", Pricing.PRICED, "flex"),
        ("flex", "flex", "3", Pricing.PRICED, "flex"),
        ("flex", "scale", "4", Pricing.ESTIMATED, "scale"),
    ],
)
def test_a_call_costs_what_its_target_says_that_it_has_served(
    tmp_path: Path, asked: str | None, said: str | None, cost: str, pricing: Pricing, recorded: str | None
) -> None:
    tiers: dict[ServiceTier, int] = {"standard": 4, "batch": 2, "flex": 3, "priority": 8}
    rows = [OwnRow(model="m", input=Decimal(price), service_tier=tier) for tier, price in tiers.items()]
    house = House(tmp_path, "allow", *rows)
    for sku, paid, how in ((Sku(), cost, pricing), (Sku("GlobalBatch"), "2", Pricing.PRICED)):
        lease = house.lease(chat(extra={} if asked is None else {"service_tier": asked}), sku=sku)
        Count(lease, chat()).feed([UsageReported(TokenUsage(input=1_000_000), said)])
        record = house.record(lease, TokenUsage(input=1_000_000))
        assert (record.cost, record.pricing, record.service_tier) == (paid, how, recorded)
    house.journal.stop()


def test_a_flexible_call_holds_what_it_costs_where_the_target_decides_otherwise(tmp_path: Path) -> None:
    rows = [OwnRow(model="m", input=Decimal(1000), output=Decimal(1000)),
            OwnRow(model="m", input=Decimal(1), output=Decimal(1), service_tier="flex")]  # fmt: skip
    house = House(tmp_path, "allow", *rows)
    plain, flexible = (house.lease(chat(max_tokens=50, extra=extra)) for extra in ({}, {"service_tier": "flex"}))
    assert plain._opened().cost == flexible._opened().cost
    house.journal.stop()


def test_a_batch_deployment_and_a_call_with_priority_have_their_own_price(tmp_path: Path) -> None:
    def row(price: int, tier: Any) -> OwnRow:
        return OwnRow(model="m", input=Decimal(price), output=Decimal(price), service_tier=tier)

    house = House(tmp_path, "allow", row(4, "standard"), row(2, "batch"), row(8, "priority"))
    usage = TokenUsage(input=1_000_000)
    asked = [
        (chat(), Sku(), "4", Pricing.PRICED),
        (chat(), Sku("GlobalBatch"), "2", Pricing.PRICED),
        (chat(extra={"service_tier": "priority"}), Sku(), "8", Pricing.PRICED),
        (chat(extra={"service_tier": "auto"}), Sku(), "4", Pricing.PRICED),
        (chat(extra={"service_tier": "flex"}), Sku(), "4", Pricing.ESTIMATED),
        (chat(extra={"service_tier": ["odd"]}), Sku(), "4", Pricing.ESTIMATED),
    ]
    for request, sku, cost, pricing in asked:
        record = house.record(house.lease(request, sku=sku), usage)
        assert (record.cost, record.pricing) == (cost, pricing)
    house.journal.stop()


def test_a_worker_is_paid_by_the_time_that_a_call_held_a_place_of_it(tmp_path: Path) -> None:
    house = House(tmp_path, "allow", OwnRow(deployment="gpt", per_hour=Decimal("7.20"), places=2))
    lease = house.lease(chat())
    house.clock.time += 2.5
    record = house.record(lease, TokenUsage(input=9, output=2))
    assert (record.cost, record.pricing) == ("0.0025", Pricing.PRICED)
    house.journal.stop()


def test_a_call_that_is_lost_has_cost_at_most_what_its_line_says(house: House) -> None:
    house.lease(chat(max_tokens=50), MINE)
    house.journal.flush()
    (path,) = house.directory.glob("*.jsonl")
    opened = [line.usage() for line in read_lines(path) if line.kind == "open"][-1]
    assert (opened.pricing, opened.currency) == (Pricing.ESTIMATED, "USD")
    assert opened.cost is not None
    assert Decimal(opened.cost) == Decimal(opened.usage.input) / 1000 + Decimal(50) * 2 / 1000


# --- what a budget does -----------------------------------------------------------------------------------------------


def test_the_most_that_a_call_can_cost_is_held_and_its_cost_is_booked(house: House) -> None:
    lease = house.lease(chat(max_tokens=450), MINE)
    error = house.refusal(chat(max_tokens=100), MINE)
    assert isinstance(error, BudgetExhausted)
    house.record(lease, TokenUsage(input=10, output=20))
    assert house.spent() == Decimal("0.05")
    house.record(house.lease(chat(max_tokens=450), MINE), TokenUsage(input=10, output=450))
    assert house.spent() == Decimal("0.96")


def test_a_refused_call_gives_back_what_it_took_of_the_quota(house: House) -> None:
    limits = RateLimits(requests_per_minute=1, tokens_per_minute=10_000)
    house.refusal(chat(max_tokens=5000), MINE, limits=limits)
    lease = house.lease(chat(max_tokens=100), MINE, limits=limits)
    assert lease.quota().remaining_requests == 0
    assert isinstance(house.refusal(chat(max_tokens=1), MINE, limits=limits), RateLimited)


def test_a_call_that_the_quota_refuses_holds_nothing_of_a_budget(house: House) -> None:
    limits = RateLimits(concurrent_requests=1)
    house.record(house.lease(chat(max_tokens=400), MINE, limits=limits), TokenUsage())
    lease = house.lease(chat(max_tokens=400), MINE, limits=limits)
    assert isinstance(house.refusal(chat(max_tokens=400), MINE, limits=limits), RateLimited)
    house.record(lease, TokenUsage(), Ending.FAILED)
    house.lease(chat(max_tokens=480), MINE, limits=limits)


def test_the_caller_is_told_when_the_budget_begins_anew_and_is_not_made_to_wait_for_days(house: House) -> None:
    house.lease(chat(max_tokens=400), MINE)
    error = house.refusal(chat(max_tokens=400), MINE)
    assert (error.status, error.code, error.retry_after) == (429, "insufficient_quota", None)
    assert "monthly budget of key alice" in error.message
    assert "2026-12-01T00:00:00Z" in error.message


def test_the_last_minute_of_a_day_is_worth_waiting_for(house: House) -> None:
    house.clock.time += 12 * 3600 - 30
    daily = Budget("project:research", "day", Decimal("0.05"))
    house.lease(chat(max_tokens=10), daily)
    error = house.refusal(chat(max_tokens=10), MINE, daily)
    assert error.retry_after == 30
    house.clock.time += 31
    house.lease(chat(max_tokens=10), MINE, Budget("project:research", "day", Decimal("0.1")))


def test_the_deployment_s_own_budget_counts_too(house: House) -> None:
    shared = Budget("deployment:gpt", "day", Decimal("0.1"))
    lease = house.lease(chat(max_tokens=30), budget=shared)
    error = house.refusal(chat(max_tokens=30), MINE, budget=shared)
    assert "daily budget of deployment gpt" in error.message
    house.record(lease, TokenUsage(output=3))
    assert house.spent(shared) == Decimal("0.006")


def test_an_open_ended_answer_is_topped_up_in_money_and_ends_with_length_where_there_is_none_left(house: House) -> None:
    budget = Budget("key:alice", "day", Decimal("0.55"))
    limits = RateLimits(tokens_per_minute=100_000)
    lease = house.lease(chat(), budget, limits=limits)
    before = lease.quota().remaining_tokens
    count = Count(lease, chat())
    passed = [event for _ in range(400) for event in count.feed([TextDelta("a", tokens=1)])]
    assert count.stopped
    assert passed[-1] == ChoiceFinished(FinishReason.LENGTH)
    assert sum(isinstance(event, TextDelta) for event in passed) == 200
    assert before is not None and lease.quota().remaining_tokens == before - 100
    lease.settle(Ending.COMPLETED)
    assert house.spent(budget) <= Decimal("0.55")


def test_what_has_no_price_passes_a_budget_of_money_unless_that_is_denied(tmp_path: Path) -> None:
    unknown = OwnRow(model="else", input=Decimal(1))
    allowing, denying = House(tmp_path / "a", "allow", unknown), House(tmp_path / "d", "deny", unknown)
    allowing.record(allowing.lease(chat(max_tokens=9_000_000), MINE), TokenUsage(output=9_000_000))
    assert allowing.spent() == 0
    error = denying.refusal(chat(max_tokens=1), MINE)
    assert isinstance(error, PriceUnknown)
    assert (error.status, error.retry_after) == (403, None)
    denying.lease(chat(max_tokens=1), Budget("key:alice", "day", tokens=1000))
    denying.lease(chat(max_tokens=1))
    for house in (allowing, denying):
        house.journal.stop()


def test_what_has_no_price_is_counted_at_the_stated_upper_estimate(tmp_path: Path) -> None:
    house = House(tmp_path, "estimate", OwnRow(model="else", input=Decimal(1)))
    record = house.record(house.lease(chat(max_tokens=1000), MINE), TokenUsage(input=1000, output=1000))
    assert (record.cost, record.pricing) == ("0.21", Pricing.ESTIMATED)
    assert house.spent() == Decimal("0.21")
    house.journal.stop()


def test_a_budget_that_nobody_keeps_refuses(house: House) -> None:
    house.admissions.budgets = None
    assert isinstance(house.refusal(chat(max_tokens=1), MINE), Unavailable)
    house.lease(chat(max_tokens=1))


def test_tokens_of_a_budget_are_counted_whatever_they_cost(house: House) -> None:
    daily = Budget("key:alice", "day", tokens=200)
    house.record(house.lease(chat(max_tokens=50), daily), TokenUsage(input=100, output=50))
    error = house.refusal(chat(max_tokens=50), daily)
    assert "daily budget of key alice" in error.message


def test_thresholds_are_told_while_calls_end(house: House) -> None:
    told: list[BudgetCrossed] = []
    house.budgets.on_crossing(told.append)
    for _ in range(4):
        house.record(house.lease(chat(max_tokens=120), MINE), TokenUsage(output=120))
    assert [(crossed.percent, crossed.spent) for crossed in told] == [(50, Decimal("0.72")), (80, Decimal("0.96"))]


calls = st.tuples(
    st.integers(0, 60), st.integers(0, 120), st.booleans(), st.sampled_from([Ending.COMPLETED, Ending.CANCELLED])
)


@settings(max_examples=40, deadline=None)
@given(st.lists(calls, max_size=40))
def test_a_budget_is_never_exceeded_and_equals_the_sum_of_the_records(tmp_path_factory: Any, made: Any) -> None:
    house = House(tmp_path_factory.mktemp("journal"))
    running: list[tuple[CallLease, TokenUsage, str]] = []
    for prompt, answer, ends, ending in made:
        admitted = house.admit(chat("x" * 180, max_tokens=answer), MINE)
        if isinstance(admitted, CallLease):
            running.append((admitted, TokenUsage(input=min(prompt, 60), output=answer), ending))
        if ends and running:
            lease, usage, how = running.pop(0)
            house.record(lease, usage, how)
        assert house.spent() <= Decimal(1)
    for lease, usage, how in running:
        house.record(lease, usage, how)
    assert house.spent() == sum((Decimal(record.cost or "x") for record in house.seen.ended), Decimal(0))
    assert house.spent() <= Decimal(1)
    house.journal.stop()


def test_a_report_at_the_end_decides_the_cost(house: House) -> None:
    lease = house.lease(chat(), MINE)
    lease.target = HOUSE
    count = Count(lease, chat())
    count.feed([TextDelta("Hi"), ChoiceFinished(FinishReason.STOP)])
    count.feed([UsageReported(TokenUsage(input=12, output=7))])
    lease.settle(Ending.COMPLETED, count.usage())
    assert (house.seen.ended[-1].cost, house.spent()) == ("0.026", Decimal("0.026"))
