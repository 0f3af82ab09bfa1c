"""The end of a server: asked to stop it ends what it began, told twice it stops at once, killed it loses no record."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from served import JournalTail, Served, eventually, serve, until, until_closed

CHUNKS = [f"word{number} " for number in range(12)]
CONFIG: dict[str, Any] = {
    "deployments": {
        "script": {
            "model": {"format": "Custom", "name": "script", "version": "1"},
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
PATH = "/models/chat/completions"


def asked(text: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **fields}


def no_traceback(served: Served) -> bool:
    return "Traceback" not in served.stderr()


def test_a_server_asked_to_stop_ends_its_running_stream_and_refuses_new_calls(data_dir: Path) -> None:
    with serve(CONFIG, data_dir) as served, served.connect() as running:
        running.sendall(served.request(PATH, asked("a long one", stream=True), x_ms_client_request_id="running"))
        received = until(running, b"word0")
        served.terminate()
        eventually(lambda: served.call("GET", "/health/ready").status == 503, "the server drains")
        assert served.call("GET", "/health/ready").json["draining"] is True
        assert served.call("GET", "/health/live").status == 200
        refused = served.chat()
        assert refused.status == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.headers["connection"] == "close"
        assert refused.json["error"]["code"] == "ServiceUnavailable"
        received += until_closed(running)
        assert served.ended() == 0
        assert all(chunk.encode() in received for chunk in CHUNKS)
        assert received.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        assert no_traceback(served)
        (record,) = [record for record in served.journal() if record.client_request_id == "running"]
        assert (record.ending, record.status) == ("completed", 200)


def test_a_server_asked_to_stop_ends_its_running_whole_answer(data_dir: Path) -> None:
    with serve(CONFIG, data_dir) as served, served.connect() as running:
        tail = JournalTail(served.data_dir / "journal")
        running.sendall(served.request(PATH, asked("a long one"), x_ms_client_request_id="running"))
        eventually(lambda: tail.of("running", "open"), "the call is under way")
        served.terminate()
        received = until_closed(running)
        assert served.ended() == 0
        assert received.startswith(b"HTTP/1.1 200 ")
        assert all(chunk.encode() in received for chunk in CHUNKS)


@pytest.mark.parametrize("signals", [[signal.SIGINT] * 2, [signal.SIGTERM] * 2], ids=["Ctrl-C", "SIGTERM"])
def test_a_server_told_twice_stops_at_once_and_records_what_it_cut(data_dir: Path, signals: list[Any]) -> None:
    with serve(CONFIG, data_dir) as served, served.connect() as running:
        running.sendall(served.request(PATH, asked("endless", stream=True), x_ms_client_request_id="running"))
        received = until(running, b"one")
        served.process.send_signal(signals[0])
        eventually(lambda: served.call("GET", "/health/ready").status == 503, "the server drains")
        assert served.process.poll() is None
        served.process.send_signal(signals[1])
        received += until_closed(running)
        code = served.ended()
        assert code in (0, 130), served.stderr()
        assert b"[DONE]" not in received
        assert b"shutting down" in received.rsplit(b"data: ", 1)[1]
        assert no_traceback(served)
    with serve(CONFIG, data_dir) as again:
        (record,) = [record for record in again.journal() if record.client_request_id == "running"]
    assert record.ending in ("failed", "cancelled")
    assert record.usage.output > 0


def test_an_idle_server_stops_when_it_is_asked(data_dir: Path) -> None:
    with serve(CONFIG, data_dir) as served, served.connect() as idle:
        idle.sendall(b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n")
        until(idle, b'{"status":"ok"}')
        served.terminate()
        assert served.ended() == 0
        assert no_traceback(served)


def test_a_killed_server_leaves_one_lost_record_for_each_call_it_cut(data_dir: Path) -> None:
    with serve(CONFIG, data_dir) as served, served.connect() as stream, served.connect() as whole:
        done = served.call("POST", PATH, asked("hello"), headers={"x-ms-client-request-id": "done"})
        assert done.status == 200
        tail = JournalTail(served.data_dir / "journal")
        stream.sendall(served.request(PATH, asked("endless", stream=True), x_ms_client_request_id="cut-stream"))
        until(stream, b"one")
        whole.sendall(served.request(PATH, asked("endless", max_tokens=77), x_ms_client_request_id="cut-whole"))
        eventually(lambda: tail.of("cut-whole", "open"), "the second call is under way")
        served.process.kill()
        until_closed(stream)
        until_closed(whole)
    with serve(CONFIG, data_dir) as served:
        records = {record.client_request_id: record for record in served.journal()}
        assert len(records) == len(served.journal()) == 3
    assert records["done"].ending == "completed"
    for name in ("cut-stream", "cut-whole"):
        assert (records[name].ending, records[name].usage_source) == ("lost", "estimated")
        assert records[name].usage.total == records[name].reserved_tokens > 0
    assert records["cut-whole"].reserved_tokens > 77
