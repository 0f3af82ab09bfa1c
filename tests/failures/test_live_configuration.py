"""A server's configuration changes while it answers: each call ends with the snapshot it began with, and the next one
gets the new snapshot, whatever its connection remembers of earlier ones."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tests.lane.harness import KEY, Gateway, Upstream, gateway, upstream

from modelport.config.load import load
from modelport.config.settings import Settings
from modelport.config.tls import TlsFiles, self_signed
from modelport.core.ports.providers import Address
from served import Served, eventually, serve, until, until_closed
from worker_processes import connections_to_each, workers_of

CHANGES = int(os.environ.get("MODELPORT_TEST_CHANGES", "1000"))
CHANGES_OF_WORKERS = int(os.environ.get("MODELPORT_TEST_CHANGES", "200"))
PATH = "/v1/chat/completions"
TEAM = "key-of-the-team-0123456789abcdef"
UNLIMITED = {"tokens_per_minute": None, "requests_per_minute": None}
PAUSE_SECONDS = 0.02


def answering(text: str, *, has_counts: bool = True) -> list[bytes]:
    """A whole chat completion with this text."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    counts = {"usage": usage} if has_counts else {}
    body = json.dumps({"id": "c", "model": "m", "choices": [choice], **counts}).encode()
    return [b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)]


def deployed(port: int, **more: Any) -> dict[str, Any]:
    provider = {"type": "openai_compatible", "base_url": f"http://127.0.0.1:{port}/v1"}
    return {"model": {"format": "Custom", "name": "m"}, "provider": provider, "limits": UNLIMITED, **more}


def document(first: int, second: int, *, comes: bool, has_key: bool, moved: bool, wait: int = 0) -> dict[str, Any]:
    """The configuration in one of its states."""
    deployments = {"stays": deployed(first), "moves": deployed(second if moved else first)}
    if comes:
        deployments["comes"] = deployed(first, limits={**UNLIMITED, "wait_seconds": wait})
    keys = {"team": {"key1": "env:TEAM_KEY"}} if has_key else {}
    return {"auth": {"keys": ["env:MODELPORT_API_KEY"]}, "deployments": deployments, "keys": keys}


def states(number: int) -> Iterator[dict[str, Any]]:
    """So many changes, one after the other: a deployment comes, changes and goes, a key too, and an upstream moves."""
    comes = moved = False
    has_key, wait = True, 0
    for index in range(number):
        match index % 6:
            case 0 | 3:
                comes = not comes
            case 1:
                wait = 1 - wait
            case 2 | 4:
                has_key = not has_key
            case _:
                moved = not moved
        yield {"comes": comes, "has_key": has_key, "moved": moved, "wait": wait}


class Client:
    """One connection that is kept."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str = KEY) -> None:
        self._reader = reader
        self._writer = writer
        self._key = key

    async def chat(self, model: str, **fields: Any) -> tuple[int, bytes]:
        """The status and the body."""
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hello"}], **fields}).encode()
        head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\napi-key: {self._key}\r\ncontent-length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        lines = answer.lower().split(b"\r\n")
        length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
        return int(answer[9:12]), await self._reader.readexactly(length)

    def close(self) -> None:
        self._writer.close()


async def expected(clients: dict[str, Client], state: dict[str, Any], number: int) -> None:
    """What this change has made of the call that it concerns, on a connection that was used before it."""
    match number % 6:
        case 0 | 1 | 3:
            status, body = await clients["operator"].chat("comes")
            assert status == (200 if state["comes"] else 404), (number, state, body)
        case 2 | 4:
            status, body = await clients["team"].chat("stays")
            assert status == (200 if state["has_key"] else 401), (number, state, body)
        case _:
            status, body = await clients["mover"].chat("moves")
            assert status == 200, (number, state, body)
            assert json.loads(body)["choices"][0]["message"]["content"] == ("second" if state["moved"] else "first")


class AsyncLoad:
    """Clients that call what is always there, until the block ends; every answer must be a 200."""

    def __init__(self, port: int, clients: int = 2) -> None:
        self._port = port
        self._clients = clients
        self.answers: Counter[int] = Counter()
        self._is_over = False

    async def __aenter__(self) -> AsyncLoad:
        self._tasks = [asyncio.create_task(self._run(number)) for number in range(self._clients)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_over = True
        await asyncio.gather(*self._tasks)

    async def _run(self, number: int) -> None:
        client = Client(*await asyncio.open_connection("127.0.0.1", self._port))
        # One of them sends a field that is not in the dialect's own table.
        fields: dict[str, Any] = {"user": "somebody"} if number % 2 else {}
        while not self._is_over:
            for model in ("stays", "moves"):
                status, body = await client.chat(model, **fields)
                assert status == 200, body
                self.answers[status] += 1
            await asyncio.sleep(PAUSE_SECONDS)
        client.close()


@asynccontextmanager
async def two_upstreams() -> AsyncIterator[tuple[Upstream, Upstream]]:
    async with upstream() as first, upstream() as second:
        first.pieces, second.pieces = answering("first"), answering("second")
        yield first, second


def settings_of(folder: Path, served: Gateway, given: dict[str, Any]) -> Settings:
    (folder / "changed.yaml").write_text(yaml.safe_dump(given))
    environment = {"MODELPORT_API_KEY": KEY, "MODELPORT_DATA_DIR": str(served.data_dir), "TEAM_KEY": TEAM}
    return load(folder / "changed.yaml", environment)


async def connected(port: int, key: str = KEY) -> Client:
    return Client(*await asyncio.open_connection("127.0.0.1", port), key)


async def test_changes_under_load_in_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with two_upstreams() as (first, second):
        start = document(first.port, second.port, comes=False, has_key=True, moved=False)
        text = yaml.safe_dump(start)
        async with gateway(tmp_path, text, monkeypatch, secrets={"TEAM_KEY": TEAM}) as served:
            reconciler = served.application.reconciler
            keys = {"operator": KEY, "team": TEAM, "mover": KEY}
            clients = {name: await connected(served.port, key) for name, key in keys.items()}
            known: dict[str, Settings] = {}
            async with AsyncLoad(served.port) as load_:
                for number, state in enumerate(states(CHANGES)):
                    given = document(first.port, second.port, **state)
                    settings = known.get(str(state)) or settings_of(tmp_path, served, given)
                    known[str(state)] = settings
                    reconciler.apply(settings, None)
                    await expected(clients, state, number)
            assert load_.answers[200] > 10
            for client in clients.values():
                client.close()
            given = document(first.port, second.port, comes=False, has_key=True, moved=False)
            reconciler.apply(settings_of(tmp_path, served, given), None)
            left = Address(f"http://127.0.0.1:{second.port}/v1")
            async with asyncio.timeout(60):
                while left in served.application.lane.wire.addresses:
                    await asyncio.sleep(0.05)


@pytest.mark.parametrize("is_usual", [True, False], ids=["usual answer", "answer without counts"])
async def test_a_call_in_flight_ends_with_the_snapshot_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_usual: bool
) -> None:
    async with two_upstreams() as (first, second):
        start = document(first.port, second.port, comes=True, has_key=True, moved=False)
        text = yaml.safe_dump(start)
        async with gateway(tmp_path, text, monkeypatch, secrets={"TEAM_KEY": TEAM}) as served:
            (answer,) = first.pieces if is_usual else answering("first", has_counts=False)
            first.pieces = [answer[:-30], answer[-30:]]
            first.pause_seconds = 0.5
            team = await connected(served.port, TEAM)
            running = asyncio.create_task(team.chat("comes"))
            while not first.seen:
                await asyncio.sleep(0.01)
            given = document(second.port, second.port, comes=False, has_key=False, moved=True)
            served.application.reconciler.apply(settings_of(tmp_path, served, given), None)
            operator = await connected(served.port)
            assert (await operator.chat("comes"))[0] == 404
            assert (await operator.chat("moves"))[0] == 200
            status, body = await running
            assert (status, json.loads(body)["choices"][0]["message"]["content"]) == (200, "first")
            assert (await team.chat("stays"))[0] == 401
            for client in (team, operator):
                client.close()


async def test_settings_that_cannot_be_served_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with two_upstreams() as (first, second):
        start = document(first.port, second.port, comes=False, has_key=True, moved=False)
        text = yaml.safe_dump(start)
        async with gateway(tmp_path, text, monkeypatch, secrets={"TEAM_KEY": TEAM}) as served:
            before = served.application.gateway.snapshot()
            given = {**start, "deployments": {"here": {"model": {"name": "m"}, "provider": {"type": "llama_cpp"}}}}
            with pytest.raises(Exception, match="no embedded model"):
                served.application.reconciler.apply(settings_of(tmp_path, served, given), None)
            assert served.application.gateway.snapshot() is before
            client = await connected(served.port)
            assert (await client.chat("stays"))[0] == 200
            client.close()


PROGRAM = """
import asyncio, os, socket, sys
from functools import cache
from pathlib import Path
from modelport.app.processes import owner_process
from modelport.app.processes.listening import shared
from modelport.config.load import load
from modelport.config.sources import Flags

@cache
def read(file):
    return load(file, os.environ)

async def main(file):
    settings = read(file)
    listener = socket.create_server(("127.0.0.1", 0))
    listeners = shared(listener, 2)
    loop = asyncio.get_running_loop()

    async def changed(serving):
        print(listeners[0].getsockname()[1], flush=True)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            snapshot = await serving.apply(read(line.strip()))
            print(snapshot.id, flush=True)

    await owner_process.run(settings, None, listeners, Path(file), Flags(), changed)

asyncio.run(main(sys.argv[1]))
"""
"""A server of two workers whose owner takes up a file for each line of its input, and answers once all serve it."""


@asynccontextmanager
async def two_workers(folder: Path, given: dict[str, Any]) -> AsyncIterator[asyncio.subprocess.Process]:
    (folder / "first.yaml").write_text(yaml.safe_dump({**given, "server": {"workers": 2}}))
    data_dir = folder / "data"
    data_dir.mkdir(mode=0o700)
    environment = {"MODELPORT_API_KEY": KEY, "MODELPORT_DATA_DIR": str(data_dir), "TEAM_KEY": TEAM}
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", PROGRAM, str(folder / "first.yaml")),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, **environment},
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.stdin is not None
            process.stdin.close()  # the thread that reads it ends
            await process.wait()


async def test_changes_under_load_in_two_workers(tmp_path: Path) -> None:
    async with two_upstreams() as (first, second):
        start = document(first.port, second.port, comes=False, has_key=True, moved=False)
        async with two_workers(tmp_path, start) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            port = int(await process.stdout.readline())
            keys = {"operator": KEY, "team": TEAM, "mover": KEY}
            # With several connections of each kind, both workers have some: the kernel spreads them.
            many = [{name: await connected(port, key) for name, key in keys.items()} for _ in range(4)]
            async with AsyncLoad(port) as load_:
                for number, state in enumerate(states(CHANGES_OF_WORKERS)):
                    given = document(first.port, second.port, **state)
                    file = tmp_path / f"{'-'.join(str(int(value)) for value in state.values())}.yaml"
                    if not file.exists():
                        file.write_text(yaml.safe_dump({**given, "server": {"workers": 2}}))
                    process.stdin.write(f"{file}\n".encode())
                    assert await process.stdout.readline(), (tmp_path / "log").read_text()
                    for clients in many:
                        await expected(clients, state, number)
            assert load_.answers[200] > 10
            for clients in many:
                for client in clients.values():
                    client.close()
        log = (tmp_path / "log").read_text()
        assert "Traceback" not in log
        assert "cannot take up" not in log


SCRIPT: dict[str, Any] = {
    "model": {"format": "Custom", "name": "script"},
    "limits": UNLIMITED,
    "provider": {
        "type": "scripted",
        "replies": [{"match": {"contains": "long"}, "chunks": ["a", "b", "c"], "delay_between_chunks_seconds": 0.3}],
    },
}


def configured(workers: int, *names: str) -> dict[str, Any]:
    return {"server": {"workers": workers}, "deployments": {name: {**SCRIPT, "default": False} for name in names}}


def written(served: Served, given: dict[str, Any] | str) -> None:
    """The server's file, and a SIGHUP."""
    file = served.data_dir.parent / f"{served.data_dir.name}.yaml"
    file.write_text(given if isinstance(given, str) else json.dumps(given))
    served.process.send_signal(signal.SIGHUP)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_hangup_signal_takes_up_the_file_in_the_processes_that_run(data_dir: Path, workers: int) -> None:
    with serve(configured(workers, "one", "two"), data_dir) as served:
        served.ready()
        before = workers_of(served) if workers > 1 else []
        with served.connect() as running:
            body = {"model": "two", "messages": [{"role": "user", "content": "a long one"}], "stream": True}
            running.sendall(served.request("/models/chat/completions", body, connection="close"))
            received = until(running, b'"a"')
            written(served, configured(workers, "one", "three"))
            eventually(lambda: "the configuration as it is now is served" in served.stderr(), "it is taken up")
            for _ in range(4):
                assert served.chat(model="two").status == 404
                assert served.chat(model="three").status == 200
            received += until_closed(running)
        assert b"data: [DONE]" in received
        assert workers == 1 or workers_of(served) == before
        served.terminate()
        assert served.ended() == 0, served.stderr()
        assert "Traceback" not in served.stderr()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_faulty_file_leaves_the_server_as_it_was(data_dir: Path, workers: int) -> None:
    good = configured(workers, "one")
    faulty: dict[str, dict[str, Any] | str] = {
        "deployments.one.model.name": "deployments: {one: {model: {name: [1]}}}",
        "deployments.one.provider.type": {**good, "deployments": {"one": {**SCRIPT, "provider": {"type": "nowhere"}}}},
        "server.workers is": {**good, "server": {"workers": workers + 1}},
        "ledger.keep_days is null and would be 9": {**good, "ledger": {"keep_days": 9}},
        "data.yaml:1: is not valid YAML": "deployments: {one",
    }
    with serve(good, data_dir) as served:
        served.ready()
        for number, (said, given) in enumerate(faulty.items(), 1):
            written(served, given)
            eventually(
                lambda: served.stderr().count("the server goes on as it was") == number,  # noqa: B023
                "the refusal is logged",
            )
            assert said in served.stderr().split("the server goes on as it was")[-1]
            assert served.chat(model="one").status == 200
        written(served, configured(workers, "one", "two"))
        eventually(lambda: served.chat(model="two").status == 200, "a right file is taken up after all")


def test_a_worker_that_is_replaced_serves_what_the_others_serve(data_dir: Path) -> None:
    with serve(configured(2, "one"), data_dir) as served:
        served.ready()
        written(served, configured(2, "two"))
        eventually(lambda: "the configuration as it is now is served" in served.stderr(), "it is taken up")
        for connection in connections_to_each(served).values():
            connection.close()
        before = workers_of(served)
        os.kill(before[0], signal.SIGKILL)
        eventually(lambda: len(set(workers_of(served)) - {before[0]}) == 2, "the worker is replaced")
        body = {"model": "one", "messages": [{"role": "user", "content": "hello"}]}
        for connection in connections_to_each(served).values():
            request = served.request("/models/chat/completions", body, connection="close")
            connection.sendall(request)
            assert until_closed(connection).startswith(b"HTTP/1.1 404 ")
            connection.close()


def test_a_hangup_signal_never_ends_a_server_not_even_while_it_starts_or_ends(data_dir: Path) -> None:
    with serve(configured(1, "one"), data_dir) as served:
        for _ in range(20):
            served.process.send_signal(signal.SIGHUP)
        served.ready()
        served.terminate()
        for _ in range(20):
            served.process.send_signal(signal.SIGHUP)
        assert served.ended() == 0, served.stderr()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_hangup_signal_takes_up_a_certificate_that_was_renewed(data_dir: Path, tmp_path: Path, workers: int) -> None:
    made = [self_signed(tmp_path / name, "127.0.0.1", datetime.now(UTC)) for name in ("first", "second")]
    first, second = made

    def shown() -> set[bytes]:
        """The certificates of some connections, whichever worker has them."""
        return {ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(served.address)) for _ in range(6)}

    def held(files: TlsFiles) -> set[bytes]:
        return {x509.load_pem_x509_certificate(files.certificate.read_bytes()).public_bytes(Encoding.DER)}

    given = configured(workers, "one")
    given["server"]["tls"] = {"cert": str(first.certificate), "key": str(first.key)}
    held_at_first = held(first)
    with serve(given, data_dir) as served:
        assert shown() == held_at_first
        first.certificate.write_bytes(second.certificate.read_bytes())
        written(served, given)
        eventually(lambda: "the server goes on as it was" in served.stderr(), "half of the pair is refused")
        assert shown() == held_at_first
        first.key.write_bytes(second.key.read_bytes())
        written(served, given)
        eventually(lambda: "the configuration as it is now is served" in served.stderr(), "it is taken up")
        assert shown() == held(second)
