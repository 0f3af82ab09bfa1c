"""A process that is killed while it fills the ledger: nothing is lost, nothing is there twice, the books balance."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelport.core.usage_reports import RecordsQuestion, UsageQuestion
from modelport.stores.journal import ended_calls
from modelport.stores.shipping.shipper import Shipper, known_source_id
from modelport.stores.sql.address import DatabaseAddress, address_of
from modelport.stores.sql.audit import audit
from modelport.stores.sql.ledger import SqlLedger
from modelport.stores.sql.reports import SqlReports
from postgres_server import fresh_database, named_url, own_server
from served import Served
from usage_records import NOON, journaled, record

SHIPPING = """
import sys
from pathlib import Path
from modelport.stores.shipping.shipper import Shipper
from modelport.stores.sql.address import address_of
from modelport.stores.sql.ledger import SqlLedger

address = address_of(sys.argv[2] or None, Path(sys.argv[1]))
shipper = Shipper(Path(sys.argv[1]) / "journal", lambda: SqlLedger(address), batch_records=7)
print("begun", flush=True)
shipper.start()
sys.stdin.read()
"""

KILLED_BETWEEN = """
import os, signal, sys
from pathlib import Path
from modelport.stores.shipping.shipper import Shipper
from modelport.stores.sql.address import address_of
from modelport.stores.sql.ledger import SqlLedger

class Killed(SqlLedger):
    left = int(sys.argv[3])

    def _remember(self, *given):
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)
        Killed.left -= 1
        super()._remember(*given)

address = address_of(sys.argv[2] or None, Path(sys.argv[1]))
Shipper(Path(sys.argv[1]) / "journal", lambda: Killed(address), batch_records=7).ship()
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Of a database of its own; empty: SQLite in the data directory."""
    if request.param == "sqlite":
        yield ""
        return
    named = named_url()
    server = None if named is not None else own_server()
    try:
        with fresh_database(named if server is None else server.url) as found:
            yield found
    finally:
        if server is not None:
            server.close()


def shipped(data_dir: Path, address: DatabaseAddress) -> None:
    shipper = Shipper(data_dir / "journal", lambda: SqlLedger(address))
    shipper.start()
    shipper.stop(60)
    assert not shipper.is_failing


def assert_it_balances(data_dir: Path, address: DatabaseAddress) -> None:
    journal = list(ended_calls(data_dir / "journal"))
    found = audit(address, data_dir / "journal", known_source_id(data_dir / "journal"))
    assert found.faults == ()
    assert found.balances
    assert found.waiting_calls == 0
    assert found.ledger_calls == found.checked_calls == len(journal)
    assert found.ledger_tokens == sum(one.usage.total for one in journal)
    reports = SqlReports(address)
    assert {one.id for one in reports.records(RecordsQuestion(limit=1000)).records} == {one.id for one in journal}
    reports.close()


def test_a_kill_at_any_moment_of_shipping_loses_and_doubles_nothing(data_dir: Path, url: str) -> None:
    moments = random.Random(url == "")
    journaled(data_dir / "journal", [record(started_at=NOON + n) for n in range(300)], rotate_bytes=40_000)
    for _ in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", SHIPPING, str(data_dir), url], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.3 + moments.random() * 0.4)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    address = address_of(url or None, data_dir)
    shipped(data_dir, address)
    assert_it_balances(data_dir, address)


@pytest.mark.parametrize("batches", [0, 1, 5])
def test_a_kill_between_a_batch_and_its_position_is_no_difference(data_dir: Path, url: str, batches: int) -> None:
    journaled(data_dir / "journal", [record(started_at=NOON + n) for n in range(60)])
    done = subprocess.run([sys.executable, "-c", KILLED_BETWEEN, str(data_dir), url, str(batches)], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    address = address_of(url or None, data_dir)
    reports = SqlReports(address)
    assert sum(row.calls for row in reports.report(UsageQuestion())) == 7 * batches
    reports.close()
    shipped(data_dir, address)
    assert_it_balances(data_dir, address)


MODEL = {"format": "Custom", "name": "script", "version": "1"}
CONFIG: dict[str, Any] = {
    "deployments": {"script": {"model": MODEL, "provider": {"type": "scripted"}, "default": True}},
}


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_gateway_that_is_killed_again_and_again_ends_with_books_that_balance(
    serve: Any, data_dir: Path, workers: str
) -> None:
    answered = 0
    for life in range(3):
        with serve(CONFIG, MODELPORT_WORKERS=workers) as served:
            for _ in range(5):
                answered += served.chat().status == 200
            if life == 1:
                time.sleep(1.2)  # this one has shipped before it ends
    with serve(CONFIG, MODELPORT_WORKERS=workers) as served:
        rows = served.call("GET", "/admin/v1/usage?by=deployment").json
        assert [(row["deployment"], row["calls"]) for row in rows] == [("script", answered)]
        stopped(served)
    assert answered == 15
    assert_it_balances(data_dir, address_of(None, data_dir))


def stopped(served: Served) -> None:
    served.terminate()
    assert served.ended() == 0
