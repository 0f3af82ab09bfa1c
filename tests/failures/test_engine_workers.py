"""Worker processes crash, are killed, find bad weights and lose their gateway; nothing worse comes of it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import struct
import subprocess
import sys
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import pytest

from modelport.engine.local_http import LocalHttp, LocalHttpError
from modelport.engine.supervisor import EngineUnavailableError, Supervisor, WorkerAddress, WorkerSpec, WorkerState
from modelport.engine.weights import locate
from served import is_running

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
LONG_ANSWER = {"messages": QUESTION, "max_tokens": 400, "ignore_eos": True}


@pytest.fixture
def weights() -> Path:
    folder = os.environ.get("MODELPORT_TEST_WEIGHTS")
    if folder:
        found = next(iter(sorted(Path(folder).glob("*[sS]mol[lL][mM]2*.gguf"))), None)
    else:
        data_dir = os.environ.get("MODELPORT_DATA_DIR", "~/.local/share/modelport")
        found = locate("smollm2-135m-instruct", Path(data_dir).expanduser())
    if found is None:
        pytest.skip("no weights: `modelport models pull smollm2-135m-instruct`, or MODELPORT_TEST_WEIGHTS=FOLDER")
    return found


def spec(weights: Path, **fields: Any) -> WorkerSpec:
    return WorkerSpec("smol", "llama_cpp", {"weights": str(weights), "slots": 2, "context": 2048}, **fields)


def client(address: WorkerAddress) -> LocalHttp:
    return LocalHttp(address.socket_path, address.secret)


async def answer(address: WorkerAddress) -> str:
    body = {"messages": QUESTION, "max_tokens": 4}
    whole = await client(address).call("POST", "/v1/chat/completions", body)
    return str(whole["choices"][0]["finish_reason"])


async def gone(process_id: int) -> None:
    """Returns when the process has ended; the test's own time limit is the failure."""
    while is_running(process_id):
        await asyncio.sleep(0.02)


@pytest.mark.embedded
async def test_a_killed_worker_fails_its_callers_honestly_and_comes_back(weights: Path) -> None:
    async with Supervisor([spec(weights)]) as supervisor:
        worker = supervisor.workers["smol"]
        address = await worker.ready(60)
        killed = worker.process_id
        assert killed is not None
        with pytest.raises(LocalHttpError):
            async with aclosing(
                client(address).events("/v1/chat/completions", {**LONG_ANSWER, "stream": True})
            ) as events:
                async for event in events:
                    if event["choices"][0]["delta"].get("content"):
                        with suppress(ProcessLookupError):  # what was on its way comes after the kill
                            os.kill(killed, signal.SIGKILL)
        await gone(killed)
        while worker.state is WorkerState.READY:
            await asyncio.sleep(0.01)
        assert worker.state is WorkerState.RESTARTING
        assert worker.reason == "the worker was ended by SIGKILL"
        assert worker.address is None
        assert await answer(await worker.ready(60)) == "length"
        assert worker.restarts == 1
        assert worker.process_id != killed


_GATEWAY = """
import asyncio, sys
from modelport.engine.supervisor import Supervisor, WorkerSpec
async def main():
    async with Supervisor([WorkerSpec("smol", "llama_cpp", {"weights": sys.argv[1]})]) as supervisor:
        worker = supervisor.workers["smol"]
        await worker.ready(60)
        print(worker.process_id, flush=True)
        await asyncio.sleep(600)
asyncio.run(main())
"""


@pytest.mark.embedded
async def test_a_killed_gateway_leaves_no_worker(weights: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", _GATEWAY, str(weights)], stdout=subprocess.PIPE) as gateway:
        assert gateway.stdout is not None
        worker = int(await asyncio.to_thread(gateway.stdout.readline))
        assert is_running(worker)
        gateway.kill()
    await gone(worker)


@pytest.mark.embedded
async def test_closing_lets_a_running_answer_end_and_leaves_nothing_behind(weights: Path) -> None:
    supervisor = Supervisor([spec(weights)])
    await supervisor.start()
    worker = supervisor.workers["smol"]
    address = await worker.ready(60)
    process_id = worker.process_id
    assert process_id is not None
    body = {"messages": QUESTION, "max_tokens": 60, "ignore_eos": True}
    running = asyncio.create_task(client(address).call("POST", "/v1/chat/completions", body))
    while not (await client(address).call("GET", "/stats"))["busy_slots"]:
        await asyncio.sleep(0.01)
    await supervisor.close(drain_seconds=60)
    assert (await running)["usage"]["completion_tokens"] == 60
    assert not is_running(process_id)
    assert not address.socket_path.parent.parent.exists()
    assert worker.state is WorkerState.UNLOADED


@pytest.mark.embedded
async def test_closing_without_patience_ends_a_running_answer(weights: Path) -> None:
    async with Supervisor([spec(weights)]) as supervisor:
        worker = supervisor.workers["smol"]
        address = await worker.ready(60)
        process_id = worker.process_id
        assert process_id is not None
        running = asyncio.create_task(client(address).call("POST", "/v1/chat/completions", LONG_ANSWER))
        while not (await client(address).call("GET", "/stats"))["busy_slots"]:
            await asyncio.sleep(0.01)
        await supervisor.close(drain_seconds=0)
        with pytest.raises(LocalHttpError):
            await running
        assert not is_running(process_id)


@pytest.mark.embedded
async def test_a_worker_loads_at_first_use_and_unloads_when_idle(weights: Path) -> None:
    async with Supervisor([spec(weights, load="first_use", idle_unload_seconds=1.0)]) as supervisor:
        worker = supervisor.workers["smol"]
        assert worker.state is WorkerState.UNLOADED
        assert await answer(await worker.ready(60)) == "length"
        process_id = worker.process_id
        assert process_id is not None
        await gone(process_id)
        while worker.state is WorkerState.READY:
            await asyncio.sleep(0.01)
        assert (worker.state, worker.address, worker.restarts) == (WorkerState.UNLOADED, None, 0)
        assert await answer(await worker.ready(60)) == "length"


@pytest.mark.embedded
async def test_a_worker_sees_no_credentials_and_logs_no_prompts(
    weights: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MODELPORT_API_KEY", "the-key-of-the-house")
    monkeypatch.setenv("UPSTREAM_KEY", "another-key")
    caplog.set_level(logging.DEBUG)
    async with Supervisor([spec(weights)]) as supervisor:
        worker = supervisor.workers["smol"]
        address = await worker.ready(60)
        environment = Path(f"/proc/{worker.process_id}/environ").read_bytes()
        command = Path(f"/proc/{worker.process_id}/cmdline").read_bytes()
        odd = {"type": "object", "properties": {"zanzibar": {"type": "string", "pattern": "^(zanzibar)\\1$"}}}
        body = {"messages": [{"role": "user", "content": "zanzibar"}], "max_tokens": 2}
        await client(address).call("POST", "/v1/chat/completions", body)
        schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": odd}}
        with pytest.raises(Exception, match="422"):
            await client(address).call("POST", "/v1/chat/completions", {**body, "response_format": schema})
    assert b"-key" not in environment
    assert address.secret.encode() not in environment + command
    assert "zanzibar" not in caplog.text
    assert address.secret not in caplog.text


def truncated_gguf(folder: Path) -> Path:
    """One tensor of a megabyte is announced, and not there."""
    name = b"weight"
    header = b"GGUF" + struct.pack("<IQQ", 3, 1, 0)
    tensor = struct.pack("<Q", len(name)) + name + struct.pack("<IQIQ", 1, 262144, 0, 0)
    path = folder / "cut.gguf"
    path.write_bytes(header + tensor + bytes(1000))
    return path


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (truncated_gguf, "cut.gguf is truncated: it should have at least 1,048,640 bytes and has 1,062"),
        (lambda folder: folder / "absent.gguf", "absent.gguf cannot be read: No such file or directory"),
    ],
)
async def test_bad_weights_are_a_clean_failure_with_a_reason(tmp_path: Path, make: Any, reason: str) -> None:
    async with Supervisor([spec(make(tmp_path))]) as supervisor:
        worker = supervisor.workers["smol"]
        with pytest.raises(EngineUnavailableError) as raised:
            await worker.ready(60)
        assert raised.value.permanent
        assert worker.state is WorkerState.FAILED
        assert worker.reason.endswith(reason)
        assert worker.process_id is None
        assert worker.restarts == 0


async def test_a_worker_that_cannot_start_at_all_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_python = tmp_path / "python"
    no_python.write_text("#!/bin/sh\nkill -SEGV $$\n")
    no_python.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(no_python))
    monkeypatch.setattr("modelport.engine.supervisor._FIRST_DELAY_SECONDS", 0.01)
    async with Supervisor([spec(tmp_path / "any.gguf")]) as supervisor:
        worker = supervisor.workers["smol"]
        with pytest.raises(EngineUnavailableError):
            await worker.ready(60)
        assert worker.reason == "the worker was ended by SIGSEGV 5 times while loading"


async def test_who_does_not_want_to_wait_is_told_so(tmp_path: Path) -> None:
    supervisor = Supervisor([spec(tmp_path / "any.gguf", load="first_use")])
    with pytest.raises(EngineUnavailableError) as raised:
        await supervisor.workers["smol"].ready(0.001)
    assert not raised.value.permanent
    assert "loading" in str(raised.value)
    await supervisor.close()
