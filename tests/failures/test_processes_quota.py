"""One limit for a server of several processes, whoever of them is asked, and whoever of them dies."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from served import Served, eventually, serve, until
from worker_processes import connections_to_each, workers_of

PATH = "/models/chat/completions"
LIBRARIES = ("sqlalchemy", "alembic", "sqlite3", "starlette", "jinja2", "typer", "rich", "redis", "psycopg")


PROGRAM = """
import asyncio, os, sys
from modelport.app.build import serving
from modelport.app.processes import nursery
from modelport.app.processes.peer import Peer
from modelport.app.processes.plan import Plan
from modelport.app.processes.remote_owner import RemoteOwner
from modelport.core.clock import SystemClock

async def main(config, owner_socket):
    async def answer(reader, writer):
        await reader.readline()
        await Peer(reader, writer, {"configuration": lambda _: None}).run()

    server = await asyncio.start_unix_server(answer, owner_socket)
    plan = Plan(
        config=config,
        flags={},
        environ=dict(os.environ),
        key=None,
        owner_socket=owner_socket,
        owner_secret="s",
        listeners=(),
        life=0,
    )
    first = nursery.loaded(plan).configuration
    owner = RemoteOwner(plan, first.specs, SystemClock(), first.settings)
    async with serving(first.settings, None, owner, first):
        print(*sys.modules, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""
"""What a worker runs, in a process that can be asked what it has imported."""


def config(**limits: Any) -> dict[str, Any]:
    deployment = {
        "model": {"format": "Custom", "name": "script", "version": "1"},
        "limits": {"tokens_per_minute": None, "requests_per_minute": None, **limits},
        "provider": {
            "type": "scripted",
            "replies": [{"match": {"contains": "endless"}, "text": "a b", "hang_after_chunks": 1}],
        },
    }
    return {"server": {"workers": 2}, "deployments": {"script": deployment}}


def asked(served: Served, connection: socket.socket) -> int:
    """A call over this connection, and so of this worker; the status."""
    connection.sendall(served.request(PATH, {"messages": [{"role": "user", "content": "hello"}]}))
    received = until(connection, b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in received.split(b"\r\n") if line.startswith(b"content-length:"))
    while len(received.split(b"\r\n\r\n", 1)[1]) < length:
        received += connection.recv(65536)
    return int(received.split(b" ", 2)[1])


def test_two_workers_let_in_no_more_calls_than_one_would(data_dir: Path) -> None:
    with serve(config(requests_per_minute=20), data_dir) as served:
        connections = list(connections_to_each(served).values())
        statuses = Counter(asked(served, connection) for _ in range(20) for connection in connections)
        assert statuses == {200: 20, 429: 20}
        for connection in connections:
            connection.close()


def test_either_worker_can_use_the_whole_limit(data_dir: Path) -> None:
    with serve(config(requests_per_minute=20), data_dir) as served:
        first, second = connections_to_each(served).values()
        assert Counter(asked(served, first) for _ in range(25)) == {200: 20, 429: 5}
        assert asked(served, second) == 429
        first.close()
        second.close()


def test_calls_of_a_worker_that_died_hold_the_limit_no_longer_than_its_lifetime(data_dir: Path) -> None:
    with serve(config(concurrent_requests=1), data_dir) as served:
        connections = connections_to_each(served)
        victim, survivor = connections
        stream = {"messages": [{"role": "user", "content": "endless"}], "stream": True}
        connections[victim].sendall(served.request(PATH, stream))
        until(connections[victim], b'"a')
        assert asked(served, connections[survivor]) == 429
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: asked(served, connections[survivor]) == 200, "the place is free again")
        eventually(lambda: len(set(workers_of(served)) - {victim}) == 2, "the worker is replaced")
        for connection in connections.values():
            connection.close()


def test_a_process_that_serves_has_no_database_and_no_command_line(data_dir: Path) -> None:
    file = data_dir.parent / "serving.yaml"
    file.write_text(json.dumps({**config(), "server": {"data_dir": str(data_dir), "workers": 2}}))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(file), str(data_dir / "owner.sock")],
        env={**os.environ, "MODELPORT_API_KEY": "an-operators-key-72"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    )
    imported = done.stdout.split()
    assert "modelport.app.build" in imported
    assert [name for name in imported if name.split(".")[0] in LIBRARIES or name.startswith("modelport.cli")] == []
