"""The process that ships: it is asked, it ends when it is told, and where it dies another one takes its place."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modelport.core.usage_reports import UsageQuestion
from modelport.stores.journal.files import lock
from modelport.stores.ledger_process.parent import ShipperProcess
from modelport.stores.shipping.shipper import known_source_id
from modelport.stores.sql.address import DatabaseAddress, address_of
from modelport.stores.sql.audit import audit
from modelport.stores.sql.reports import SqlReports
from usage_records import journaled, record

PATIENCE_SECONDS = 60.0


@pytest.fixture
def address(tmp_path: Path) -> DatabaseAddress:
    return address_of(None, tmp_path)


@pytest.fixture
def shipping(tmp_path: Path, address: DatabaseAddress) -> Iterator[ShipperProcess]:
    process = ShipperProcess(tmp_path / "journal", address)
    process.start()
    yield process
    process.stop()


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def calls_in(address: DatabaseAddress) -> int:
    reports = SqlReports(address)
    try:
        return sum(row.calls for row in reports.report(UsageQuestion()))
    finally:
        reports.close()


def killed(shipping: ShipperProcess) -> None:
    """And another one is there."""
    victim = shipping.process_id
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    until(lambda: shipping.process_id not in (None, victim))


def test_what_is_in_the_journal_when_it_is_asked_is_in_the_ledger_when_it_answers(
    tmp_path: Path, address: DatabaseAddress, shipping: ShipperProcess
) -> None:
    for number in range(1, 4):
        journaled(tmp_path / "journal", [record() for _ in range(5)])
        assert shipping.catch_up(PATIENCE_SECONDS)
        assert calls_in(address) == shipping.shipped_records == 5 * number
    assert (shipping.backlog_records, shipping.failure) == (0, None)


def test_the_end_ships_what_is_left(tmp_path: Path, address: DatabaseAddress, shipping: ShipperProcess) -> None:
    assert shipping.catch_up(PATIENCE_SECONDS)
    journaled(tmp_path / "journal", [record() for _ in range(3)])
    shipping.stop()
    assert calls_in(address) == shipping.shipped_records == 3
    os.close(lock(tmp_path / "journal", "shipper"))  # nobody holds it any more


def test_it_may_be_stopped_before_it_has_begun(tmp_path: Path, address: DatabaseAddress) -> None:
    process = ShipperProcess(tmp_path / "journal", address)
    process.stop()
    process.start()
    assert not process.catch_up(0.1)
    process.stop()
    assert process.process_id is None


def test_one_that_is_killed_is_replaced_and_nothing_is_lost_or_doubled(
    tmp_path: Path, address: DatabaseAddress, shipping: ShipperProcess
) -> None:
    for number in range(1, 4):
        journaled(tmp_path / "journal", [record() for _ in range(400)], rotate_bytes=100_000)
        assert shipping.catch_up(PATIENCE_SECONDS)
        killed(shipping)
        until(lambda: shipping.catch_up(PATIENCE_SECONDS))
        assert (shipping.shipped_records, shipping.backlog_records, shipping.failure) == (400 * number, 0, None)
    found = audit(address, tmp_path / "journal", known_source_id(tmp_path / "journal"))
    assert found.balances
    assert found.ledger_calls == 1200


def test_one_whose_starter_is_gone_ships_the_rest_and_ends(tmp_path: Path, address: DatabaseAddress) -> None:
    process = ShipperProcess(tmp_path / "journal", address)
    process.start()
    assert process.catch_up(PATIENCE_SECONDS)
    journaled(tmp_path / "journal", [record() for _ in range(7)])
    assert process.process_id is not None
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # as a whole group is sent them
        os.kill(process.process_id, number)
    process.stop()
    assert calls_in(address) == 7


def test_a_database_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "modelport.db").write_bytes(b"this is no database" * 1000)
    process = ShipperProcess(tmp_path / "journal", address_of(None, tmp_path))
    journaled(tmp_path / "journal", [record() for _ in range(4)])
    process.start()
    assert not process.catch_up(PATIENCE_SECONDS)
    assert process.is_failing
    assert process.failure is not None
    assert "not a database" in process.failure
    assert process.backlog_records == 4
    (tmp_path / "modelport.db").unlink()
    until(lambda: process.catch_up(PATIENCE_SECONDS))
    assert (process.is_failing, process.backlog_records, process.shipped_records) == (False, 0, 4)
    process.stop()


def test_it_needs_no_sql_library(tmp_path: Path, shipping: ShipperProcess) -> None:
    journaled(tmp_path / "journal", [record()])
    assert shipping.catch_up(PATIENCE_SECONDS)
    mapped = Path(f"/proc/{shipping.process_id}/maps").read_text()
    assert "sqlite3" in mapped
    assert "sqlalchemy" not in mapped
