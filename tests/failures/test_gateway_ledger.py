"""Every inference call leaves exactly one record, at every door and however it ends; strangers leave none.

The cases are made from the routers' own table: a new route is tested the day it is added.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from modelport.core.operations import Operation
from modelport.core.usage import UsageRecord
from modelport.surfaces.app import all_routes
from modelport.surfaces.door import Inference, Route
from modelport.surfaces.options import Options
from served import Answer, JournalTail, Served, eventually, until, until_closed

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PNG = f"data:image/png;base64,{PIXEL}"
FAIL_FIRST, FAIL_MIDDLE, HANG_FIRST, HANG_MIDDLE = "fail at first", "fail midway", "hang at first", "hang midway"

CONFIG: dict[str, Any] = {
    "providers": {
        "script": {
            "type": "scripted",
            "dimensions": 4,
            "replies": [
                {"match": {"contains": FAIL_FIRST}, "fault": {"status": 500}},
                {"match": {"contains": FAIL_MIDDLE}, "fault": {"status": 500}, "fault_after_chunks": 1},
                {"match": {"contains": HANG_FIRST}, "hang_after_chunks": 0},
                {"match": {"contains": HANG_MIDDLE}, "hang_after_chunks": 1},
            ],
        }
    },
    "deployments": {
        "Able": {"model": {"format": "Custom", "name": "able", "version": "1"}, "provider": "script", "default": True},
        "Limited": {
            "model": {"format": "Custom", "name": "limited", "version": "1"},
            "provider": "script",
            "limits": {"requests_per_minute": 1},
        },
        "Tiny": {
            "model": {"format": "Custom", "name": "tiny", "version": "1"},
            "provider": "script",
            "limits": {"tokens_per_minute": 1},
        },
        "Impatient": {
            "model": {"format": "Custom", "name": "impatient", "version": "1"},
            "provider": "script",
            "timeouts": {"first_event": 0.02, "between_events": 0.02},
        },
    },
}


@dataclass(frozen=True)
class Case:
    """One way of calling: a route, whole or streamed."""

    route: Route
    streamed: bool

    @property
    def operation(self) -> Operation:
        assert isinstance(self.route.endpoint, Inference)
        return self.route.endpoint.operation

    def path(self, deployment: str) -> str:
        return self.route.path.replace("{deployment}", deployment).replace("{project}", "any")

    def body(self, text: str, deployment: str, **fields: Any) -> dict[str, Any]:
        asked: dict[str, Any] = {"model": deployment, **fields}
        if self.streamed:
            asked["stream"] = True
        if self.route.path.endswith("/score"):
            turns = [{"role": "user", "content": text}]
            return {"input_data": {"input_string": turns, "parameters": fields}}
        match self.operation:
            case Operation.CHAT_COMPLETIONS:
                return {"messages": [{"role": "user", "content": text}], **asked}
            case Operation.COMPLETIONS:
                return {"prompt": text, **asked}
            case Operation.EMBEDDINGS:
                return {"input": [text], **asked}
            case _:
                return {"input": [{"image": PNG, "text": text}], **asked}


def cases() -> Iterator[Case]:
    for route in all_routes(Options()):
        if isinstance(route.endpoint, Inference):
            yield Case(route, streamed=False)
            if route.endpoint.speech().stream is not None:
                yield Case(route, streamed=True)


CASES = list(cases())
every_case = pytest.mark.parametrize("case", CASES, ids=lambda c: f"{'stream ' if c.streamed else ''}{c.route.path}")
every_stream = pytest.mark.parametrize(
    "case", [case for case in CASES if case.streamed], ids=lambda case: str(case.route.path)
)


class Ledger:
    """A server, and the records of the calls made through this."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.tail = JournalTail(served.data_dir / "journal")

    def headers(self, deployment: str, id: str) -> dict[str, str]:
        return {
            "azureml-model-deployment": deployment,
            "x-ms-model-mesh-model-name": deployment,
            "x-ms-client-request-id": id,
        }

    def call(self, case: Case, text: str = "Hello!", deployment: str = "Able", **fields: Any) -> tuple[Answer, Any]:
        """The answer, and the one record."""
        return self.post(case, json.dumps(case.body(text, deployment, **fields)).encode(), deployment)

    def post(self, case: Case, body: bytes, deployment: str = "Able") -> tuple[Answer, UsageRecord]:
        id = str(uuid.uuid4())
        answer = self.served.call("POST", case.path(deployment), body, headers=self.headers(deployment, id))
        return answer, self.one(id, case)

    def one(self, id: str, case: Case) -> UsageRecord:
        """The call's only record, with what is true of every record."""
        eventually(lambda: self.tail.of(id), f"the record of {id}")
        (record,) = self.tail.of(id)
        assert isinstance(case.route.endpoint, Inference)
        assert (record.surface, record.operation) == (case.route.door.surface, case.operation)
        assert record.principal == "operator"
        assert record.key_id == "operator/1"
        assert sum(record.usage.classes()) == record.usage.prompt + record.usage.completion == record.usage.total
        assert min(record.usage.classes()) >= 0
        assert record.duration_seconds >= 0
        return record

    def begun(self, id: str) -> None:
        """Waits until the call is on its way to the model."""
        eventually(lambda: self.tail.of(id, "open"), f"the opening of {id}")


@pytest.fixture(scope="module")
def ledger(serve_module: Callable[..., Served]) -> Ledger:
    return Ledger(serve_module(CONFIG))


@every_case
def test_a_completed_call_leaves_one_record_with_the_tokens_that_were_told(ledger: Ledger, case: Case) -> None:
    answer, record = ledger.call(case)
    assert answer.status == 200, answer.body
    assert answer.is_whole
    assert (record.ending, record.status, record.error_code) == ("completed", 200, None)
    assert (record.deployment, record.streamed) == ("Able", case.streamed)
    assert record.usage.total > 0
    if not case.route.path.endswith("/score") and not (case.streamed and answer.usage is None):
        assert answer.usage["total_tokens"] == record.usage.total
        assert answer.usage["prompt_tokens"] == record.usage.prompt
    assert record.usage_source == "reported"
    assert record.first_event_seconds is not None


@every_case
def test_a_call_with_wrong_fields_leaves_one_refused_record(ledger: Ledger, case: Case) -> None:
    wrong: dict[str, Any] = {"dimensions": -1} if "embeddings" in case.operation else {"temperature": 9}
    answer, record = ledger.call(case, **wrong)
    assert answer.status == 422, answer.body
    assert (record.ending, record.status) == ("refused", 422)
    assert record.error_code is not None
    assert record.usage.total == 0


@every_case
def test_a_call_of_nothing_we_have_leaves_one_refused_record(ledger: Ledger, case: Case) -> None:
    answer, record = ledger.call(case, deployment="Nowhere")
    assert answer.status == 404, answer.body
    assert (record.ending, record.status) == ("refused", 404)
    assert (record.deployment, record.requested_model) == (None, "Nowhere")
    assert record.streamed is case.streamed


@every_case
def test_a_call_over_its_limit_leaves_one_refused_record(ledger: Ledger, case: Case) -> None:
    answer, record = ledger.call(case, deployment="Limited")
    if answer.status == 200:  # the first within its minute
        answer, record = ledger.call(case, deployment="Limited")
    assert answer.status == 429, answer.body
    assert int(answer.headers["retry-after"]) >= 1
    assert (record.ending, record.status) == ("refused", 429)
    assert record.deployment == "Limited"
    assert record.usage.total == 0


@every_case
def test_a_call_that_can_never_fit_its_limit_leaves_one_refused_record(ledger: Ledger, case: Case) -> None:
    answer, record = ledger.call(case, deployment="Tiny")
    assert answer.status == 400, answer.body
    assert (record.ending, record.status, record.error_code) == ("refused", 400, "tokens_limit_reached")
    assert record.usage.total == 0


@every_case
def test_a_body_that_is_no_json_leaves_one_refused_record(ledger: Ledger, case: Case) -> None:
    answer, record = ledger.post(case, b'{"messages": ')
    assert answer.status == 400, answer.body
    assert (record.ending, record.status) == ("refused", 400)


@every_case
def test_a_model_that_fails_at_once_leaves_one_failed_record(ledger: Ledger, case: Case) -> None:
    answer, record = ledger.call(case, FAIL_FIRST)
    assert answer.status >= 500, answer.body
    assert answer.json["error"]["code"]
    assert (record.ending, record.status) == ("failed", answer.status)
    assert record.usage.total == 0


@every_case
def test_a_model_that_fails_midway_leaves_one_failed_record_with_what_was_made(ledger: Ledger, case: Case) -> None:
    answer, record = ledger.call(case, FAIL_MIDDLE)
    if case.streamed:
        assert answer.status == 200
        assert not answer.is_whole
        assert b"[DONE]" not in answer.body
        assert answer.chunks[-1]["error"]["code"]
    else:
        assert answer.status >= 500
    assert (record.ending, record.status) == ("failed", answer.status)
    assert record.error_code is not None
    assert record.usage.total > 0


@every_case
def test_a_model_that_is_too_slow_leaves_one_failed_record(ledger: Ledger, case: Case) -> None:
    answer, record = ledger.call(case, HANG_FIRST, deployment="Impatient")
    assert answer.status == 504, answer.body
    assert (record.ending, record.status) == ("failed", 504)
    assert record.usage.total > 0  # the model was asked, and nobody knows what it has made
    assert record.usage_source == "estimated"


@every_stream
def test_a_stream_that_stands_still_leaves_one_failed_record(ledger: Ledger, case: Case) -> None:
    answer, record = ledger.call(case, HANG_MIDDLE, deployment="Impatient")
    assert answer.status == 200
    assert not answer.is_whole
    assert (record.ending, record.status, record.error_code) == ("failed", 200, "Timeout")
    assert record.usage.total > 0


@every_case
def test_a_client_that_leaves_before_the_answer_leaves_one_cancelled_record(ledger: Ledger, case: Case) -> None:
    id = str(uuid.uuid4())
    body = case.body(HANG_FIRST, "Able")
    with ledger.served.connect() as connection:
        connection.sendall(ledger.served.request(case.path("Able"), body, **ledger.headers("Able", id)))
        ledger.begun(id)
    record = ledger.one(id, case)
    assert (record.ending, record.deployment, record.streamed) == ("cancelled", "Able", case.streamed)
    assert record.usage.total > 0
    assert record.usage_source == "estimated"


@every_stream
def test_a_client_that_leaves_a_stream_leaves_one_cancelled_record_with_what_was_made(
    ledger: Ledger, case: Case
) -> None:
    id = str(uuid.uuid4())
    body = case.body(HANG_MIDDLE, "Able")
    with ledger.served.connect() as connection:
        connection.sendall(ledger.served.request(case.path("Able"), body, **ledger.headers("Able", id)))
        until(connection, b"data: ")
    record = ledger.one(id, case)
    assert record.ending == "cancelled"
    assert record.usage.total > 0
    assert record.usage_source in ("counted", "estimated")


def test_strangers_leave_no_record(ledger: Ledger) -> None:
    before = len(ledger.served.journal())
    for case in CASES:
        for key in (None, "a-wrong-key"):
            body = case.body("Hello!", "Able")
            assert ledger.served.call("POST", case.path("Able"), body, key=key).status == 401
    assert len(ledger.served.journal()) == before


def test_no_call_is_left_open_and_none_has_two_ends(ledger: Ledger) -> None:
    for case in CASES[:2]:
        ledger.call(case)
    lines = ledger.tail.read()
    opened = {line.call_id() for line in lines if line.kind == "open"}
    closed = [line.call_id() for line in lines if line.kind == "close"]
    assert len(closed) == len(set(closed))
    assert opened <= set(closed)
    assert ledger.served.metric("modelport_journal_open_calls") == 0


def test_the_metrics_count_what_the_journal_holds(ledger: Ledger) -> None:
    for case in CASES[:4]:
        ledger.call(case)
        ledger.call(case, deployment="Nowhere")
    served, records = ledger.served, ledger.served.journal()
    for name in ("input", "cached_input", "output", "reasoning", "audio_input", "audio_output", "image"):
        made = sum(getattr(record.usage, name) for record in records)
        assert served.metric("modelport_tokens_total", **{"class": name}) == made
    for surface in ("azure_inference", "azure_openai", "openai_v1"):
        for status in {record.status for record in records}:
            calls = [record for record in records if (record.surface, record.status) == (surface, status)]
            assert served.metric("modelport_requests_total", surface=surface, status=str(status)) == len(calls)
    assert served.metric("modelport_calls_in_flight") == 0
    text = served.call("GET", "/metrics").body.decode()
    assert "nowhere" not in text.lower()


LATE = {**CONFIG, "server": {"limits": {"request_seconds": 0.5}}}
CHAT = next(case for case in CASES if case.route.path == "/models/chat/completions" and not case.streamed)
STREAM = next(case for case in CASES if case.route.path == "/models/chat/completions" and case.streamed)


@pytest.fixture(scope="module")
def late(serve_module: Callable[..., Served]) -> Ledger:
    return Ledger(serve_module(LATE))


def test_a_body_that_never_ends_leaves_one_refused_record(late: Ledger) -> None:
    id = str(uuid.uuid4())
    head = late.served.head("POST", "/models/chat/completions", 1000, x_ms_client_request_id=id)
    with late.served.connect() as connection:
        connection.sendall(head + b'{"mess')
        received = until_closed(connection)
    assert received.startswith(b"HTTP/1.1 408 ")
    record = late.one(id, CHAT)
    assert (record.ending, record.status) == ("refused", 408)


def test_an_answer_beyond_the_servers_limit_leaves_one_failed_record(late: Ledger) -> None:
    answer, record = late.call(CHAT, HANG_FIRST)
    assert answer.status == 504
    assert (record.ending, record.status) == ("failed", 504)


def test_a_stream_beyond_the_servers_limit_leaves_one_failed_record(late: Ledger) -> None:
    answer, record = late.call(STREAM, HANG_MIDDLE)
    assert answer.status == 200
    assert not answer.is_whole
    assert (record.ending, record.status, record.error_code) == ("failed", 200, "Timeout")
    assert record.usage.total > 0
