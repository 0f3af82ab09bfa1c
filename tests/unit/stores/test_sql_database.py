"""Which database it is, and how its tables came to be."""

from __future__ import annotations

import stat
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
from sqlalchemy import text

from modelport.core.usage_reports import LedgerUnavailable, UsageQuestion
from modelport.stores.sql import reports as reports_module
from modelport.stores.sql.address import DatabaseAddressError, address_of
from modelport.stores.sql.database import open_for_writing, version
from modelport.stores.sql.ledger import SqlLedger
from modelport.stores.sql.reports import SqlReports
from modelport.stores.sql.schema import METADATA, REVISIONS
from usage_records import record


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


def test_a_question_to_a_database_of_an_earlier_version_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = address_of(None, tmp_path)
    with SqlLedger(address) as ledger:
        ledger.take([record()])
    monkeypatch.setattr(reports_module, "REVISIONS", (*REVISIONS, "9999"))
    reports = SqlReports(address)
    with pytest.raises(LedgerUnavailable, match="earlier version"):
        reports.report(UsageQuestion())
    reports.close()


def test_a_database_that_is_up_to_date_is_left_as_it_is(tmp_path: Path) -> None:
    address = address_of(None, tmp_path)
    assert address.path is not None
    with SqlLedger(address) as ledger:
        ledger.take([record()])
    before = address.path.read_bytes()
    open_for_writing(address).dispose()
    assert address.path.read_bytes() == before


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
