"""The batches that instructions are counted in, against a server that answers what its upstream says."""

from __future__ import annotations

import socket
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench import batched, batches, mix_forms, servers
from bench.batches import Batches

RELAY = textwrap.dedent(
    """
    import asyncio, sys
    from pathlib import Path

    async def relay(reader, writer):
        upstream = None
        try:
            while data := await reader.read(65536):
                if upstream is None:
                    upstream = await asyncio.open_connection("127.0.0.1", int(sys.argv[2]))
                    pump = asyncio.create_task(pumped(upstream[0], writer))
                upstream[1].write(data)
        except ConnectionError:
            pass

    async def pumped(reader, writer):
        while data := await reader.read(65536):
            writer.write(data.replace(b"HTTP/1.1 200", b"HTTP/1.1 " + sys.argv[3].encode()))

    async def main():
        server = await asyncio.start_server(relay, "127.0.0.1", int(sys.argv[1]))
        await server.serve_forever()

    asyncio.run(main())
    """
)


@pytest.fixture
def driver() -> Iterator[Batches]:
    found = Batches()
    yield found
    found.close()


def run(driver: Batches, form: mix_forms.Form, *, stream: bool, status: str = "200") -> None:
    """Two batches through a relay."""
    port = servers.free_port()
    command = [sys.executable, "-c", RELAY, str(port), str(driver.upstream_port), status]
    with servers.running(command) as process:
        servers.await_port(port, process=process)
        driver.connect(process.pid, port)
        driver.run(batched.request_of(form, stream), batched.answer_of(form, stream), 2)


@pytest.mark.parametrize("stream", [False, True])
def test_each_batch_is_answered(driver: Batches, stream: bool) -> None:
    run(driver, mix_forms.PLAIN, stream=stream)


def test_another_status_ends_the_run(driver: Batches) -> None:
    with pytest.raises(SystemExit, match="not a 200"):
        run(driver, mix_forms.PLAIN, stream=False, status="503")


def test_a_process_stands_still_within_the_block(tmp_path: Path) -> None:
    code = (
        "import threading, time; threading.Thread(target=time.sleep, args=(60,), daemon=True).start(); time.sleep(60)"
    )
    with servers.running([sys.executable, "-c", code]) as process:
        with batches.standing_still(process.pid):
            assert set(batches.states(process.pid)) == {"T"}
        assert process.poll() is None


def test_a_stream_has_a_hundred_events_and_an_end() -> None:
    parts = batches.stream()
    assert len(parts) == batches.STREAM_ROUNDS + 1
    assert b"".join(parts).count(b'"content"') == 100
    assert parts[-1].endswith(b"[DONE]\n\n\r\n0\r\n\r\n")


def test_the_mock_answers_embeddings_with_a_vector() -> None:
    request = batched.request_of(mix_forms.FORMS[-1])
    with servers.running([str(servers.compiled() / "mock"), "-p", "0"], stdout=-1) as process:
        assert process.stdout is not None
        with socket.create_connection(("127.0.0.1", int(process.stdout.readline())), 10) as connection:
            connection.sendall(request)
            assert b'"embedding":[0.50000000,' in connection.recv(65536)
