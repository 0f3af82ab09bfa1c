"""The arithmetic of windows and limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.core.catalog import Model, RateLimits, Sku
from modelport.core.quota import (
    RESOLUTION_SECONDS,
    WINDOW_SECONDS,
    QuotaState,
    RollingWindow,
    effective_limits,
    tightest,
)

OPENAI = Model(format="OpenAI", name="gpt-4o")
MISTRAL = Model(format="Mistral AI", name="Mistral-large-2411")
STEPS = st.lists(
    st.tuples(st.floats(min_value=0.0, max_value=100.0, allow_nan=False), st.integers(min_value=0, max_value=50)),
    max_size=40,
)


@pytest.mark.parametrize("taken_at", [100.0, 100.3, 100.9])
def test_an_amount_stays_for_sixty_seconds_and_not_longer(taken_at):
    window = RollingWindow()
    window.add(7, taken_at)
    assert window.roll(taken_at + 59.99) == 7
    assert window.roll(taken_at + 60.0) == 0


def test_a_second_stays_until_its_last_amount_is_sixty_seconds_old():
    window = RollingWindow()
    window.add(7, 100.1)
    window.add(2, 100.8)
    assert window.seconds_until_freed(1, 100.8) == 60
    assert window.roll(160.7) == 9
    assert window.roll(160.8) == 0


def test_the_time_until_enough_is_free_counts_only_what_is_needed():
    window = RollingWindow()
    window.add(5, 10.0)
    window.add(5, 40.0)
    assert window.seconds_until_freed(5, 41.0) == 29
    assert window.seconds_until_freed(6, 41.0) == 59
    assert window.seconds_until_freed(11, 41.0) is None
    assert window.seconds_until_empty(41.0) == 59
    assert window.seconds_until_empty(40.0) == 60


def test_an_empty_window_is_empty_at_once():
    assert RollingWindow().seconds_until_empty(5.0) == 0


@given(STEPS)
def test_the_window_holds_all_of_the_last_sixty_seconds_and_nothing_older_than_sixty_one(steps):
    window = RollingWindow()
    now = 1000.0
    taken: list[tuple[float, int]] = []
    for wait, amount in steps:
        now += wait
        window.add(amount, now)
        taken.append((now, amount))
        within = sum(amount for at, amount in taken if at > now - WINDOW_SECONDS + RESOLUTION_SECONDS)
        almost = sum(amount for at, amount in taken if at > now - WINDOW_SECONDS - 1)
        assert within <= window.roll(now) <= almost


@given(STEPS, st.integers(min_value=1, max_value=200))
def test_after_the_promised_seconds_so_much_has_left(steps, wanted):
    window = RollingWindow()
    now = 1000.0
    for wait, amount in steps:
        now += wait
        window.add(amount, now)
    before = window.roll(now)
    seconds = window.seconds_until_freed(wanted, now)
    if seconds is None:
        assert wanted > before
        return
    assert 1 <= seconds <= WINDOW_SECONDS
    assert before - window.roll(now + seconds) >= wanted


@given(STEPS)
def test_a_window_is_empty_when_it_said_and_not_a_second_before(steps):
    window = RollingWindow()
    now = 1000.0
    for wait, amount in steps:
        now += wait
        window.add(amount, now)
    seconds = window.seconds_until_empty(now)
    if window.total:
        assert window.roll(now + seconds - 1.001) > 0
    assert window.roll(now + seconds) == 0


@pytest.mark.parametrize(
    ("explicit", "sku", "model", "tokens", "requests"),
    [
        ({}, None, OPENAI, 200_000, 1_000),
        ({}, Sku("GlobalStandard", 1), MISTRAL, 200_000, 1_000),
        ({}, Sku("GlobalStandard", 10), OPENAI, 10_000, 60),
        ({}, Sku("Standard", 3), OPENAI, 3_000, 18),
        ({}, Sku("DataZoneStandard", 3), Model(format="openai", name="o1"), 3_000, 18),
        ({}, Sku("ProvisionedManaged", 100), OPENAI, 200_000, 1_000),
        ({"tokens_per_minute": 5}, Sku("GlobalStandard", 10), OPENAI, 5, 60),
        ({"tokens_per_minute": None}, Sku("GlobalStandard", 10), OPENAI, None, 60),
        ({"tokens_per_minute": None, "requests_per_minute": None}, None, MISTRAL, None, None),
    ],
)
def test_what_is_written_down_wins_then_capacity_then_the_usual_limits(explicit, sku, model, tokens, requests):
    assert effective_limits(explicit, sku, model) == RateLimits(tokens_per_minute=tokens, requests_per_minute=requests)


def test_concurrency_is_unlimited_unless_written_down():
    assert effective_limits({}, None, OPENAI).concurrent_requests is None
    assert effective_limits({"concurrent_requests": 4}, None, OPENAI).concurrent_requests == 4


def test_the_tightest_limit_of_each_kind_is_the_one_that_leaves_the_least():
    deployment = QuotaState(1000, 999, 200, 40, 17)
    key = QuotaState(3, 2, None, None, 60)
    budget = QuotaState(limit_tokens=50, remaining_tokens=39, reset_seconds=9000)
    assert tightest([deployment]) is deployment
    assert tightest([deployment, key]) == QuotaState(3, 2, 200, 40, 60, 17)
    assert tightest([budget, key, deployment]) == QuotaState(3, 2, 50, 39, 60, 9000)
    assert tightest([tightest([budget, key]), deployment]) == QuotaState(3, 2, 50, 39, 60, 9000)
    assert tightest([]) == tightest([QuotaState()]) == QuotaState()
