"""`modelport usage` and `modelport ledger verify`: with a server, without one, and with the wrong one."""

from __future__ import annotations

import csv
import io
import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from modelport.cli.main import app
from modelport.cli.output import ExitCode
from served import KEY, Served, eventually
from usage_records import journaled, record

MODEL = {"format": "Custom", "name": "script", "version": "1"}
PRICES = """
currency: USD
prices:
  - {deployment: script, input: "0.15", output: "0.6"}
"""
CONFIG: dict[str, Any] = {
    "deployments": {
        "script": {"model": MODEL, "provider": {"type": "scripted"}, "default": True},
        "gratis": {"model": {**MODEL, "name": "house-made"}, "provider": {"type": "scripted"}},
    }
}
Serve = Callable[..., AbstractContextManager[Served]]


def command(*arguments: str, **environment: str) -> Result:
    inherited: dict[str, str | None] = {name: None for name in os.environ if name.startswith("MODELPORT_")}
    ended = CliRunner().invoke(app, arguments, env={**inherited, **environment})
    assert isinstance(ended.exception, SystemExit | None)
    return ended


def rows(ended: Result) -> list[dict[str, Any]]:
    assert ended.exit_code == 0, ended.output
    found: list[dict[str, Any]] = json.loads(ended.stdout)
    return found


def nowhere(data_dir: Path, free_port: int) -> dict[str, str]:
    """Settings of a server that does not run."""
    return {"MODELPORT_DATA_DIR": str(data_dir), "MODELPORT_PORT": str(free_port)}


def test_usage_is_the_servers_while_it_runs_and_the_files_afterwards(
    serve: Serve, data_dir: Path, free_port: int
) -> None:
    prices = data_dir.parent / "prices.yaml"
    prices.write_text(PRICES)
    with serve({**CONFIG, "prices": {"file": str(prices)}}) as served:
        used = served.chat("How much is this?").usage
        assert served.chat(model="gratis").status == 200
        eventually(lambda: len(served.call("GET", "/admin/v1/usage?by=deployment").json) == 2, "both calls")
        running = command("usage", "--json", MODELPORT_ENDPOINT=served.url, MODELPORT_API_KEY=KEY)
        found = {row["deployment"]: row for row in rows(running)}
        table = command("usage", MODELPORT_ENDPOINT=served.url, MODELPORT_API_KEY=KEY)
        served.terminate()
        served.ended()
    cost = (150 * used["prompt_tokens"] + 600 * used["completion_tokens"]) / 10**9
    script = found["script"]
    assert float(script["cost"]) == pytest.approx(cost, rel=1e-12)
    assert (script["calls"], script["currency"], script["unpriced_calls"]) == (1, "USD", 0)
    assert (found["gratis"]["cost"], found["gratis"]["unpriced_calls"]) == (None, 1)
    head, *lines = table.stdout.splitlines()
    assert head.split() == ["deployment", "calls", "input", "output", "cost", "USD", "unpriced"]
    assert lines[-1].split()[:2] == ["total", "2"]
    stopped = command("usage", "--json", **nowhere(data_dir, free_port))
    assert rows(stopped) == rows(running)
    assert stopped.stderr == ""


def test_usage_of_a_running_server_needs_none_of_its_secrets_but_a_key(serve: Serve, data_dir: Path) -> None:
    house = {"type": "openai_compatible", "base_url": "http://127.0.0.1:9/v1", "api_key": "env:OF_THE_SERVER"}
    with serve({**CONFIG, "providers": {"house": house}}, OF_THE_SERVER="x") as served:
        served.chat()
        config = str(data_dir.parent / f"{data_dir.name}.yaml")
        ended = command("usage", "--json", "--config", config, MODELPORT_ENDPOINT=served.url, MODELPORT_API_KEY=KEY)
    assert [row["deployment"] for row in rows(ended)] == ["script"]


def test_usage_before_any_call_is_an_empty_list(data_dir: Path, free_port: int) -> None:
    assert rows(command("usage", "--json", **nowhere(data_dir, free_port))) == []
    assert not (data_dir / "modelport.db").exists()
    assert command("usage", "--csv", **nowhere(data_dir, free_port)).stdout.count("\n") == 1


def test_usage_comes_as_csv_and_as_focus(serve: Serve, data_dir: Path, free_port: int) -> None:
    with serve(CONFIG) as served:
        assert served.chat().status == 200
        for arguments, column in ((("--csv", "--by", "model,day"), "model"), (("--focus",), "SkuId")):
            ended = command("usage", *arguments, MODELPORT_ENDPOINT=served.url, MODELPORT_API_KEY=KEY)
            (line,) = csv.DictReader(io.StringIO(ended.stdout))
            assert line[column] == "script"


def test_calls_that_wait_in_the_journal_are_told_and_not_counted(data_dir: Path, free_port: int) -> None:
    journaled(data_dir / "journal", [record(), record()])
    ended = command("usage", "--json", **nowhere(data_dir, free_port))
    assert rows(ended) == []
    assert "2 calls wait in the journal" in ended.stderr


@pytest.mark.parametrize(
    "arguments",
    [("--by", "colour"), ("--since", "soon"), ("--json", "--csv"), ("--since", "today", "--until", "yesterday")],
)
def test_a_question_that_is_not_understood_ends_with_the_usage_code(data_dir: Path, arguments: tuple[str, ...]) -> None:
    assert command("usage", *arguments, MODELPORT_DATA_DIR=str(data_dir)).exit_code == ExitCode.USAGE


def test_a_server_that_was_named_must_answer(data_dir: Path, free_port: int) -> None:
    ended = command("usage", "--endpoint", f"http://127.0.0.1:{free_port}", MODELPORT_DATA_DIR=str(data_dir))
    assert ended.exit_code == ExitCode.SERVER_UNREACHABLE
    assert "modelport serve" in ended.stderr


def test_a_key_without_the_role_is_refused_by_the_server(serve: Serve, data_dir: Path) -> None:
    with serve({**CONFIG, "keys": {"guest": {"key1": "env:GUEST"}}}, GUEST="key-of-a-guest") as served:
        ended = command(
            "usage", MODELPORT_ENDPOINT=served.url, MODELPORT_API_KEY="key-of-a-guest", MODELPORT_DATA_DIR=str(data_dir)
        )
    assert ended.exit_code == ExitCode.NOT_AUTHORISED


def test_a_database_that_is_none_is_told_in_one_line(data_dir: Path, free_port: int) -> None:
    (data_dir / "modelport.db").write_bytes(b"no database" * 1000)
    for arguments in (("usage",), ("ledger", "verify")):
        ended = command(*arguments, **nowhere(data_dir, free_port))
        assert ended.exit_code == ExitCode.DATA_DIR_UNUSABLE
        assert ended.stderr.count("\n") == 1


def test_a_wrong_database_url_is_a_fault_of_the_configuration(data_dir: Path, free_port: int) -> None:
    ended = command("usage", **nowhere(data_dir, free_port), MODELPORT_DATABASE_URL="mysql://root:s3cret@db/books")
    assert ended.exit_code == ExitCode.CONFIG_INVALID
    assert "database_url" in ended.stderr
    assert "s3cret" not in ended.output


def test_the_url_may_come_from_the_file_too(data_dir: Path, free_port: int) -> None:
    file = data_dir.parent / "modelport.yaml"
    file.write_text(yaml.safe_dump({"database_url": "env:BOOKS"}))
    ended = command(
        *("usage", "--json", "--config", str(file)), **nowhere(data_dir, free_port), BOOKS="sqlite:///books.db"
    )
    assert rows(ended) == []


# --- ledger verify ----------------------------------------------------------------------------------------------------


def test_books_of_a_server_balance_while_it_runs_and_afterwards(serve: Serve, data_dir: Path) -> None:
    with serve(CONFIG) as served:
        assert [served.chat().status for _ in range(3)] == [200] * 3
        assert served.call("GET", "/admin/v1/usage").status == 200
        assert "It balances." in command("ledger", "verify", "--data-dir", str(data_dir)).stdout
        served.terminate()
        served.ended()
    ended = command("ledger", "verify", "--json", "--data-dir", str(data_dir))
    assert ended.exit_code == 0
    found = json.loads(ended.stdout)
    assert (found["balances"], found["ledger_calls"], found["checked_calls"], found["waiting_calls"]) == (True, 3, 3, 0)


def test_a_call_that_somebody_has_taken_out_is_named(serve: Serve, data_dir: Path) -> None:
    with serve(CONFIG) as served:
        assert served.chat().status == 200
        assert served.call("GET", "/admin/v1/usage").status == 200
        served.terminate()
        served.ended()
    with sqlite3.connect(data_dir / "modelport.db") as connection:
        connection.execute("DELETE FROM usage_records")
    connection.close()
    ended = command("ledger", "verify", "--data-dir", str(data_dir))
    assert ended.exit_code == ExitCode.UNBALANCED
    assert "it is in the journal and not in the ledger" in ended.stderr
    assert "there is a roll-up and no call" in ended.stderr


def test_a_journal_that_somebody_has_changed_is_named(serve: Serve, data_dir: Path) -> None:
    with serve(CONFIG) as served:
        assert served.chat().status == 200
        served.terminate()
        served.ended()
    (path,) = (data_dir / "journal").glob("*.jsonl")
    path.write_bytes(path.read_bytes().replace(b',200,"completed",', b',500,"completed",'))
    ended = command("ledger", "verify", "--data-dir", str(data_dir))
    assert ended.exit_code == ExitCode.UNBALANCED
    assert "the seal is wrong" in ended.stderr


def test_books_without_any_call_balance(data_dir: Path) -> None:
    ended = command("ledger", "verify", "--data-dir", str(data_dir))
    assert ended.exit_code == 0
