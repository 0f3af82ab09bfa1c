"""What can never be served is refused at once, with 400 and without a time to come again."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from plans import ALICE, Parts, facts_of, plan_of

from modelport.core.budgets import Budget
from modelport.core.catalog import Deployment, Model, ModelProfile, RateLimits, Snapshot, Target
from modelport.core.content import ImagePart, ImageUrl, Message, TextPart
from modelport.core.errors import ModelportError, Unavailable
from modelport.core.limit_errors import BudgetExhausted, RateLimited, TokensLimitReached
from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.core.requests import ChatRequest, CompletionsRequest, EmbeddingsRequest, Request
from modelport.gateway.admissions import Admissions
from modelport.gateway.admit import admit, sooner
from modelport.gateway.fitting import LONGEST_TOKEN_BYTES, beyond_context
from modelport.gateway.lease import CallLease
from modelport.gateway.shape import shape
from modelport.stores.allotments.bank import MemoryBank
from modelport.stores.allotments.quota import SharedQuota
from modelport.stores.journal import FileJournal
from modelport.stores.memory.budgets import MemoryBudgets
from modelport.stores.memory.quota import MemoryQuota


class StandingClock:
    def now(self) -> float:
        return 5_000_000.0

    def monotonic(self) -> float:
        return 77.0


class Nobody:
    def call_started(self, *given: Any) -> None:
        pass

    def call_ended(self, *given: Any) -> None:
        pass


def chat(content: str = "Hi", **fields: Any) -> ChatRequest:
    return ChatRequest(messages=(Message(role="user", content=content),), body_bytes=50 + len(content), **fields)


# --- the model's context -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "fits"),
    [
        (chat(max_tokens=1000), True),
        (chat(max_tokens=1001), False),
        (chat(extra={"max_completion_tokens": 10**12}), False),
        (chat("x" * 1000 * LONGEST_TOKEN_BYTES), True),
        (chat("x" * (1000 * LONGEST_TOKEN_BYTES + 1)), False),
        (CompletionsRequest(prompt=("a", "b"), max_tokens=1001), False),
        (CompletionsRequest(prompt=((7,) * 1000,)), True),
        (CompletionsRequest(prompt=((1,), (7,) * 1001)), False),
        (CompletionsRequest(prompt=("ü" * 500 * LONGEST_TOKEN_BYTES,)), True),
        (CompletionsRequest(prompt=("a", "ü" * 501 * LONGEST_TOKEN_BYTES)), False),
        (EmbeddingsRequest(input=((7,) * 1001,)), True),  # a model that embeds may cut it
    ],
    ids=str,
)
def test_what_is_longer_than_the_context_for_sure_is_refused(request_: Request, fits: bool) -> None:
    assert beyond_context(request_, None) is None
    error = beyond_context(request_, 1000)
    assert (error is None) == fits
    if error is not None:
        assert (error.status, error.code, error.retry_after) == (400, "context_length_exceeded", None)
        assert "maximum context length is 1000 tokens" in error.message
        assert error.target == ("messages" if isinstance(request_, ChatRequest) else "prompt")


def test_a_large_picture_is_no_long_prompt() -> None:
    picture = ImagePart(ImageUrl("data:image/png;base64," + "A" * 600_000))
    message = Message(role="user", content=(TextPart("What is it?"), picture))
    assert beyond_context(ChatRequest(messages=(message,), body_bytes=600_100), 1000) is None


def test_the_profile_s_context_decides() -> None:
    profile = ModelProfile(family="f", context=100, max_output=20)
    deployment = Deployment(name="d", model=Model("Custom", "m"), targets=(Target("p", "m"),), profile=profile)
    outcome = shape(chat(max_tokens=101), deployment, header=None, checks_extras=True)
    assert isinstance(outcome, Refusal)
    assert outcome.error.code == "context_length_exceeded"
    assert not isinstance(shape(chat(max_tokens=100), deployment, header=None, checks_extras=True), Refusal)


# --- limits and budgets --------------------------------------------------------------------------------------------


def admitted(directory: Path, request: Request, limits: RateLimits, **more: Any) -> Any:
    """What `admit` says, awaited where it waits."""
    clock: Any = StandingClock()
    quota = MemoryQuota(clock) if not more.pop("shared", False) else SharedQuota(MemoryBank(clock), clock)
    admissions = Admissions(quota, clock)
    admissions.budgets = MemoryBudgets()
    own_limits, budgets = more.pop("own_limits", None), more.pop("budgets", ())
    deployment = Deployment(
        name="Tight", model=Model("Custom", "m"), targets=(Target("p", "m"),), limits=limits, **more
    )
    snapshot = Snapshot(id="s", deployments={"tight": deployment}, reserve_tokens=100)
    plan = plan_of(deployment, snapshot, replace(ALICE, limits=own_limits, budgets=budgets))

    async def asked() -> Any:
        journal: Any = FileJournal(directory / "journal")
        try:
            outcome = admit(plan, request, facts_of(plan, clock), Parts(admissions, journal, Nobody(), clock))
            async with asyncio.timeout(20):
                return await outcome.resume() if isinstance(outcome, NeedsWaiting) else outcome
        finally:
            journal.stop()

    return asyncio.run(asked())


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("wait_seconds", [0.0, 3600.0])
@pytest.mark.parametrize("request_", [chat(max_tokens=1000), chat("x" * 4000), chat(max_tokens=300, extra={"n": 4})])
def test_more_than_the_whole_limit_neither_waits_nor_comes_again(
    tmp_path: Path, shared: bool, wait_seconds: float, request_: ChatRequest
) -> None:
    limits = RateLimits(tokens_per_minute=1000, wait_seconds=wait_seconds)
    outcome = admitted(tmp_path, request_, limits, shared=shared, spillover="other")
    assert isinstance(outcome, Refusal)
    error = outcome.error
    assert (error.status, error.code, error.retry_after) == (400, "tokens_limit_reached", None)
    assert "deployment Tight" in error.message
    assert "1000 tokens per minute" in error.message
    assert outcome.spill_to == "other"


def test_a_limit_that_is_just_enough_lets_the_call_in(tmp_path: Path) -> None:
    limits = RateLimits(tokens_per_minute=1000)
    assert isinstance(admitted(tmp_path, chat(max_tokens=950), limits), CallLease)
    assert isinstance(admitted(tmp_path, chat(), RateLimits(tokens_per_minute=40)), CallLease)  # a step takes the rest


def test_a_key_s_own_limit_goes_with_it_to_every_deployment(tmp_path: Path) -> None:
    limits, own = RateLimits(tokens_per_minute=1000), RateLimits(tokens_per_minute=500)
    outcome = admitted(tmp_path, chat(max_tokens=1000), limits, own_limits=own, spillover="other")
    assert outcome.error.code == "tokens_limit_reached"
    assert "key alice is limited to 500 tokens" in outcome.error.message
    assert outcome.spill_to is None


@pytest.mark.parametrize("subject", ["key:alice", "project:research", "deployment:tight"])
def test_more_than_a_whole_budget_is_not_told_to_come_again(tmp_path: Path, subject: str) -> None:
    budget = Budget(subject, "day", tokens=200)
    of_deployment = subject.startswith("deployment")
    kept = {"budget": budget} if of_deployment else {"budgets": (budget,)}
    outcome = admitted(tmp_path, chat(max_tokens=200), RateLimits(), **kept)
    assert (outcome.error.status, outcome.error.code) == (400, "tokens_limit_reached")
    assert subject.replace(":", " ") in outcome.error.message
    assert isinstance(admitted(tmp_path, chat(max_tokens=100), RateLimits(), **kept), CallLease)


def test_a_budget_of_money_that_counts_what_has_no_price_lets_it_in(tmp_path: Path) -> None:
    budget = Budget("key:alice", "month", Decimal("0.01"))
    outcome = admitted(tmp_path, chat(max_tokens=10**6), RateLimits(), budgets=(budget,))
    assert not isinstance(getattr(outcome, "error", None), TokensLimitReached | BudgetExhausted)


NEVER = TokensLimitReached.of(10, 8, 4, "deployment d")
SOON, LATER = RateLimited("tokens", 10, 3), RateLimited("tokens", 10, 9)


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        (NEVER, SOON, SOON),
        (SOON, NEVER, SOON),
        (LATER, SOON, SOON),
        (SOON, LATER, SOON),
        (NEVER, Unavailable("no store"), Unavailable),
        (NEVER, TokensLimitReached.of(20, 18, 4, "deployment e"), NEVER),
    ],
)
def test_of_two_refusals_the_one_that_time_ends_is_told(
    first: ModelportError, second: ModelportError, told: Any
) -> None:
    found = sooner(first, second)
    assert found is told or (isinstance(told, type) and isinstance(found, told))


def test_an_answer_does_not_wait_for_room_that_its_limit_never_has(tmp_path: Path) -> None:
    limits = RateLimits(tokens_per_minute=150, wait_seconds=3600.0)
    lease = admitted(tmp_path, chat(), limits)

    async def more() -> bool:
        async with asyncio.timeout(20):
            outcome = lease.cover(10_000)
            return bool(await outcome.resume() if isinstance(outcome, NeedsWaiting) else outcome)

    assert not asyncio.run(more())
