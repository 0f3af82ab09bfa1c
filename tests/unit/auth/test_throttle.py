"""Failures to authenticate, counted for each address."""

from __future__ import annotations

import pytest

from modelport.auth import throttle
from modelport.auth.throttle import FailureThrottle, network_of


def test_a_bucket_fills_up_again_within_a_minute() -> None:
    bucket = FailureThrottle(60)
    for _ in range(60):
        assert bucket.seconds("10.0.0.1", 0.0) == 0
        bucket.failed("10.0.0.1", 0.0)
    assert bucket.seconds("10.0.0.1", 0.0) == 1
    assert bucket.seconds("10.0.0.2", 0.0) == 0
    assert bucket.seconds("10.0.0.1", 1.0) == 0
    for _ in range(100):
        bucket.failed("10.0.0.1", 1.0)
    assert bucket.seconds("10.0.0.1", 1.0) == 1
    assert bucket.seconds("10.0.0.1", 60.0) == 0


def test_an_empty_bucket_is_news_once_a_minute() -> None:
    bucket = FailureThrottle(2)
    assert [bucket.failed("a", moment) for moment in (0.0, 0.0, 1.0, 31.0, 59.0, 61.0, 62.0)] == [
        *(False, True, False, False, False, True, False)
    ]


def test_calls_that_have_to_wait_have_a_line_in_ten_seconds_and_the_others_are_counted() -> None:
    bucket = FailureThrottle(1)
    bucket.failed("a", 0.0)
    bucket.failed("b", 0.0)
    moments = (0.0, 0.0, 1.0, 9.9, 10.0, 10.5, 25.0, 25.0)
    assert [bucket.unlogged("a", moment) for moment in moments] == [0, None, None, None, 3, None, 1, None]
    bucket.failed("a", 26.0)  # by a call that waited for keys meanwhile
    assert bucket.unlogged("a", 27.0) is None
    assert bucket.unlogged("a", 35.0) == 2
    assert bucket.unlogged("b", 35.0) == 0
    assert bucket.unlogged("never seen", 35.0) == 0
    assert bucket.unlogged("a", 5.0) == 0  # the clock went back
    assert len(bucket._buckets) == 2


def test_no_limit() -> None:
    bucket = FailureThrottle(None)
    for _ in range(1000):
        bucket.failed("10.0.0.1", 0.0)
    assert bucket.seconds("10.0.0.1", 0.0) == 0
    assert bucket._buckets == {}


def test_addresses_are_bounded_and_the_newest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "KNOWN_ADDRESSES", 100)
    bucket = FailureThrottle(1)
    for number in range(1000):
        bucket.failed(f"10.0.{number // 250}.{number % 250}", 0.0)
        bucket.failed("10.9.9.9", 0.0)
    assert len(bucket._buckets) == 100
    assert bucket.seconds("10.9.9.9", 0.0) == 60
    assert bucket.seconds("10.0.0.0", 0.0) == 0


def test_a_clock_that_goes_back_gives_nothing_and_takes_nothing() -> None:
    bucket = FailureThrottle(2)
    bucket.failed("a", 100.0)
    bucket.failed("a", 100.0)
    assert bucket.seconds("a", 50.0) == 30
    assert bucket.seconds("a", 130.0) == 0


@pytest.mark.parametrize(
    ("address", "network"),
    [
        (None, ""),
        ("10.0.0.1", "10.0.0.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("fe80::1%eth0", "fe80::/64"),
        ("no:address", "no:address"),
    ],
)
def test_what_shares_a_bucket(address: str | None, network: str) -> None:
    assert network_of(address) == network
