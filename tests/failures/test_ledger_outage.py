"""A database that is gone, locked, full or broken for a while: calls are answered, wait in the journal, and arrive."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelport.stores.shipping.shipper import Shipper, known_source_id
from modelport.stores.sql.address import address_of
from modelport.stores.sql.audit import audit
from modelport.stores.sql.database import sqlite
from modelport.stores.sql.ledger import SqlLedger
from postgres_server import PostgresServer, own_server
from served import SECRETS_KEY, Served, eventually
from usage_records import journaled, record

MODEL = {"format": "Custom", "name": "script", "version": "1"}
CONFIG: dict[str, Any] = {
    "deployments": {"script": {"model": MODEL, "provider": {"type": "scripted"}, "default": True}},
}


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """One that may be killed."""
    found = own_server()
    try:
        yield found
    finally:
        found.close()


def calls_in(served: Served) -> int:
    answer = served.call("GET", "/admin/v1/usage")
    assert answer.status == 200
    return sum(row["calls"] for row in answer.json)


def counts(served: Served, calls: int) -> None:
    """Waits for the ledger, which may have to connect first, to have so many calls, and never more."""

    def has_all() -> bool:
        found = calls_in(served)
        assert found <= calls
        return found == calls

    eventually(has_all, f"{calls} calls in the ledger")


def test_every_worker_of_a_server_says_how_the_ledger_is(serve: Any, server: PostgresServer) -> None:
    def states(served: Served) -> set[tuple[str, str | None]]:
        """What some connections, and so perhaps both workers, are told."""
        asked = [served.call("GET", "/health/ready").json["stores"] for _ in range(8)]
        found = [store for stores in asked for store in stores if store["name"].startswith("ledger")]
        assert len(found) == len(asked)
        return {(store["state"], store["reason"]) for store in found}

    with serve(
        {**CONFIG, "server": {"workers": 2}}, MODELPORT_DATABASE_URL=server.url, MODELPORT_SECRETS_KEY=SECRETS_KEY
    ) as served:
        assert served.chat().status == 200
        counts(served, 1)
        eventually(lambda: states(served) == {("ready", None)}, "both know of the ledger")
        server.kill()
        assert [served.chat().status for _ in range(3)] == [200] * 3
        waiting = "it cannot be written; 3 calls wait in the journal"
        eventually(lambda: states(served) == {("degraded", waiting)}, "both know")
        server.start()
        eventually(lambda: states(served) == {("ready", None)}, "both know that it is over")


def test_calls_outlive_a_postgresql_that_is_killed(serve: Any, server: PostgresServer, data_dir: Path) -> None:
    with serve(CONFIG, MODELPORT_DATABASE_URL=server.url, MODELPORT_SECRETS_KEY=SECRETS_KEY) as served:
        assert served.chat().status == 200
        counts(served, 1)
        server.kill()
        assert [served.chat().status for _ in range(3)] == [200] * 3
        eventually(lambda: served.metric("modelport_ledger_backlog_records") == 3, "a backlog")
        assert served.metric("modelport_ledger_failing") == 1
        refused = served.call("GET", "/admin/v1/usage")
        assert refused.status == 503
        assert int(refused.headers["retry-after"]) >= 1
        ready = served.call("GET", "/health/ready")
        assert ready.status == 200
        assert {"name": "ledger (postgresql)", "state": "degraded"}.items() <= ready.json["stores"][0].items()
        server.start()
        eventually(lambda: served.metric("modelport_ledger_failing") == 0, "the ledger is written again")
        counts(served, 4)
        assert served.metric("modelport_ledger_backlog_records") == 0
        assert served.metric("modelport_ledger_shipped_total") == 4
        served.terminate()
        served.ended()
        assert "s3cret" not in served.stderr()
    address = address_of(server.url, data_dir)
    assert audit(address, data_dir / "journal", known_source_id(data_dir / "journal")).balances
    assert not (data_dir / "modelport.db").exists()


def test_a_server_starts_and_answers_without_its_database(serve: Any, data_dir: Path) -> None:
    with serve(
        CONFIG, MODELPORT_DATABASE_URL="postgresql://user:s3cret@127.0.0.1:1/books", MODELPORT_SECRETS_KEY=SECRETS_KEY
    ) as served:
        assert served.chat().status == 200
        eventually(lambda: served.metric("modelport_ledger_backlog_records") == 1, "a backlog")
        assert served.metric("modelport_ledger_failing") == 1
        refused = served.call("GET", "/admin/v1/usage")
        assert refused.status == 503
        served.terminate()
        served.ended()
        assert "s3cret" not in served.stderr() + refused.body.decode()
        assert served.stderr().count("the ledger cannot be written") == 1
    with serve(CONFIG) as served:  # SQLite again: what waited arrives there
        counts(served, 1)


def test_a_locked_database_is_waited_for(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelport.stores.sql.connecting.BUSY_MILLISECONDS", 200)
    address = address_of(None, data_dir)
    SqlLedger(address).close()
    assert address.path is not None
    shipper = Shipper(data_dir / "journal", lambda: SqlLedger(address), poll_seconds=0.05)
    blocker = sqlite3.connect(address.path, isolation_level=None)
    blocker.execute("BEGIN EXCLUSIVE")
    journaled(data_dir / "journal", [record() for _ in range(10)])
    shipper.start()
    assert not shipper.catch_up(30)
    assert (shipper.is_failing, shipper.backlog_records) == (True, 10)
    blocker.execute("ROLLBACK")
    blocker.close()
    assert shipper.catch_up(30)
    assert (shipper.is_failing, shipper.backlog_records, shipper.shipped_records) == (False, 0, 10)
    shipper.stop()


def test_a_broken_database_file_costs_no_call(serve: Any, data_dir: Path) -> None:
    (data_dir / "modelport.db").write_bytes(b"this is no database" * 1000)
    with serve(CONFIG) as served:
        assert served.chat().status == 200
        eventually(lambda: served.metric("modelport_ledger_backlog_records") == 1, "a backlog")
        assert served.metric("modelport_ledger_failing") == 1
        (data_dir / "modelport.db").unlink()
        eventually(lambda: served.metric("modelport_ledger_failing") == 0, "a new one is filled")
        counts(served, 1)


FULL_DISK = """
import resource, sys
from pathlib import Path
from modelport.stores.shipping.shipper import Shipper
from modelport.stores.sql.address import address_of
from modelport.stores.sql.ledger import SqlLedger

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

data_dir = Path(sys.argv[1])
address = address_of(None, data_dir)
shipper = Shipper(data_dir / "journal", lambda: SqlLedger(address), poll_seconds=0.05)
limit(300_000)
shipper.start()
assert not shipper.catch_up(60) and shipper.is_failing, "everything fitted"
assert 0 < shipper.backlog_records <= 3000, shipper.backlog_records
limit(resource.RLIM_INFINITY)
assert shipper.catch_up(60), shipper.failure
assert shipper.backlog_records == 0
shipper.stop()
"""


def test_a_full_disk_stops_shipping_and_room_starts_it_again(data_dir: Path) -> None:
    journaled(data_dir / "journal", [record() for _ in range(3000)])
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(data_dir)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = audit(address_of(None, data_dir), data_dir / "journal", known_source_id(data_dir / "journal"))
    assert found.balances
    assert found.ledger_calls == 3000


def test_a_torn_end_of_a_journal_is_shipped_when_it_is_mended(serve: Any, data_dir: Path) -> None:
    with serve(CONFIG) as served:
        assert served.chat().status == 200
        counts(served, 1)
    (path,) = (data_dir / "journal").glob("*.jsonl")
    with path.open("ab") as file:
        file.write(b'["open",["0197"]]\n["seal",4,"')
    with serve(CONFIG) as served:
        assert served.chat().status == 200
        counts(served, 2)
        assert served.metric("modelport_ledger_damaged_lines_total") == 0


# --- what an audit finds ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("DELETE FROM usage_records WHERE id = (SELECT min(id) FROM usage_records)", "in the journal and not in the"),
        ("UPDATE usage_records SET output_tokens = 4 WHERE id = (SELECT min(id) FROM usage_records)", "output_tokens"),
        ("UPDATE usage_records SET cost_nanos = 0 WHERE id = (SELECT min(id) FROM usage_records)", "cost_nanos"),
        ("UPDATE usage_hours SET input_tokens = input_tokens + 1", "hour"),
        ("UPDATE usage_days SET cost_attos = cost_attos + 1", "day"),
        ("DELETE FROM usage_days", "there are calls and no roll-up"),
        ("UPDATE usage_months SET calls = 4", "month"),
        (
            "INSERT INTO usage_hours SELECT 1, series_id, 1,0,0, 0,0,0,0,0,0,0, 0,0,0,0, 0 FROM usage_hours",
            "and no call",
        ),
        ("UPDATE journal_positions SET digest = 'another'", "is not the one that the ledger was filled from"),
        (
            "INSERT INTO usage_records SELECT started_us + 1, id, series_id, streamed, requested_model, spilled_from, "
            "status, ending, error_code, usage_source, input_tokens, cached_input_tokens, output_tokens, "
            "reasoning_tokens, audio_input_tokens, audio_output_tokens, image_tokens, reserved_tokens, "
            "first_event_seconds, duration_seconds, client_request_id, snapshot, pricing, price_version, cost_units, "
            "cost_nanos, cost_attos, cost_rontos, cache_write_tokens, service_tier, content_filter "
            "FROM usage_records LIMIT 1",
            "more than once",
        ),
    ],
)
def test_an_audit_names_what_does_not_agree(data_dir: Path, change: str, said: str) -> None:
    address = address_of(None, data_dir)
    journaled(data_dir / "journal", [record() for _ in range(5)])
    shipper = Shipper(data_dir / "journal", lambda: SqlLedger(address))
    shipper.start()
    shipper.stop()
    source = known_source_id(data_dir / "journal")
    assert audit(address, data_dir / "journal", source).balances
    assert address.path is not None
    engine = sqlite(address.path, is_writer=True)
    with engine.begin() as connection:
        connection.exec_driver_sql(change)
    engine.dispose()
    found = audit(address, data_dir / "journal", source)
    assert not found.balances
    assert any(said in fault for fault in found.faults), found.faults
