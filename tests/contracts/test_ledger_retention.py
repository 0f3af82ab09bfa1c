"""Single calls are removed from the ledger, and their sums stay: nothing is forgotten, and the books balance."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from modelport.core.usage_reports import GROUPINGS, RecordsQuestion, UsageQuestion
from modelport.stores.shipping.shipper import known_source_id
from modelport.stores.sql.address import DatabaseAddress, address_of
from modelport.stores.sql.audit import Audit, audit
from modelport.stores.sql.database import open_for_writing
from modelport.stores.sql.ledger import SqlLedger
from modelport.stores.sql.reports import SqlReports
from postgres_server import fresh_database, named_url, own_server
from served import eventually
from usage_records import NOON, journaled, record, unpriced

DAY = 86_400
MIDNIGHT = NOON - 12 * 3600


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    named = named_url()
    if named is not None:
        yield named
        return
    server = own_server()
    try:
        yield server.url
    finally:
        server.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DatabaseAddress]:
    if request.param == "sqlite":
        yield address_of(None, tmp_path)
        return
    with fresh_database(request.getfixturevalue("postgres")) as url:
        yield address_of(url, tmp_path)


def pruned(address: DatabaseAddress, before: float) -> int:
    with SqlLedger(address) as ledger:
        days = 0
        while ledger.prune(before):
            days += 1
    return days


def filled(address: DatabaseAddress, records: list[Any]) -> None:
    with SqlLedger(address) as ledger:
        ledger.take(records)


def reports_of(address: DatabaseAddress) -> tuple[Any, int]:
    """All that reports say, and how many single calls are left."""
    reports = SqlReports(address)
    try:
        found = [reports.report(UsageQuestion(by=(name,))) for name in GROUPINGS]
        spans = [reports.report(UsageQuestion(by=("day",), since=int(MIDNIGHT) - n * 3600 * 7)) for n in range(30)]
        return (found, spans), len(reports.records(RecordsQuestion(limit=1000)).records)
    finally:
        reports.close()


def checked(address: DatabaseAddress) -> Audit:
    found = audit(address, Path("/nonexistent"), None)
    assert found.balances, found.faults
    return found


def changed(address: DatabaseAddress, statement: str) -> Audit:
    engine = open_for_writing(address)
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()
    return audit(address, Path("/nonexistent"), None)


def test_reports_are_the_same_after_single_calls_are_gone(address: DatabaseAddress) -> None:
    filled(address, [record(started_at=MIDNIGHT - n * DAY / 3, deployment="ab"[n % 2]) for n in range(60)])
    filled(address, [unpriced(started_at=MIDNIGHT - 5 * DAY, deployment="a")])
    before, calls = reports_of(address)
    assert (calls, checked(address).pruned_calls) == (61, 0)
    assert pruned(address, MIDNIGHT - 4 * DAY) == 16
    after, left = reports_of(address)
    assert after == before
    assert left == 13
    found = checked(address)
    assert (found.ledger_calls, found.pruned_calls) == (61, 48)
    assert pruned(address, MIDNIGHT - 4 * DAY) == 0


def test_only_whole_days_that_are_over_are_removed(address: DatabaseAddress) -> None:
    filled(address, [record(started_at=MIDNIGHT), record(started_at=MIDNIGHT - 0.000001)])
    assert pruned(address, MIDNIGHT - 1) == 0
    assert pruned(address, MIDNIGHT + DAY - 1) == 1
    assert reports_of(address)[1] == 1
    checked(address)


def test_a_call_that_comes_late_is_counted_and_goes_with_the_next_round(address: DatabaseAddress) -> None:
    filled(address, [record(started_at=MIDNIGHT - n * DAY) for n in range(10)])
    pruned(address, MIDNIGHT - 3 * DAY)
    filled(address, [record(started_at=MIDNIGHT - 8 * DAY), record(started_at=MIDNIGHT - 40 * DAY)])
    found = checked(address)
    assert (found.ledger_calls, found.pruned_calls) == (12, 6)
    assert pruned(address, MIDNIGHT - 3 * DAY) == 2
    assert checked(address).pruned_calls == 8
    assert reports_of(address)[0][0][0][0].calls == 12


def test_a_removed_call_is_not_missing_and_one_that_never_came_is(address: DatabaseAddress) -> None:
    old, young, never = (record(started_at=MIDNIGHT - n * DAY) for n in (9, 1, 2))
    filled(address, [old, young])
    pruned(address, MIDNIGHT - 5 * DAY)
    with SqlLedger(address) as ledger:
        assert ledger.missing([old, young, never]) == [never]


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE pruned_months SET input_tokens = input_tokens + 1", "month of removed calls"),
        ("DELETE FROM pruned_months", "month of removed calls"),
        (
            "UPDATE usage_hours SET cost_nanos = cost_nanos + 1 WHERE hour = (SELECT min(hour) FROM usage_hours)",
            "month",
        ),
        ("DELETE FROM usage_records", "there is a roll-up and no call"),
        ("UPDATE pruned_until SET before_us = before_us - 86400000000", "there is a roll-up and no call"),
    ],
)
def test_an_audit_holds_the_sums_of_removed_calls_against_the_roll_ups(
    address: DatabaseAddress, statement: str, said: str
) -> None:
    filled(address, [record(started_at=MIDNIGHT - n * DAY) for n in range(8)])
    pruned(address, MIDNIGHT - 3 * DAY)
    checked(address)
    found = changed(address, statement)
    assert any(said in fault for fault in found.faults), found.faults


def test_whatever_comes_and_whenever_it_is_removed_the_books_balance(address: DatabaseAddress) -> None:
    total = 0

    @settings(max_examples=15, deadline=None)
    @given(
        st.lists(st.integers(0, 70 * 24), max_size=20),
        st.integers(0, 70),
    )
    def check(hours: list[int], keep_days: int) -> None:
        nonlocal total
        filled(address, [record(started_at=MIDNIGHT - 3600.0 * hour, deployment="ab"[hour % 2]) for hour in hours])
        total += len(hours)
        pruned(address, MIDNIGHT - keep_days * DAY)
        assert checked(address).ledger_calls == total

    check()


def test_a_server_removes_what_is_older_than_it_keeps(serve: Any, data_dir: Path) -> None:
    old, young = record(started_at=time.time() - 5 * DAY), record(started_at=time.time() - DAY / 2)
    journaled(data_dir / "journal", [old, young])
    script = {"model": {"format": "Custom", "name": "script"}, "provider": {"type": "scripted"}}
    with serve({"deployments": {"script": script}, "ledger": {"keep_days": 2, "keep_journal_hours": None}}) as served:

        def single() -> list[str]:
            return [one["id"] for one in served.call("GET", "/admin/v1/usage/records").json["records"]]

        eventually(lambda: single() == [young.id], "the old call is gone")
        (row,) = served.call("GET", "/admin/v1/usage?by=principal").json
        assert row["calls"] == 2
        served.terminate()
        served.ended()
    address = address_of(None, data_dir)
    found = audit(address, data_dir / "journal", known_source_id(data_dir / "journal"))
    assert found.balances, found.faults
    assert (found.checked_calls, found.ledger_calls, found.pruned_calls) == (1, 2, 1)
