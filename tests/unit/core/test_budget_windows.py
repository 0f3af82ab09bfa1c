"""Days and months of budgets."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.core.budgets import Budget, iso, percent_used, window_of

moments = st.floats(min_value=0, max_value=4_000_000_000, allow_nan=False)


@given(moments, st.sampled_from(["day", "month"]))
def test_every_moment_is_in_its_window_and_windows_follow_each_other(at: float, per: str) -> None:
    window = window_of(per, at)  # type: ignore[arg-type]
    assert window.begins_at <= at < window.ends_at
    following = window_of(per, window.ends_at)  # type: ignore[arg-type]
    assert following.begins_at == window.ends_at
    assert datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d").startswith(window.name)


@pytest.mark.parametrize(
    ("at", "name", "ends"),
    [
        ("2026-12-31T23:59:59+00:00", "2026-12", "2027-01-01T00:00:00Z"),
        ("2028-02-29T12:00:00+00:00", "2028-02", "2028-03-01T00:00:00Z"),
        ("2026-11-01T00:00:00+00:00", "2026-11", "2026-12-01T00:00:00Z"),
    ],
)
def test_months_are_those_of_the_calendar_in_utc(at: str, name: str, ends: str) -> None:
    window = window_of("month", datetime.fromisoformat(at).timestamp())
    assert (window.name, iso(window.ends_at)) == (name, ends)


def test_the_part_that_is_used_most_counts() -> None:
    budget = Budget("key:k", "day", Decimal("10"), 1000)
    assert percent_used(budget, Decimal("4.999"), 500) == 50
    assert percent_used(budget, Decimal("4.999"), 0) == 49
    assert percent_used(budget, Decimal("12"), 0) == 120
