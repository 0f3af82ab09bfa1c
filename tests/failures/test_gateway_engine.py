"""The embedded model under bad luck: its worker dies, its gateway dies, its callers leave, too many come at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelport.core.usage import UsageRecord
from served import Answer, Served, children_of, eventually, is_running, serve, until, until_closed
from worker_processes import command_of

pytestmark = pytest.mark.embedded

SMALL = "smollm2-135m-instruct"
ENDLESS = {"max_tokens": 7000, "ignore_eos": True}
"""A minute's work on the fastest of machines."""
CONFIG: dict[str, Any] = {
    "extra_parameters": "pass-through",
    "engine": {"slots": 1, "queue": 1, "context": 8192},
    "server": {"limits": {"json_depth": 1000}},
    "deployments": {
        "small": {"model": {"format": "HuggingFace", "name": SMALL, "version": "1"}, "default": True},
        "script": {
            "model": {"format": "Custom", "name": "script", "version": "1"},
            "provider": {"type": "scripted"},
        },
    },
}


def lend(weights: Path, data_dir: Path) -> Path:
    """A data directory of its own with the models that are here."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    (data_dir / "models").symlink_to((weights / "models").resolve())
    return data_dir


@pytest.fixture(scope="module")
def served(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with serve(CONFIG, lend(weights, tmp_path_factory.mktemp("engine") / "data")) as served:
        served.ready()
        yield served


def worker_of(served: Served) -> int:
    """The process that owns the weights."""
    workers = [
        process_id
        for process_id in children_of(served.process.pid)
        if b"modelport.engine.worker" in command_of(process_id)
    ]
    (worker,) = workers
    return worker


def asked(**fields: Any) -> dict[str, Any]:
    return {"model": "small", "messages": [{"role": "user", "content": "Count."}], **fields}


def short(served: Served, **fields: Any) -> Answer:
    """A call that the model answers at once when it has a slot."""
    return served.call("POST", "/models/chat/completions", asked(max_tokens=2, **fields), timeout_seconds=20)


def test_a_worker_killed_in_the_middle_of_a_stream_breaks_that_stream_and_comes_back(served: Served) -> None:
    worker = worker_of(served)
    with served.connect() as connection:
        connection.sendall(served.request("/models/chat/completions", asked(stream=True, **ENDLESS)))
        received = until(connection, b'"content":')
        os.kill(worker, signal.SIGKILL)
        received += until_closed(connection)
    assert received.startswith(b"HTTP/1.1 200 ")
    last = received.rsplit(b"data: ", 1)[1]
    assert b'"error":' in last
    assert b'"choices":[]' in last
    assert b"[DONE]" not in received
    assert not received.endswith(b"0\r\n\r\n")
    assert served.call("GET", "/health/live", key=None).status == 200
    assert served.call("POST", "/v1/chat/completions", {**asked(), "model": "script"}).status == 200
    eventually(lambda: short(served).status == 200, "an answer of the restarted worker")
    assert worker_of(served) != worker
    (record,) = [record for record in served.journal() if record.ending == "failed" and record.streamed]
    assert record.usage.output > 0
    assert served.metric("modelport_engine_restarts_total", worker=SMALL) == 1


def test_while_a_worker_restarts_its_callers_are_told_when_to_come_back(served: Served) -> None:
    eventually(lambda: short(served).status == 200, "a ready worker")
    os.kill(worker_of(served), signal.SIGKILL)
    eventually(lambda: served.call("GET", "/health/ready", key=None).status == 503, "the gateway notices")
    answer = short(served)
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.json["error"]["code"] == "NoCapacity"
    eventually(lambda: short(served).status == 200, "an answer of the restarted worker")


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
def test_a_caller_that_leaves_frees_the_slot(served: Served, streamed: bool) -> None:
    eventually(lambda: short(served).status == 200, "a ready worker")
    with served.connect() as connection:
        body = asked(stream=streamed, **ENDLESS)
        connection.sendall(served.request("/models/chat/completions", body, x_ms_client_request_id=f"gone-{streamed}"))
        if streamed:
            until(connection, b'"content":')
        else:
            eventually(lambda: served.metric("modelport_journal_open_calls") == 1, "the call is under way")
    assert short(served).status == 200
    (record,) = [record for record in served.journal() if record.client_request_id == f"gone-{streamed}"]
    assert record.ending == "cancelled"
    assert record.usage.output < 7000


def test_a_full_queue_sends_callers_away_and_says_for_how_long(served: Served) -> None:
    eventually(lambda: short(served).status == 200, "a ready worker")
    answers: list[Answer] = []
    with served.connect() as running:
        running.sendall(served.request("/models/chat/completions", asked(stream=True, **ENDLESS)))
        until(running, b'"content":')
        waiting = threading.Thread(target=lambda: answers.append(short(served)))
        waiting.start()
        eventually(lambda: served.metric("modelport_journal_open_calls") == 2, "a second call waits")
        third = refused_of(served)
        assert int(third.headers["retry-after"]) >= 1
        assert third.headers["x-ms-error-code"]
    waiting.join()
    assert [answer.status for answer in answers] == [200]


def refused_of(served: Served) -> Answer:
    """The first answer of a call that finds slot and queue full. The one that waits may not be there yet."""
    refused: list[Answer] = []

    def full() -> bool:
        with served.connect(1.0) as connection:
            connection.sendall(served.request("/models/chat/completions", asked(max_tokens=2), connection="close"))
            try:
                received = until_closed(connection)
            except TimeoutError:
                return False
        status = int(received.split(b" ", 2)[1])
        head, _, body = received.partition(b"\r\n\r\n")
        lines = head.decode().lower().split("\r\n")[1:]
        refused.append(Answer(status, dict(line.split(": ", 1) for line in lines), body))
        return status == 503

    eventually(full, "503 from a full queue")
    return refused[-1]


def nested(levels: int) -> bytes:
    """A chat request whose answer must obey a schema of so many levels."""
    schema = b'{"type":"object","properties":{"a":' * levels + b'{"type":"string"}' + b"}}" * levels
    return (
        b'{"model":"small","max_tokens":4,"messages":[{"role":"user","content":"Count."}],"response_format":'
        b'{"type":"json_schema","json_schema":{"name":"deep","schema":' + schema + b"}}}"
    )


@pytest.mark.parametrize("levels", [100, 400, 20_000])
def test_a_deep_schema_is_refused_and_hurts_nobody(served: Served, levels: int) -> None:
    eventually(lambda: short(served).status == 200, "a ready worker")
    worker = worker_of(served)
    answer = served.call("POST", "/models/chat/completions", nested(levels))
    assert answer.status in (400, 422), answer.body
    assert answer.json["error"]["message"]
    assert short(served).status == 200
    assert worker_of(served) == worker


def test_a_gateway_that_is_killed_leaves_no_worker_and_one_lost_record(weights: Path, tmp_path: Path) -> None:
    data_dir = lend(weights, tmp_path / "data")
    with serve(CONFIG, data_dir) as served:
        served.ready()
        worker = worker_of(served)
        body = asked(stream=True, **ENDLESS)
        with served.connect() as connection:
            connection.sendall(served.request("/models/chat/completions", body, x_ms_client_request_id="cut"))
            until(connection, b'"content":')
            served.process.send_signal(signal.SIGKILL)
            assert b"[DONE]" not in until_closed(connection)
    eventually(lambda: not is_running(worker), "the end of the worker")
    with serve(CONFIG, data_dir) as served:
        records = [record for record in served.journal() if record.client_request_id == "cut"]
    (record,) = records
    assert (record.ending, record.deployment, record.streamed) == ("lost", "small", True)
    assert record.usage.total == record.reserved_tokens >= 7000
    assert record.usage_source == "estimated"


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_a_gateway_stopped_while_it_loads_ends_at_once_and_leaves_no_worker(
    weights: Path, tmp_path: Path, signal_number: signal.Signals
) -> None:
    with serve(CONFIG, lend(weights, tmp_path / "data")) as served:
        workers = children_of(served.process.pid)
        served.process.send_signal(signal_number)
        assert served.ended() == 0
        assert "Traceback" not in served.stderr()
    eventually(lambda: not any(map(is_running, workers)), "the end of the workers")


def doubled(word: str, count: int) -> dict[str, Any]:
    """A small schema that is large with its references followed."""
    parts: dict[str, Any] = {f"n{i}": {word: [{"$ref": f"#/$defs/n{i + 1}"}] * 2} for i in range(count)}
    return {"$ref": "#/$defs/n0", "$defs": {**parts, f"n{count}": {"type": "object"}}}


@pytest.mark.parametrize(
    ("schema", "fault"),
    [
        (doubled("allOf", 35), "parts with its references followed"),
        (doubled("oneOf", 35), "alternatives when allOf is merged"),
        ({"const": "z" * 60_000}, "longer than 4096 characters"),
        ({"type": "integer", "multipleOf": 8_765_432}, "'multipleOf' must have digits up to"),
        ({"type": "object", "properties": {f"q{i}": {"type": "null"} for i in range(1200)}}, "too many choices"),
    ],
    ids=["allOf", "oneOf", "const", "multipleOf", "properties"],
)
def test_a_schema_that_would_hold_the_engine_is_refused_in_the_surfaces_shape(
    served: Served, schema: dict[str, Any], fault: str
) -> None:
    worker = worker_of(served)
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    azure = served.call("POST", "/models/chat/completions", asked(response_format=wanted, max_tokens=4))
    assert azure.status == 422
    assert fault in azure.json["detail"][0]["msg"]
    assert azure.json["detail"][0]["loc"] == ["body", "response_format"]
    beside = {"type": "json_object", "schema": schema}
    openai = served.call("POST", "/v1/chat/completions", asked(response_format=beside, max_tokens=4))
    assert openai.status == 422
    assert openai.json["error"]["param"] == "response_format"
    assert fault in openai.json["detail"][0]["msg"]
    tool = {
        "type": "function",
        "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": schema}}},
    }
    for choice in ("auto", "required"):
        tools = served.call("POST", "/models/chat/completions", asked(tools=[tool], tool_choice=choice, max_tokens=4))
        assert tools.status in (400, 422)
    assert short(served).status == 200
    assert worker_of(served) == worker


def test_the_embedded_model_takes_tools_whole_and_streamed(served: Served) -> None:
    clock = {"type": "function", "function": {"name": "read_clock", "description": "The time now"}}
    for path in ("/models/chat/completions", "/v1/chat/completions"):
        whole = short(served, tools=[clock])
        assert whole.status == 200
        named = served.call("POST", path, asked(tools=[clock], tool_choice="read_clock", max_tokens=40))
        (call,) = named.json["choices"][0]["message"]["tool_calls"]
        assert call["function"] == {"name": "read_clock", "arguments": "{}"}
        streamed = served.call("POST", path, asked(tools=[clock], stream=True, max_tokens=24))
        assert (streamed.status, streamed.body.strip().endswith(b"data: [DONE]")) == (200, True)
        assert b"engine_failed" not in streamed.body


def test_a_truncated_model_fails_alone(weights: Path, tmp_path: Path, serve_module: Callable[..., Served]) -> None:
    whole = next((weights / "models" / SMALL).glob("*.gguf"))
    cut = tmp_path / "cut.gguf"
    with whole.open("rb") as file:
        cut.write_bytes(file.read(1_000_000))
    script = CONFIG["deployments"]["script"]
    served = serve_module(
        {
            "deployments": {
                "cut": {
                    "model": {"format": "Custom", "name": "cut", "version": "1"},
                    "provider": {"type": "llama_cpp", "weights": str(cut)},
                },
                "script": script,
            }
        }
    )

    def states() -> dict[str, Any]:
        told = served.call("GET", "/health/ready").json["deployments"]
        return {state["name"]: state for state in told}

    eventually(lambda: states()["cut"]["state"] == "failed", "the truncated model is given up")
    assert states()["script"]["state"] == "ready"
    assert "Traceback" not in str(states()["cut"]["reason"])
    assert states()["cut"]["reason"]
    unknown = served.call("GET", "/health/ready", key=None)
    assert unknown.status == 503
    assert unknown.json == {"status": "not_ready"}
    assert str(tmp_path) not in served.call("GET", "/", headers={"accept": "text/html"}, key=None).body.decode()
    assert served.call("GET", "/health/live", key=None).status == 200
    assert served.call("POST", "/v1/chat/completions", {**asked(), "model": "script"}).status == 200
    answer = served.call("POST", "/v1/chat/completions", {**asked(), "model": "cut"})
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert str(tmp_path) not in answer.body.decode()


def record_of(served: Served, name: str) -> UsageRecord:
    """Of the call that its client gave this id."""
    found: list[UsageRecord] = []

    def is_there() -> bool:
        found[:] = [record for record in served.journal() if record.client_request_id == name]
        return bool(found)

    eventually(is_there, "the record")
    (record,) = found
    return record


def cut_whole_call(served: Served, name: str, cut: Callable[[Any], None]) -> UsageRecord:
    """A whole answer that is cut off when some of it has been made. Nothing of that shows before, so it is cut off
    later and later, until it is so."""
    for seconds in (1, 2, 4, 8, 16):
        eventually(lambda: short(served).status == 200, "a ready worker")
        with served.connect() as connection:
            named = f"{name}-{seconds}"
            request = asked(**ENDLESS)
            connection.sendall(served.request("/models/chat/completions", request, x_ms_client_request_id=named))
            eventually(lambda: served.metric("modelport_engine_slots_busy") == 1, "the model works")
            time.sleep(seconds)
            cut(connection)
        record = record_of(served, named)
        if record.usage.output:
            break
    return record


def test_what_the_model_made_until_its_caller_left_is_charged_in_a_whole_answer_too(served: Served) -> None:
    record = cut_whole_call(served, "left", lambda connection: connection.close())
    assert (record.ending, record.usage_source) == ("cancelled", "reported")
    assert 0 < record.usage.output < ENDLESS["max_tokens"]
    assert record.usage.prompt > 0


def test_what_a_worker_made_until_it_was_killed_is_charged_in_a_whole_answer_too(served: Served) -> None:
    def kill(connection: Any) -> None:
        os.kill(worker_of(served), signal.SIGKILL)
        assert connection.recv(65536).startswith(b"HTTP/1.1 5")

    record = cut_whole_call(served, "killed", kill)
    assert record.ending == "failed"
    assert 0 < record.usage.output < ENDLESS["max_tokens"]
    eventually(lambda: short(served).status == 200, "an answer of the restarted worker")
