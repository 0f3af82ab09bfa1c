"""Which database it is, and how its tables came to be."""

from __future__ import annotations

import stat
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
from sqlalchemy import text

from modelport.core.usage import TokenUsage
from modelport.core.usage_reports import LedgerUnavailable, RecordsQuestion, UsageQuestion
from modelport.stores.sql.address import DatabaseAddressError, address_of
from modelport.stores.sql.audit import audit
from modelport.stores.sql.database import open_for_writing, sqlite, version
from modelport.stores.sql.ledger import SqlLedger
from modelport.stores.sql.reports import SqlReports
from modelport.stores.sql.schema import METADATA, REVISIONS
from usage_records import NOON, record


def test_without_a_url_it_is_a_file_in_the_data_directory(tmp_path: Path) -> None:
    assert address_of(None, tmp_path).path == tmp_path / "modelport.db"
    assert address_of("sqlite:///books.db", tmp_path).path == tmp_path / "books.db"
    assert address_of("sqlite:////var/books.db", tmp_path).path == Path("/var/books.db")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_postgresql_is_known_by_all_its_schemes(tmp_path: Path, scheme: str) -> None:
    address = address_of(f"{scheme}://user:pass%40word@db:5433/books", tmp_path)
    assert address.url == "postgresql+psycopg://user:pass%40word@db:5433/books"
    assert address.shown == "postgresql://db:5433/books"


@pytest.mark.parametrize("url", ["mysql://u:s3cret@h/d", "s3cret", "", "sqlite://", "postgresql://u:s3cret@h:port/d"])
def test_another_url_is_refused_without_repeating_it(tmp_path: Path, url: str) -> None:
    with pytest.raises(DatabaseAddressError) as failure:
        address_of(url, tmp_path)
    assert "s3cret" not in str(failure.value)


def test_the_migrations_are_those_that_the_program_knows() -> None:
    found = files("modelport.stores.sql.migrations").joinpath("versions").iterdir()
    assert sorted(file.name[:4] for file in found if file.name[0].isdigit()) == list(REVISIONS)


def test_migrations_make_the_tables_that_the_program_uses(tmp_path: Path) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    engine = open_for_writing(address_of(None, tmp_path))
    with engine.begin() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []
    engine.dispose()


def test_a_database_of_a_later_version_still_serves(tmp_path: Path) -> None:
    address = address_of(None, tmp_path)
    engine = open_for_writing(address)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        connection.execute(text("ALTER TABLE usage_records ADD COLUMN added_later TEXT"))
    engine.dispose()
    with SqlLedger(address) as ledger:
        assert ledger.take([record()]) == 1
    engine = open_for_writing(address)
    with engine.begin() as connection:
        assert version(connection) == "9999"
    engine.dispose()


def made_by_first_version(path: Path) -> None:
    """With one call of 7 and 3 tokens in it."""
    from alembic import command
    from alembic.config import Config

    tokens = (
        "input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, audio_input_tokens, audio_output_tokens"
    )
    columns = f"{tokens}, image_tokens, cost_units, cost_nanos, cost_attos, cost_rontos"
    values = "7, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0"
    hour = int(NOON) // 3600
    engine = sqlite(path, is_writer=True)
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", "modelport.stores.sql:migrations")
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(
            text(
                "INSERT INTO series (id, fingerprint, principal, surface, operation, currency) "
                "VALUES (1, 'f', 'alice', 'openai_v1', 'chat_completions', 'USD')"
            )
        )
        connection.execute(
            text(
                "INSERT INTO usage_records (started_us, id, series_id, streamed, status, ending, usage_source, "
                f"reserved_tokens, duration_seconds, pricing, {columns}) "
                f"VALUES ({int(NOON) * 10**6}, 'c', 1, 0, 200, 'completed', 'reported', 9, 1.0, 'priced', {values})"
            )
        )
        places = {"usage_hours": ("hour", hour), "usage_days": ("day", hour // 24), "usage_months": ("month", 682)}
        for table, (bucket, place) in places.items():
            connection.execute(
                text(
                    f"INSERT INTO {table} ({bucket}, series_id, calls, unpriced_calls, estimated_calls, {columns}) "
                    f"VALUES ({place}, 1, 1, 0, 0, {values})"
                )
            )
    engine.dispose()


def test_a_database_of_an_earlier_version_is_brought_up_to_date_by_who_writes(tmp_path: Path) -> None:
    address = address_of(None, tmp_path)
    assert address.path is not None
    made_by_first_version(address.path)
    reports = SqlReports(address)
    with pytest.raises(LedgerUnavailable, match="earlier version"):
        reports.report(UsageQuestion())
    with SqlLedger(address) as ledger:
        ledger.take([record(started_at=NOON, usage=TokenUsage(input=1, cache_write=5))])
    (row,) = reports.report(UsageQuestion())
    assert (row.calls, row.tokens) == (2, TokenUsage(input=8, output=3, cache_write=5))
    old, _ = sorted(reports.records(RecordsQuestion()).records, key=lambda one: len(one.id))
    assert (old.id, old.usage, old.service_tier) == ("c", TokenUsage(input=7, output=3), None)
    reports.close()
    assert audit(address, tmp_path / "journal", None).balances


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    with SqlLedger(address_of(None, tmp_path)) as ledger:
        ledger.take([record()])
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("modelport.db*")}
    assert modes == {"modelport.db": 0o600, "modelport.db-wal": 0o600, "modelport.db-shm": 0o600}


@pytest.mark.parametrize("name", ["what?.db", "100%.db", "a#b.db", "with space.db"])
def test_a_file_may_have_any_name(tmp_path: Path, name: str) -> None:
    directory = tmp_path / name.removesuffix(".db")
    with SqlLedger(address_of(None, directory)) as ledger:
        ledger.take([record()])
    assert (directory / "modelport.db").exists()
    reports = SqlReports(address_of(None, directory))
    assert reports.report(UsageQuestion())[0].calls == 1
    reports.close()


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "modelport.db"
    path.write_bytes(b"somebody's notes, which are no database at all" * 100)
    with pytest.raises(LedgerUnavailable, match="not a database"):
        SqlLedger(address_of(None, tmp_path))
    assert path.read_bytes().startswith(b"somebody's notes")


def test_a_question_makes_no_database(tmp_path: Path) -> None:
    reports = SqlReports(address_of(None, tmp_path))
    with pytest.raises(LedgerUnavailable):
        reports.report(UsageQuestion())
    reports.close()
    assert list(tmp_path.iterdir()) == []


def test_what_serves_and_knows_no_database_imports_no_sql() -> None:
    program = (
        "import sys, modelport.app.build, modelport.app.processes.data_plane, modelport.cli.main; "
        "print([name for name in ('sqlalchemy', 'alembic', 'psycopg') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
