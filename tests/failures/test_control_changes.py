"""Changes over the API under constant load: no call fails, each change counts when it is answered, and one that a kill
cuts in two was made in whole or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from tests.failures.test_live_configuration import (
    AsyncLoad,
    Client,
    answering,
    connected,
    deployed,
    expected,
    states,
    two_upstreams,
)
from tests.lane.harness import KEY

from modelport.core.audit_chain import breaks
from modelport.stores.sql.address import address_of
from modelport.stores.sql.control import SqlControlStore
from served import Answer, Served, eventually
from served import serve as serve_process
from worker_processes import workers_of

CHANGES = int(os.environ.get("MODELPORT_TEST_CHANGES", "120"))
SCRIPTED: dict[str, Any] = {"model": {"format": "Custom", "name": "script"}, "provider": {"type": "scripted"}}


class Changes:
    """Brings a server into each of the states of `test_live_configuration.states`, over the API."""

    def __init__(self, served: Served, first: int, second: int) -> None:
        self._served = served
        self._first = first
        self._second = second
        self.team = ""

    def admin(self, method: str, path: str, settings: dict[str, Any] | None = None) -> Answer:
        body = None if settings is None else {"settings": settings}
        answer = self._served.call(method, f"/admin/v1/{path}", body, key=KEY)
        assert answer.status in (200, 201, 204), (method, path, answer.body)
        return answer

    def begin(self) -> None:
        self.admin("PUT", "providers/mover", self.mover(self._first))
        self.admin("PUT", "deployments/stays", deployed(self._first))
        self.admin("PUT", "deployments/moves", {**deployed(self._first), "provider": "mover"})
        self.team = self.admin("PUT", "keys/team", {}).json["secrets"]["key1"]

    def make(self, state: dict[str, Any], number: int) -> None:
        match number % 6:
            case 0 | 3 if state["comes"]:
                self.admin("PUT", "deployments/comes", deployed(self._first))
            case 0 | 3:
                self.admin("DELETE", "deployments/comes")
            case 1:
                self.admin("PATCH", "deployments/comes", {"limits": {"wait_seconds": state["wait"]}})
            case 2 | 4 if state["has_key"]:
                self.team = self.admin("PUT", "keys/team", {}).json["secrets"]["key1"]
            case 2 | 4:
                self.admin("DELETE", "keys/team")
            case _:
                self.admin("PATCH", "providers/mover", self.mover(self._second if state["moved"] else self._first))

    def mover(self, port: int) -> dict[str, Any]:
        return {"type": "openai_compatible", "base_url": f"http://127.0.0.1:{port}/v1"}


async def as_team(clients: dict[str, Client], changes: Changes, port: int) -> None:
    """A new connection where the key is another one."""
    if clients["team"]._key != changes.team:
        clients["team"].close()
        clients["team"] = await connected(port, changes.team)


@pytest.mark.check(24)
@pytest.mark.parametrize("workers", ["1", "2"])
async def test_changes_under_load(tmp_path: Path, workers: str) -> None:
    (tmp_path / "data").mkdir(mode=0o700)
    async with two_upstreams() as (first, second):
        first.pieces, second.pieces = answering("first"), answering("second")
        config = {"auth": {"keys": ["env:MODELPORT_API_KEY"]}, "deployments": {"unused": SCRIPTED}}
        environment = {"MODELPORT_WORKERS": workers, "MODELPORT_API_KEY": KEY}
        with serve_process(config, tmp_path / "data", **environment) as served:
            port = served.address[1]
            changes = Changes(served, first.port, second.port)
            await asyncio.to_thread(changes.begin)
            keys = {"operator": KEY, "team": changes.team, "mover": KEY}
            # With several connections of each kind, both workers have some: the kernel spreads them.
            many = [{name: await connected(port, key) for name, key in keys.items()} for _ in range(4)]
            async with AsyncLoad(port) as load:
                for number, state in enumerate(states(CHANGES)):
                    await asyncio.to_thread(changes.make, state, number)
                    for clients in many:
                        await as_team(clients, changes, port)
                        await expected(clients, state, number)
            assert load.answers.keys() == {200}
            version = served.call("GET", "/health/ready", key=KEY).json["snapshot"]["version"]
            assert version == 4 + CHANGES
            for clients in many:
                for client in clients.values():
                    client.close()
            served.terminate()
            assert served.ended() == 0, served.stderr()
            log = served.stderr()
        assert "Traceback" not in log
        assert "cannot take up" not in log
    store = SqlControlStore(address_of(None, tmp_path / "data"))
    entries = store.audit()
    store.close()
    assert len(entries) == 4 + CHANGES
    assert list(breaks(entries)) == []


class Changing:
    """Creates and deletes deployments until the server is gone; knows what was answered."""

    def __init__(self, served: Served, made: dict[str, bool]) -> None:
        self._served = served
        self.made = dict(made)
        """What was answered last of each name: whether it is there."""
        self.unanswered: set[str] = set()
        self._thread = threading.Thread(target=self._run)
        self._is_over = threading.Event()

    def __enter__(self) -> Changing:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._is_over.is_set():
            name, number = f"d{number % 5}", number + 1
            is_there = self.made.get(name, False)
            method, body = ("DELETE", None) if is_there else ("PUT", {"settings": SCRIPTED})
            try:
                answer = self._served.call(method, f"/admin/v1/deployments/{name}", body)
            except (OSError, http.client.HTTPException):
                self.unanswered.add(name)
                if self._served.process.poll() is not None:
                    return
                # The connection's own worker is gone; the change may have been made.
                continue
            if answer.status in (200, 201, 204):
                self.made[name] = not is_there
                self.unanswered.discard(name)
            elif answer.status == 404:  # the change that was not answered had been made
                self.made[name] = False
            else:  # the owner is gone: the change may have been made
                assert answer.status == 503, answer.body
                self.unanswered.add(name)


def check_store(data_dir: Path, made: dict[str, bool], unanswered: set[str]) -> set[str]:
    """What was answered is there, and the audit says the same as the objects. Returns the names that are there."""
    store = SqlControlStore(address_of(None, data_dir))
    state, entries = store.load(), store.audit()
    store.close()
    names = {found.name for found in state.objects}
    for name, is_there in made.items():
        assert name in unanswered or (name in names) == is_there, name
    told: dict[str, bool] = {}
    for entry in entries:
        if entry.result == "done":
            told[entry.name] = entry.action != "delete"
    assert names == {name for name, is_there in told.items() if is_there}
    assert state.version == sum(entry.result == "done" for entry in entries)
    assert list(breaks(entries)) == []
    return names


@pytest.fixture
def spread() -> Iterator[random.Random]:
    yield random.Random(24)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_that_is_killed_in_the_middle_of_a_change(
    serve: Callable[..., AbstractContextManager[Served]], data_dir: Path, workers: str, spread: random.Random
) -> None:
    config = {"deployments": {"stays": SCRIPTED}}
    made: dict[str, bool] = {}
    for _ in range(4):
        with serve(config, MODELPORT_WORKERS=workers) as served:
            with Changing(served, made) as changing:
                eventually(lambda: len(changing.made) > 3, "there were some changes")
                threading.Event().wait(spread.random() * 0.3)
                os.killpg(served.process.pid, signal.SIGKILL)
            served.process.wait()
        names = check_store(data_dir, changing.made, changing.unanswered)
        made = {f"d{number}": f"d{number}" in names for number in range(5)}
        with serve(config, MODELPORT_WORKERS=workers) as again:
            for name, is_there in made.items():
                body = {"model": name, "messages": [{"role": "user", "content": "Hello!"}]}
                assert again.call("POST", "/v1/chat/completions", body).status == (200 if is_there else 404)


def test_a_worker_that_is_killed_in_the_middle_of_changes(
    serve: Callable[..., AbstractContextManager[Served]], data_dir: Path, spread: random.Random
) -> None:
    with serve({"deployments": {"stays": SCRIPTED}}, MODELPORT_WORKERS="2") as served:
        with Changing(served, {}) as changing:
            for _ in range(4):
                before = len(changing.made)
                eventually(lambda: len(changing.made) >= min(before + 1, 5), "there were changes")  # noqa: B023
                threading.Event().wait(spread.random() * 0.2)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(spread.choice(list(workers_of(served))), signal.SIGKILL)
            eventually(lambda: len(workers_of(served)) == 2, "both workers serve again")
        names = {found["name"] for found in served.call("GET", "/admin/v1/deployments").json["value"]} - {"stays"}
        for number in range(5):
            body = {"model": f"d{number}", "messages": [{"role": "user", "content": "Hello!"}]}
            wanted = 200 if f"d{number}" in names else 404
            for _ in range(6):  # whichever worker it is
                assert served.call("POST", "/v1/chat/completions", body).status == wanted
    assert check_store(data_dir, changing.made, changing.unanswered) == names
