"""A server of several processes: one of them dies and nobody else notices; all end together, and leave nothing."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from modelport.stores.journal import verify
from served import KEY, Served, eventually, is_running, serve, until, until_closed
from worker_processes import alive, all_of, connections_to_each, nursery_of, worker_at, workers_of

CHUNKS = [f"word{number} " for number in range(12)]
UNLIMITED = {"tokens_per_minute": None, "requests_per_minute": None}
CONFIG: dict[str, Any] = {
    "server": {"workers": 2},
    "deployments": {
        "script": {
            "model": {"format": "Custom", "name": "script", "version": "1"},
            "limits": UNLIMITED,
            "default": True,
            "provider": {
                "type": "scripted",
                "replies": [
                    {"match": {"contains": "long"}, "chunks": CHUNKS, "delay_between_chunks_seconds": 0.1},
                    {"match": {"contains": "endless"}, "text": "one two three", "hang_after_chunks": 1},
                ],
            },
        }
    },
}
ELSEWHERE = {**CONFIG, "server": {"workers": 2, "region": "elsewhere"}}
"""Only new workers take it up: a process reads its region once."""
PATH = "/models/chat/completions"


def asked(text: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **fields}


class Load:
    """Clients that call as fast as they can, each on a connection that it keeps; one that is cut connects anew."""

    def __init__(self, served: Served, clients: int = 4) -> None:
        self.served = served
        self.statuses: Counter[int] = Counter()
        self.cut = 0
        self.refused = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        connection: http.client.HTTPConnection | None = None
        while not self._stop.is_set():
            if connection is None:
                connection = http.client.HTTPConnection(*self.served.address, timeout=20)
                try:
                    connection.connect()
                except ConnectionError:
                    self.refused += 1
                    connection = None
                    continue
            try:
                connection.request("POST", PATH, json.dumps(asked("hello")), {"api-key": KEY})
                answer = connection.getresponse()
                answer.read()
            except (http.client.HTTPException, ConnectionError):
                self.cut += 1
                connection.close()
                connection = None
                continue
            self.statuses[answer.status] += 1
            if answer.will_close:
                connection.close()
                connection = None
        if connection is not None:
            connection.close()


def no_traceback(served: Served) -> bool:
    return "Traceback" not in served.stderr()


@pytest.fixture
def served(data_dir: Path) -> Any:
    with serve(CONFIG, data_dir) as served:
        yield served


def test_a_worker_killed_under_load_is_replaced_and_the_others_lose_nothing(served: Served) -> None:
    connections = connections_to_each(served)
    victim, survivor = connections
    with connections[victim] as doomed, connections[survivor] as kept:
        request = served.request(PATH, asked("a long one", stream=True), x_ms_client_request_id="kept")
        kept.sendall(request)
        received = until(kept, b"word0")
        doomed.sendall(served.request(PATH, asked("endless", stream=True), x_ms_client_request_id="cut"))
        until(doomed, b"one")
        with Load(served) as load:
            eventually(lambda: load.statuses[200] > 20, "the load runs")
            os.kill(victim, signal.SIGKILL)
            eventually(lambda: len(set(workers_of(served)) - {victim}) == 2, "the worker is replaced")
            before = load.statuses[200]
            eventually(lambda: load.statuses[200] > before + 50, "the load goes on")
        until_closed(doomed)
        received += until(kept, b"data: [DONE]")
        assert all(chunk.encode() in received for chunk in CHUNKS)
    # A client whose connection the dead worker held is cut once; nobody is refused, nobody is told of an error.
    assert load.refused == 0
    assert load.cut <= 4
    assert set(load.statuses) == {200}
    eventually(lambda: len(served.journal()) >= load.statuses[200] + 2, "every call has its record")
    endings = Counter(record.ending for record in served.journal())
    # An end is written before the answer's last byte, so a client that was cut may lack an answer whose end is there.
    assert 0 <= endings["completed"] - (load.statuses[200] + 1) <= load.cut
    # The call that hung there, and those of the load that were cut on their way.
    assert 1 <= endings["lost"] <= 1 + load.cut
    assert not verify(served.data_dir / "journal").faults


def test_metrics_of_any_worker_speak_for_all_and_never_go_back(served: Served) -> None:
    for _ in range(20):
        assert served.chat().status == 200
    connections = connections_to_each(served)
    for _ in range(5):
        assert served.metric("modelport_requests_total", status="200") == 20
    assert served.metric("modelport_worker_processes") == 2
    assert served.metric("process_open_fds") > 20
    victim, *_ = connections
    for connection in connections.values():
        connection.close()
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: served.metric("modelport_worker_process_restarts_total") == 1, "the worker's end is counted")
    eventually(lambda: served.metric("modelport_worker_processes") == 2, "the worker is replaced")
    assert served.metric("modelport_requests_total", status="200") == 20
    # An opening and an end for each call, and in each worker's file what its openings have in common; beginnings of
    # files are written before anybody counts.
    assert served.metric("modelport_journal_lines_total") == 42


def test_a_server_of_several_processes_drains_when_it_is_asked_to_stop(served: Served) -> None:
    connections = list(connections_to_each(served).values())
    for connection in connections:
        connection.sendall(served.request(PATH, asked("a long one", stream=True)))
    received = [until(connection, b"word0") for connection in connections]
    processes = all_of(served)
    served.terminate()
    eventually(lambda: served.call("GET", "/health/ready").status == 503, "the server drains")
    for _ in range(4):  # whichever worker it is
        refused = served.chat()
        assert (refused.status, refused.json["error"]["code"]) == (503, "ServiceUnavailable")
    for connection, text in zip(connections, received, strict=True):
        whole = text + until_closed(connection)
        assert all(chunk.encode() in whole for chunk in CHUNKS)
        assert whole.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        connection.close()
    assert served.ended() == 0, served.stderr()
    eventually(lambda: not any(map(is_running, processes)), "all processes end")
    assert no_traceback(served)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_server_of_several_processes_told_twice_stops_at_once(served: Served, number: signal.Signals) -> None:
    connections = list(connections_to_each(served).values())
    for index, connection in enumerate(connections):
        connection.sendall(served.request(PATH, asked("endless", stream=True), x_ms_client_request_id=f"cut{index}"))
        until(connection, b"one")
    served.process.send_signal(number)
    eventually(lambda: served.call("GET", "/health/ready").status == 503, "the server drains")
    served.process.send_signal(number)
    for connection in connections:
        assert b"shutting down" in until_closed(connection)
        connection.close()
    assert served.ended() == 0, served.stderr()
    records = {record.client_request_id: record for record in served.journal()}
    assert {records[f"cut{index}"].ending for index in range(2)} <= {"failed", "cancelled"}
    assert no_traceback(served)


def test_an_owner_that_is_killed_leaves_no_process(served: Served) -> None:
    # The owner, the ledger, the nursery, two workers. One that is just being started is two until it runs its program.
    eventually(lambda: len(all_of(served)) == 5, "its processes, and no other")
    processes = all_of(served)
    (connection, *rest) = connections_to_each(served).values()
    connection.sendall(served.request(PATH, asked("endless", stream=True), x_ms_client_request_id="cut"))
    until(connection, b"one")
    served.process.kill()
    served.process.wait()
    eventually(lambda: not any(map(is_running, processes)), "all processes end")
    until_closed(connection)
    for one in (connection, *rest):
        one.close()
    with serve(CONFIG, served.data_dir) as again:
        (record,) = [record for record in again.journal() if record.client_request_id == "cut"]
        assert record.ending in ("cancelled", "failed", "lost")


def test_workers_serve_on_when_the_nursery_is_killed(served: Served) -> None:
    connections = connections_to_each(served)
    first = nursery_of(served)
    os.kill(first, signal.SIGKILL)
    for connection in connections.values():
        assert alive(connection) == 200
    victim, survivor = connections
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: served.metric("modelport_worker_process_restarts_total") == 1, "the worker's end is noticed")
    eventually(lambda: len(connections_to_each_now(served)) == 1, "another nursery has forked a worker")
    assert nursery_of(served) != first
    assert alive(connections[survivor]) == 200
    for connection in connections.values():
        connection.close()
    served.terminate()
    assert served.ended() == 0, served.stderr()
    eventually(lambda: not is_running(survivor), "the worker of the first nursery ends, too")


def connections_to_each_now(served: Served) -> list[int]:
    try:
        return workers_of(served)
    except StopIteration:
        return []


def test_a_new_configuration_takes_over_without_a_refused_connection(served: Served, tmp_path: Path) -> None:
    connections = connections_to_each(served)
    (running, idle) = connections.values()
    running.sendall(served.request(PATH, asked("a long one", stream=True)))
    received = until(running, b"word0")
    before = set(connections)
    second = {**CONFIG["deployments"]["script"], "default": False}
    changed = {**ELSEWHERE, "deployments": {**CONFIG["deployments"], "second": second}}
    with Load(served) as load:
        eventually(lambda: load.statuses[200] > 20, "the load runs")
        (tmp_path / "data.yaml").write_text(json.dumps(changed))
        served.process.send_signal(signal.SIGHUP)
        eventually(lambda: served.chat(model="second").status == 200, "the new configuration is served")
        received += until_closed(running)
        eventually(lambda: not any(map(is_running, before)), "the old workers end")
        now = load.statuses[200]
        eventually(lambda: load.statuses[200] > now + 50, "the load goes on")
    running.close()
    idle.close()
    assert all(chunk.encode() in received for chunk in CHUNKS)
    assert b"data: [DONE]" in received
    assert (load.refused, load.cut, set(load.statuses)) == (0, 0, {200})
    eventually(lambda: served.metric("modelport_worker_processes") == 2, "the owner has noticed their ends")
    assert served.metric("modelport_worker_process_restarts_total") == 0
    completed = sum(record.ending == "completed" for record in served.journal())
    assert served.metric("modelport_requests_total", status="200") == completed > load.statuses[200]


def test_a_request_whose_body_is_still_arriving_is_answered_by_a_worker_that_has_retired(
    served: Served, tmp_path: Path
) -> None:
    connections = connections_to_each(served)
    retired, _ = connections
    body = json.dumps(asked("hello")).encode()
    with connection_to(served, retired) as arriving:
        arriving.sendall(served.head("POST", PATH, len(body)) + body[:10])
        (tmp_path / "data.yaml").write_text(json.dumps(ELSEWHERE))
        served.process.send_signal(signal.SIGHUP)
        for idle in connections.values():
            assert until_closed(idle) == b""  # by then, the old workers want to end
            idle.close()
        arriving.sendall(body[10:])
        answer = until_closed(arriving)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in answer
    eventually(lambda: not is_running(retired), "the old worker ends")


def connection_to(served: Served, worker: int) -> socket.socket:
    """Another connection to this worker."""
    found: list[socket.socket] = []

    def arrived() -> bool:
        connection = served.connect()
        alive(connection)
        if worker_at(served, connection) == worker:
            found.append(connection)
            return True
        connection.close()
        return False

    eventually(arrived, "the kernel gives a connection to this worker")
    return found[0]


def test_a_faulty_new_configuration_changes_nothing(served: Served, tmp_path: Path) -> None:
    before = workers_of(served)
    (tmp_path / "data.yaml").write_text("server: {workers: many}\n")
    served.process.send_signal(signal.SIGHUP)
    eventually(lambda: "the server goes on as it was" in served.stderr(), "the refusal is logged")
    assert "server.workers" in served.stderr()
    assert workers_of(served) == before
    assert served.chat().status == 200


def test_a_new_configuration_that_would_let_everybody_in_from_anywhere_is_refused(
    data_dir: Path, tmp_path: Path
) -> None:
    outside = {**CONFIG, "server": {"workers": 2, "host": "0.0.0.0"}}
    with serve(outside, data_dir) as served:
        assert served.call("GET", "/models/info", key=None).status == 401
        (tmp_path / "data.yaml").write_text(json.dumps({**outside, "auth": {"anonymous": True}}))
        served.process.send_signal(signal.SIGHUP)
        eventually(lambda: "the server goes on as it was" in served.stderr(), "the refusal is logged")
        assert "auth.anonymous" in served.stderr()
        assert served.call("GET", "/models/info", key=None).status == 401


def test_another_number_of_workers_needs_a_restart_and_says_so(served: Served, tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text(json.dumps({**CONFIG, "server": {"workers": 3}}))
    served.process.send_signal(signal.SIGHUP)
    said = "server.workers is 2 and would be 3: that needs a restart of the whole server"
    eventually(lambda: said in served.stderr(), "the refusal is logged")
    assert served.chat().status == 200
    assert len(workers_of(served)) == 2


def test_a_worker_asked_to_end_by_itself_drains_and_is_replaced(served: Served) -> None:
    connections = connections_to_each(served)
    asked_one, other = connections
    connections[asked_one].sendall(served.request(PATH, asked("a long one", stream=True)))
    received = until(connections[asked_one], b"word0")
    with Load(served) as load:
        os.kill(asked_one, signal.SIGTERM)
        received += until_closed(connections[asked_one])
        eventually(lambda: asked_one not in workers_of(served), "it ends")
        eventually(lambda: len(workers_of(served)) == 2, "it is replaced")
    assert b"data: [DONE]" in received
    assert (load.refused, load.cut, set(load.statuses)) == (0, 0, {200})
    assert worker_at(served, connections[other]) == other
    for connection in connections.values():
        connection.close()


def test_a_worker_that_crashes_again_and_again_is_started_ever_later_while_others_serve_its_socket(
    served: Served,
) -> None:
    connections = connections_to_each(served)
    _, survivor = connections
    for connection in connections.values():
        connection.close()

    def crashed() -> int:
        return served.stderr().count("was ended by SIGKILL")

    while crashed() < 4:
        for worker in set(workers_of(served)) - {survivor}:
            os.kill(worker, signal.SIGKILL)
        with Load(served, clients=2):
            pass
    assert "restart in 0.0 s" in served.stderr()
    assert "restart in 1.0 s" in served.stderr()
    for _ in range(20):  # the kernel gives some of these to the socket that has lost its worker
        assert served.call("GET", "/health/live", timeout_seconds=20).status == 200
