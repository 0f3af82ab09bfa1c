"""Calls whose budgets are in a store: who does not wait has taken nothing, and who waits gets everything or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from plans import ALICE, Parts, facts_of, plan_of

from budget_keepers import Books, FaultyBank
from modelport.control.prices import Book, OwnList, OwnRow
from modelport.core.budgets import Budget
from modelport.core.catalog import Deployment, Model, RateLimits, Snapshot, Target
from modelport.core.content import Message
from modelport.core.errors import Unavailable
from modelport.core.limit_errors import BudgetExhausted, RateLimited
from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.core.requests import ChatRequest
from modelport.core.usage import Ending, TokenUsage
from modelport.gateway.admissions import Admissions
from modelport.gateway.admit import admit
from modelport.gateway.lease import CallLease
from modelport.stores.budgets import SharedBudgets
from modelport.stores.journal import FileJournal
from modelport.stores.memory.quota import MemoryQuota

MINE = Budget("key:alice", "month", Decimal("1"))
START = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()
NONE = RateLimits()
LIMITS = RateLimits(requests_per_minute=1, tokens_per_minute=100_000)


class SettableClock:
    def __init__(self) -> None:
        self.time = START

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


class Nobody:
    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *given: None


class House:
    """A gateway process whose budgets are elsewhere."""

    def __init__(self, directory: Path) -> None:
        self.clock: Any = SettableClock()
        self.bank = FaultyBank(self.clock)
        self.budgets = SharedBudgets(self.bank, Books(), self.clock, answer_seconds=30.0, attempts=0)
        self.admissions = Admissions(MemoryQuota(self.clock), self.clock)
        self.admissions.budgets = self.budgets
        self.journal = FileJournal(directory / "journal")
        self.book = Book(None, OwnList(prices=(OwnRow(model="m", input=Decimal(1000), output=Decimal(2000)),)))

    def admit(self, limits: RateLimits = NONE, budget: Budget = MINE, **fields: Any) -> Any:
        about: dict[str, Any] = {"model": Model("Custom", "m"), "targets": (Target("house", "m"),), "limits": limits}
        deployment = Deployment(name="Gpt", **about)
        snapshot = Snapshot(id="s", deployments={"gpt": deployment}, reserve_tokens=100, prices=self.book)
        request = ChatRequest(messages=(Message(role="user", content="Hello"),), body_bytes=30, **fields)
        plan = plan_of(deployment, snapshot, replace(ALICE, budgets=(budget,)))
        parts = Parts(self.admissions, self.journal, Nobody(), self.clock)
        return admit(plan, request, facts_of(plan, self.clock), parts)

    async def lease(self, limits: RateLimits = NONE, budget: Budget = MINE, **fields: Any) -> Any:
        outcome = self.admit(limits, budget, **fields)
        return await outcome.resume() if isinstance(outcome, NeedsWaiting) else outcome

    async def close(self) -> None:
        await self.budgets.close()
        self.journal.stop()


def in_a_house(tmp_path: Path, scenario: Callable[[House], Any]) -> None:
    async def lived() -> None:
        house = House(tmp_path)
        try:
            await scenario(house)
        finally:
            await house.close()

    asyncio.run(lived())


def test_a_call_that_would_have_to_wait_and_does_not_has_taken_nothing(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        for _ in range(3):
            assert isinstance(house.admit(LIMITS, max_tokens=10), NeedsWaiting)
        lease = await house.lease(LIMITS, max_tokens=10)
        assert isinstance(lease, CallLease)
        refused = await house.lease(LIMITS, max_tokens=10)
        assert isinstance(refused.error, RateLimited)

    in_a_house(tmp_path, scenario)


def test_a_budget_without_room_gives_back_the_quota_after_waiting_for_it(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        limits = RateLimits(requests_per_minute=2, tokens_per_minute=100_000)
        assert isinstance(await house.lease(limits, max_tokens=400), CallLease)
        refused = await house.lease(limits, max_tokens=400)
        assert isinstance(refused.error, BudgetExhausted)
        assert isinstance(await house.lease(limits, max_tokens=10), CallLease)

    in_a_house(tmp_path, scenario)


def test_a_caller_who_hangs_up_while_the_store_is_asked_leaves_nothing_behind(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        task = asyncio.create_task(house.lease(LIMITS, max_tokens=400))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in range(3):
            await asyncio.sleep(0)
        lease = await house.lease(LIMITS, max_tokens=400)
        assert isinstance(lease, CallLease)

    in_a_house(tmp_path, scenario)


def test_a_store_that_is_gone_refuses_and_gives_back_the_quota(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        house.bank.is_gone = True
        refused = await house.lease(LIMITS, max_tokens=10)
        assert isinstance(refused.error, Unavailable)
        assert refused.error.retry_after == 1
        house.bank.is_gone = False
        house.clock.time += 1
        house.budgets._tick(True)
        await house.budgets.tell()
        assert isinstance(await house.lease(LIMITS, max_tokens=10), CallLease)

    in_a_house(tmp_path, scenario)


def test_an_open_ended_answer_waits_for_the_store_to_go_on_and_ends_where_the_budget_does(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        limits = RateLimits(tokens_per_minute=100_000)
        lease = await house.lease(limits)
        covered, waited = 0, 0
        while True:
            outcome = lease.cover(covered + 100)
            if isinstance(outcome, NeedsWaiting):
                waited += 1
                outcome = await outcome.resume()
            if outcome is not True:
                break
            covered += 100
        assert covered == 400  # of 500 tokens of answer less a prompt
        assert waited > 0
        before = lease.quota().remaining_tokens
        lease.settle(Ending.COMPLETED, TokenUsage(input=10, output=400))
        assert house.admissions.quota.state("gpt", limits, house.clock.monotonic()).remaining_tokens > before
        assert house.budgets.spent(MINE, house.clock.now())[0] == Decimal("0.81")

    in_a_house(tmp_path, scenario)


def test_an_answer_that_ends_while_its_store_is_asked_takes_nothing_more(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        lease = await house.lease(RateLimits(tokens_per_minute=100_000), max_tokens=None)
        step = 100
        while not isinstance(outcome := lease.cover(step), NeedsWaiting):
            assert outcome is True
            step += 100
        lease.settle(Ending.CANCELLED, TokenUsage(input=1, output=1))
        assert await outcome.resume() is False
        await house.budgets.tell()
        full = await house.lease(max_tokens=480)
        assert not isinstance(full, Refusal)

    in_a_house(tmp_path, scenario)
