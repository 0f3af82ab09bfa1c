"""Calls that wait for a model that runs here: for its load, and for one of its slots. Waiting has a time of its own."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from served import Answer, Served, eventually, serve, until

pytestmark = pytest.mark.embedded

SMALL = "smollm2-135m-instruct"
MODEL = {"format": "HuggingFace", "name": SMALL, "version": "1"}
FIRST_EVENT_SECONDS = 8
CONFIG: dict[str, Any] = {
    "extra_parameters": "pass-through",
    "engine": {"slots": 1, "queue": 8, "context": 8192, "load": "first_use"},
    "deployments": {
        "patient": {"model": MODEL, "timeouts": {"first_event": FIRST_EVENT_SECONDS}},
        "hasty": {"model": MODEL, "timeouts": {"queue": 1}},
        "script": {
            "model": {"format": "Custom", "name": "script", "version": "1"},
            "provider": {"type": "scripted"},
        },
    },
}


def body(model: str, **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Count."}], "max_tokens": 2, **fields}


def ask(served: Served, model: str, path: str = "/v1/chat/completions", **fields: Any) -> Answer:
    return served.call("POST", path, body(model, **fields), timeout_seconds=120)


def test_waiting_has_a_time_of_its_own_whole_and_streamed(weights: Path, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o700)
    (data_dir / "models").symlink_to((weights / "models").resolve())
    with serve(CONFIG, data_dir) as served, ThreadPoolExecutor(4) as pool:
        # All of them find a model that is not loaded, or loads because of another's call.
        first = [pool.submit(ask, served, "patient", stream=streamed) for streamed in (True, False, True)]
        assert [call.result().status for call in first] == [200, 200, 200]
        with served.connect() as running:
            endless = body("patient", stream=True, ignore_eos=True) | {"max_tokens": 7000}
            running.sendall(served.request("/v1/chat/completions", endless))
            until(running, b'"content":')
            for streamed in (True, False):
                refused = ask(served, "hasty", stream=streamed)
                assert (refused.status, refused.json["error"]["code"]) == (503, "NoCapacity")
                assert "queue" in refused.json["error"]["message"]
                assert int(refused.headers["retry-after"]) >= 1
            waiting = [pool.submit(ask, served, "patient", stream=streamed) for streamed in (True, False)]
            left = served.connect()
            left.sendall(served.request("/v1/chat/completions", body("patient")))
            eventually(lambda: served.metric("modelport_journal_open_calls") == 4, "three calls wait")
            left.close()
            eventually(lambda: served.metric("modelport_journal_open_calls") == 3, "the one that left is forgotten")
            time.sleep(FIRST_EVENT_SECONDS + 1)  # longer than the first event of a target may take
            assert not any(call.done() for call in waiting)
        answers = [call.result() for call in waiting]
        assert [answer.status for answer in answers] == [200, 200]
        assert answers[0].body.rstrip().endswith(b"[DONE]")
        assert json.loads(answers[1].body)["usage"]["completion_tokens"] >= 1
        health = served.call("GET", "/health/ready").json
        assert {entry["state"] for entry in health["deployments"]} == {"ready"}
