"""Two servers with data directories of their own and one PostgreSQL: what is changed at one is served by the other,
also after the database was away, and no call fails."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from modelport.core.audit_chain import breaks
from modelport.stores.sql.address import address_of
from modelport.stores.sql.control import SqlControlStore
from postgres_server import PostgresServer, own_server
from served import KEY, SECRETS_KEY, Answer, Served, eventually
from served import serve as serve_process

MODEL = {"format": "Custom", "name": "script", "version": "1"}
UNLIMITED = {"requests_per_minute": None, "tokens_per_minute": None}
CONFIG: dict[str, Any] = {
    "providers": {"house": {"type": "scripted"}},
    "deployments": {"stays": {"model": MODEL, "provider": "house", "limits": UNLIMITED}},
}
CHANGES = int(os.environ.get("MODELPORT_TEST_CHANGES", "20"))
DEPLOYED: dict[str, Any] = {"model": MODEL, "provider": "house", "limits": UNLIMITED}


@pytest.fixture
def database() -> Iterator[PostgresServer]:
    """One that may be killed."""
    found = own_server()
    try:
        yield found
    finally:
        found.close()


class Servers:
    """Starts servers of one database."""

    def __init__(self, stack: ExitStack, folder: Path, database: PostgresServer) -> None:
        self._stack = stack
        self._folder = folder
        self._database = database
        self._started = 0

    def start(self, config: dict[str, Any] = CONFIG, **environment: str) -> Served:
        self._started += 1
        given = {"MODELPORT_DATABASE_URL": self._database.url, "MODELPORT_SECRETS_KEY": SECRETS_KEY, **environment}
        return self._stack.enter_context(serve_process(config, self._folder / f"data{self._started}", **given))


@pytest.fixture
def servers(tmp_path: Path, database: PostgresServer) -> Iterator[Servers]:
    with ExitStack() as stack:
        yield Servers(stack, tmp_path, database)


def put(served: Served, name: str, **fields: Any) -> Answer:
    return served.call("PUT", f"/admin/v1/deployments/{name}", {"settings": {**DEPLOYED, **fields}})


def chat(served: Served, model: str, key: str = KEY) -> int:
    body = {"model": model, "messages": [{"role": "user", "content": "Hello!"}]}
    return served.call("POST", "/v1/chat/completions", body, key=key).status


def store_state(served: Served) -> tuple[str, str]:
    stores = served.call("GET", "/health/ready").json["stores"]
    found = next(store for store in stores if store["name"] == "control plane (postgresql)")
    return found["state"], found["reason"]


class Load:
    """Calls what is always there; every answer is counted."""

    def __init__(self, *served: Served) -> None:
        self._served = served
        self.answers: Counter[int] = Counter()
        self._is_over = threading.Event()

    def __enter__(self) -> Load:
        self._threads = [threading.Thread(target=self._run, args=(served,)) for served in self._served]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, served: Served) -> None:
        while not self._is_over.wait(0.01):
            self.answers[chat(served, "stays")] += 1


def test_a_change_at_one_is_served_by_the_other(servers: Servers, database: PostgresServer, tmp_path: Path) -> None:
    first, second = servers.start(MODELPORT_WORKERS="2"), servers.start()
    with Load(first, second) as load:
        for number in range(CHANGES // 2):
            here, there = (first, second) if number % 2 else (second, first)
            assert put(here, "comes").status == 201
            eventually(lambda: chat(there, "comes") == 200, "the other server serves it")  # noqa: B023
            assert here.call("DELETE", "/admin/v1/deployments/comes").status == 204
            eventually(lambda: chat(there, "comes") == 404, "the other server does not serve it any more")  # noqa: B023
        key = first.call("PUT", "/admin/v1/keys/team", {"settings": {}}).json["secrets"]["key1"]
        eventually(lambda: chat(second, "stays", key) == 200, "the key counts there, too")
    assert set(load.answers) == {200}
    versions = {server.call("GET", "/health/ready").json["snapshot"]["version"] for server in (first, second)}
    assert versions == {CHANGES // 2 * 2 + 1}
    for served in (first, second):
        served.terminate()
        assert served.ended() == 0, served.stderr()
        assert "Traceback" not in served.stderr()
    store = SqlControlStore(address_of(database.url, tmp_path))
    assert list(breaks(store.audit())) == []
    store.close()


def test_changes_at_both_at_once_are_all_made(servers: Servers) -> None:
    both = servers.start(), servers.start()
    statuses: Counter[int] = Counter()

    def change(number: int) -> None:
        for index in range(10):
            statuses[put(both[number], f"d{number}-{index}").status] += 1

    threads = [threading.Thread(target=change, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == {201: 20}
    for served in both:
        eventually(lambda: served.call("GET", "/health/ready").json["snapshot"]["version"] == 20, "all")  # noqa: B023
        assert chat(served, "d0-9") == chat(served, "d1-9") == 200


def test_a_database_that_is_away_for_a_while(servers: Servers, database: PostgresServer) -> None:
    first, second = servers.start(MODELPORT_WORKERS="2"), servers.start()
    assert put(first, "made").status == 201
    eventually(lambda: chat(second, "made") == 200, "it is served")
    with Load(first, second) as load:
        database.kill()
        eventually(lambda: put(first, "refused").status == 503, "changes are refused")
        eventually(lambda: store_state(first)[0] == store_state(second)[0] == "degraded", "they say so")
        assert "version 1 is served" in store_state(second)[1]
        assert first.metric("modelport_control_failing") == second.metric("modelport_control_failing") == 1
        refused = put(second, "refused")
        assert (refused.status, refused.json["error"]["code"]) == (503, "ServiceUnavailable")
        assert int(refused.headers["retry-after"]) >= 1
        assert chat(first, "made") == chat(second, "made") == 200
        database.start()
        eventually(lambda: put(first, "later").status in (200, 201), "changes are taken again")
        eventually(lambda: chat(second, "later") == 200, "the other server serves it")
        eventually(lambda: store_state(second)[0] == "ready", "it says so")
        for served in (first, second):
            eventually(lambda: served.metric("modelport_control_failing") == 0, "it says so")  # noqa: B023
            version = served.call("GET", "/health/ready").json["snapshot"]["version"]
            assert served.metric("modelport_control_version") == version
    assert set(load.answers) == {200}
    assert chat(first, "refused") == 404


def test_a_server_that_starts_while_the_database_is_away(servers: Servers, database: PostgresServer) -> None:
    first = servers.start()
    assert put(first, "made").status == 201
    database.kill()
    second = servers.start(MODELPORT_WORKERS="2")
    assert (chat(second, "stays"), chat(second, "made")) == (200, 404)
    assert store_state(second)[0] == "degraded"
    database.start()
    eventually(lambda: {chat(second, "made") for _ in range(4)} == {200}, "what is stored is served")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_is_cut_off_for_too_long(servers: Servers, database: PostgresServer, workers: str) -> None:
    served = servers.start({**CONFIG, "control": {"stale_seconds": 0.5}}, MODELPORT_WORKERS=workers)
    assert put(served, "made").status == 201
    assert {chat(served, name) for name in ("made", "stays")} == {200}
    database.kill()
    eventually(lambda: {chat(served, name) for name in ("made", "stays") * 3} == {503}, "calls are refused")
    database.start()
    eventually(lambda: {chat(served, name) for name in ("made", "stays") * 3} == {200}, "calls are answered again")


def test_a_server_that_cannot_serve_what_is_stored_says_so(servers: Servers) -> None:
    first = servers.start()
    other = {"deployments": {"stays": {**DEPLOYED, "provider": {"type": "scripted"}}}}
    second = servers.start(other, MODELPORT_WORKERS="2")
    assert put(first, "made").status == 201
    eventually(lambda: store_state(second)[0] == "degraded", "it says so")
    assert (
        "version 0 is served: control plane: deployments.made.provider: there is no provider 'house'"
        in (store_state(second)[1])
    )
    refused = put(second, "other", provider={"type": "scripted"})
    assert (refused.status, "no provider 'house'" in refused.json["error"]["message"]) == (409, True)
    assert (chat(second, "stays"), chat(second, "made"), chat(first, "made")) == (200, 404, 200)
    assert first.call("DELETE", "/admin/v1/deployments/made").status == 204
    eventually(lambda: store_state(second)[0] == "ready", "it serves what is stored")
    assert put(second, "other", provider={"type": "scripted"}).status == 201
    eventually(lambda: chat(first, "other") == 200, "the first one serves it")


@pytest.mark.parametrize("key", [None, "another-secrets-key-0123456789abcdef", "short"])
def test_another_secrets_key_does_not_start(
    servers: Servers, database: PostgresServer, tmp_path: Path, key: str | None
) -> None:
    first = servers.start()
    assert put(first, "made").status == 201
    file = tmp_path / "other.yaml"
    file.write_text("deployments: {}\n")
    environ = {"MODELPORT_DATABASE_URL": database.url, "MODELPORT_DATA_DIR": str(tmp_path / "other")}
    if key is not None:
        environ["MODELPORT_SECRETS_KEY"] = key
    command = [sys.executable, "-m", "modelport", "serve", "--config", str(file), "--port", "0"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "secrets_key" in done.stderr
    assert key is None or key not in done.stderr
    assert "Traceback" not in done.stderr
