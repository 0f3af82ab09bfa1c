"""`modelport audit`: what was changed over the API, by whom, and whether the chain of entries is whole."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from modelport.cli.main import app
from modelport.cli.output import ExitCode
from served import KEY, Served

MODEL = {"format": "Custom", "name": "script", "version": "1"}
CONFIG: dict[str, Any] = {"deployments": {"script": {"model": MODEL, "provider": {"type": "scripted"}}}}
DEPLOYED = {"model": MODEL, "provider": {"type": "scripted"}}


def command(data_dir: Path, *arguments: str, key: str | None = None) -> Result:
    inherited: dict[str, str | None] = {name: None for name in os.environ if name.startswith("MODELPORT_")}
    ended = CliRunner().invoke(
        app, ["audit", *arguments], env={**inherited, "MODELPORT_DATA_DIR": str(data_dir), "MODELPORT_API_KEY": key}
    )
    assert isinstance(ended.exception, SystemExit | None)
    return ended


def test_nothing_was_changed(data_dir: Path) -> None:
    ended = command(data_dir)
    assert ended.exit_code == 0
    assert "The chain is whole." in ended.stdout
    assert list(data_dir.iterdir()) == []


def test_changes_are_listed_beside_the_server_and_without_it(
    serve: Callable[..., AbstractContextManager[Served]], data_dir: Path
) -> None:
    with serve(CONFIG) as served:
        for name in ("first", "second"):
            assert served.call("PUT", f"/admin/v1/deployments/{name}", {"settings": DEPLOYED}).status == 201
        assert served.call("DELETE", "/admin/v1/deployments/first").status == 204
        assert served.call("PUT", "/admin/v1/deployments/script", {"settings": DEPLOYED}).status == 409
        beside = command(data_dir, "--json")
        asked = command(data_dir, "--json", "--endpoint", served.url, key=KEY)
        assert command(data_dir, "--endpoint", served.url, key="wrong").exit_code == ExitCode.NOT_AUTHORISED
    assert command(data_dir, "--endpoint", served.url, key=KEY).exit_code == ExitCode.SERVER_UNREACHABLE
    assert json.loads(asked.stdout) == json.loads(beside.stdout)
    assert beside.exit_code == 0, beside.output
    found = json.loads(command(data_dir, "--json").stdout)
    assert found == json.loads(beside.stdout)
    assert found["is_whole"] is True
    told = [(entry["action"], entry["name"], entry["result"]) for entry in found["entries"]]
    assert told == [
        ("create", "first", "done"),
        ("create", "second", "done"),
        ("delete", "first", "done"),
        ("change", "script", "Conflict"),
    ]
    one = json.loads(command(data_dir, "--json", "--resource", "deployments/First").stdout)["entries"]
    assert [entry["sequence"] for entry in one] == [1, 3]
    assert json.loads(command(data_dir, "--json", "--resource", "keys").stdout)["entries"] == []
    assert json.loads(command(data_dir, "--json", "--since", "2100-01-01").stdout)["entries"] == []
    assert len(json.loads(command(data_dir, "--json", "--since", "1h").stdout)["entries"]) == 4
    text = command(data_dir).stdout
    assert "deployments/second" in text
    assert "operator/1" in text
    assert command(data_dir, "--resource", "nonsense").exit_code == 2
    assert command(data_dir, "--since", "nonsense").exit_code == 2


def test_an_entry_that_was_changed_or_removed_is_found(
    serve: Callable[..., AbstractContextManager[Served]], data_dir: Path
) -> None:
    with serve(CONFIG) as served:
        for name in ("first", "second", "third"):
            assert served.call("PUT", f"/admin/v1/deployments/{name}", {"settings": DEPLOYED}).status == 201
    for statement, told in (
        ("UPDATE control_audit SET actor = 'somebody' WHERE sequence = 2", "entry 2 is not as it was written"),
        ("DELETE FROM control_audit WHERE sequence = 2", "entries are missing"),
    ):
        with sqlite3.connect(data_dir / "modelport.db") as connection:
            connection.execute(statement)
        connection.close()
        for arguments in ((), ("verify",)):
            ended = command(data_dir, *arguments)
            assert ended.exit_code == ExitCode.UNBALANCED
            assert told in ended.stderr
            assert "The chain is broken." in ended.stdout
            assert json.loads(command(data_dir, *arguments, "--json").stdout)["is_whole"] is False


def test_the_chain_is_verified_also_against_a_head_that_was_kept(
    serve: Callable[..., AbstractContextManager[Served]], data_dir: Path
) -> None:
    assert "head     none" in command(data_dir, "verify").stdout
    with serve(CONFIG) as served:
        assert served.call("PUT", "/admin/v1/deployments/first", {"settings": DEPLOYED}).status == 201
        head = json.loads(command(data_dir, "verify", "--json").stdout)["head"]
        assert head.startswith("1:")
        assert served.call("PUT", "/admin/v1/deployments/second", {"settings": DEPLOYED}).status == 201
        asked = command(data_dir, "verify", "--head", head, "--endpoint", served.url, key=KEY)
        assert (asked.exit_code, asked.stdout.splitlines()[0]) == (0, "entries  2"), asked.output
    later = json.loads(command(data_dir, "verify", "--json").stdout)
    assert later == {"is_whole": True, "breaks": [], "entries": 2, "head": later["head"]}
    with sqlite3.connect(data_dir / "modelport.db") as connection:
        connection.execute("DELETE FROM control_audit WHERE sequence = 2")
    connection.close()
    assert command(data_dir, "verify").exit_code == 0  # the chain alone does not know how long it was
    cut = command(data_dir, "verify", "--head", later["head"])
    assert cut.exit_code == ExitCode.UNBALANCED
    assert "entry 2 is not the one whose digest was kept" in cut.stderr
    assert command(data_dir, "verify", "--head", head).exit_code == 0
    for wrong in ("nonsense", "1", "x:y", ":"):
        assert command(data_dir, "verify", "--head", wrong).exit_code == 2


def test_refused_changes_are_entries_and_a_flood_of_them_is_one(
    serve: Callable[..., AbstractContextManager[Served]], data_dir: Path
) -> None:
    keys = {"reader": {"key1": "env:READER_KEY", "role": "Usage Reader"}}
    arm = "/subscriptions/s/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/a"
    with serve({**CONFIG, "keys": keys}, READER_KEY="key-of-a-reader-41") as served:
        for method, path, key in (
            ("DELETE", "/admin/v1/deployments/script", None),
            ("PUT", f"/admin/v1/keys/{'x' * 65}", "a-wrong-key-93"),
            ("POST", "/admin/v1/keys/reader/regenerate", "key-of-a-reader-41"),
            ("PUT", f"{arm}/raiPolicies/mine", "key-of-a-reader-41"),
            ("POST", f"{arm}/listKeys", "key-of-a-reader-41"),
            ("POST", f"{arm}/listKeys", KEY),  # not over TLS
        ):
            assert served.call(method, path, {}, key=key).status in (401, 403)
        for method, path in (("GET", "/admin/v1/keys"), ("PUT", "/admin/v1/nothing"), ("PUT", "/admin/v1/usage")):
            assert served.call(method, path, key="key-of-a-reader-41").status == 401
        for number in range(40):
            path = f"/admin/v1/providers/{number}"
            assert served.call("PUT", path, {}, key=f"guess-{number}").status == 401
        served.terminate()
        served.ended()
    entries = json.loads(command(data_dir, "--json").stdout)["entries"]
    found = [(e["actor"], e["action"], f"{e['kind']}/{e['name']}", e["result"]) for e in entries]
    stranger, unknown = "(unauthenticated)", "Unauthorized"
    assert found[:6] == [
        (stranger, "delete", "deployments/script", unknown),
        (stranger, "change", "keys/", unknown),
        ("reader", "regenerate_key", "keys/reader", "PermissionDenied"),
        ("reader", "change", "content_filters/mine", "PermissionDenied"),
        ("reader", "list_keys", "account/", "PermissionDenied"),
        ("operator", "list_keys", "account/", "Forbidden"),
    ]
    assert found[6:] == [(stranger, "change", f"providers/{n}", unknown) for n in [*range(8), 39]]
    assert entries[-1]["after"] == {"further_refusals": 32}
    assert "Unauthorized (32 times)" in command(data_dir).stdout
    text = command(data_dir, "--json").stdout + served.stderr()
    assert not any(key in text for key in ("key-of-a-reader-41", "a-wrong-key-93", "guess-", KEY))
