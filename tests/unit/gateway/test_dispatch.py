"""Which target is asked, in which order, and when to stop."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.core.catalog import Target
from modelport.core.errors import (
    BadRequest,
    CredentialRefused,
    EngineFailed,
    InternalError,
    InvalidParameters,
    ModelportError,
    Unavailable,
    UpstreamFailed,
    UpstreamTimedOut,
)
from modelport.core.limit_errors import ContextLengthExceeded, RateLimited
from modelport.core.ports.dispatch import GiveUp, Send, TargetFailed
from modelport.gateway.dispatch import InOrder

TARGETS = st.lists(
    st.builds(Target, provider=st.text("abc", min_size=1, max_size=2), model=st.just("m"), priority=st.integers(0, 2),
              weight=st.integers(1, 5)),
    min_size=1,
    max_size=6,
    unique_by=lambda target: target.provider,
)  # fmt: skip
AGAIN = [
    UpstreamFailed("x"),
    CredentialRefused(401, "x"),
    UpstreamTimedOut("x"),
    Unavailable("x"),
    RateLimited("upstream", None, 1),
]
NOT_AGAIN = [BadRequest("x"), ContextLengthExceeded("x"), InvalidParameters([]), EngineFailed("x"), InternalError()]


def asked(targets: list[Target], error: ModelportError, seed: int = 0) -> tuple[list[Target], ModelportError]:
    """Who is asked when each fails so, and what the caller hears in the end."""
    dispatch = InOrder(targets, Random(seed))
    order: list[Target] = []
    step = dispatch.next(None, 0.0)
    while isinstance(step, Send):
        order.append(step.target)
        step = dispatch.next(TargetFailed(step.target, error), 0.0)
    assert isinstance(step, GiveUp)
    return order, step.error


@given(TARGETS, st.integers(), st.sampled_from(AGAIN))
def test_each_target_is_asked_once_by_priority(targets: list[Target], seed: int, error: ModelportError) -> None:
    order, heard = asked(targets, error, seed)
    assert sorted(order, key=lambda target: target.provider) == sorted(targets, key=lambda target: target.provider)
    assert [target.priority for target in order] == sorted(target.priority for target in targets)
    assert heard is error


@pytest.mark.parametrize("error", NOT_AGAIN, ids=lambda error: type(error).__name__)
def test_what_another_target_cannot_help_is_told_at_once(error: ModelportError) -> None:
    order, heard = asked([Target("a", "m"), Target("b", "m", priority=1)], error)
    assert [target.provider for target in order] == ["a"]
    assert heard is error


def test_weights_share_the_first_place() -> None:
    targets = [Target("heavy", "m", weight=9), Target("light", "m", weight=1)]
    firsts = [asked(targets, AGAIN[0], seed)[0][0].provider for seed in range(2000)]
    assert 1700 < firsts.count("heavy") < 1900


def test_a_deployment_without_targets_is_unavailable() -> None:
    step = InOrder([], Random(0)).next(None, 0.0)
    assert isinstance(step, GiveUp)
    assert isinstance(step.error, Unavailable)
    assert step.error.code == "NoCapacity"
