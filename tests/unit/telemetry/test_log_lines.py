"""Log lines: their shape, their way out, and what never gets into them."""

from __future__ import annotations

import io
import json
import logging
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.core.usage import Ending, TokenUsage, UsageRecord, UsageSource
from modelport.telemetry.lines import access_fields, rendered, worded
from modelport.telemetry.logging import (
    BATCH_LINES,
    GATHER_SECONDS,
    QUEUE_LINES,
    AccessLog,
    LogWriter,
    QueuedHandler,
    access_log,
    configure_logging,
)
from modelport.telemetry.redaction import MASK, redacted

AZURE_KEY = "4KqT" + "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7" * 2 + "JQQJ99ALACYeBjFXJ3w3AAABACOG"


def record(**changes: Any) -> UsageRecord:
    fields: dict[str, Any] = {
        "id": "0b9c2c52-2a3c-4a3e-9b9a-0d4f1f1f7c11",
        "started_at": 1_700_000_000.0,
        "principal": "alice",
        "key_id": "k1",
        "surface": "azure_inference",
        "operation": "chat_completions",
        "streamed": True,
        "requested_model": "Gpt",
        "deployment": "gpt",
        "answered_model": "gpt-4o",
        "target": "house/gpt-4o",
        "status": 200,
        "ending": Ending.COMPLETED,
        "usage": TokenUsage(input=10, output=5),
        "usage_source": UsageSource.REPORTED,
        "first_event_seconds": 0.0312345678,
        "duration_seconds": 1.5,
        "client_request_id": "c-1",
        "snapshot": "s1",
    }
    return UsageRecord(**{**fields, **changes})


@pytest.fixture
def configured() -> Iterator[Any]:
    """`configure_logging` onto a stream; everything is put back afterwards."""
    root = logging.getLogger()
    level, names = root.level, ("uvicorn", "uvicorn.error", "uvicorn.asgi", "aiohttp", "asyncio", "uvicorn.access")
    before = {name: (logging.getLogger(name).level, logging.getLogger(name).disabled) for name in names}
    stream = io.StringIO()

    def configure(format: Any, level: str) -> io.StringIO:
        configure_logging(format, level, stream)
        return stream

    yield configure
    for handler in list(root.handlers):
        if isinstance(handler, QueuedHandler):
            root.removeHandler(handler)
            handler.close()
    root.setLevel(level)
    logging.captureWarnings(False)
    for name, (old_level, disabled) in before.items():
        logging.getLogger(name).setLevel(old_level)
        logging.getLogger(name).disabled = disabled


def written(stream: io.StringIO) -> list[str]:
    """The lines, once the writer has nothing left."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, QueuedHandler):
            handler.writer.stop()
    return stream.getvalue().splitlines()


def test_an_access_line_in_json_says_what_the_call_was(configured):
    stream = configured("json", "info")
    access = access_log()
    assert access is not None
    access.write(record())
    (line,) = written(stream)
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:21.500Z",
        "level": "info",
        "event": "call",
        "id": "0b9c2c52-2a3c-4a3e-9b9a-0d4f1f1f7c11",
        "client_request_id": "c-1",
        "principal": "alice",
        "key_id": "k1",
        "surface": "azure_inference",
        "operation": "chat_completions",
        "streamed": True,
        "requested_model": "Gpt",
        "deployment": "gpt",
        "target": "house/gpt-4o",
        "answered_model": "gpt-4o",
        "status": 200,
        "ending": "completed",
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "usage_source": "reported",
        "first_event_seconds": 0.031235,
        "duration_seconds": 1.5,
        "snapshot": "s1",
    }


def test_an_access_line_in_text_is_one_line_of_names_and_values():
    line = rendered(access_fields(record(requested_model='a "b"\nstatus=200', key_id=None)), "text")
    assert line.startswith("2023-11-14T22:13:21.500Z info call id=0b9c2c52-2a3c-4a3e-9b9a-0d4f1f1f7c11 ")
    assert r"""requested_model='a "b"\nstatus=200'""" in line
    assert " streamed=yes " in line
    assert "key_id" not in line
    assert line.count("\n") == 1


@given(st.text(), st.text(), st.sampled_from(["json", "text"]))
def test_whatever_a_caller_names_stays_in_one_line(model, request_id, format):
    line = rendered(access_fields(record(requested_model=model, client_request_id=request_id)), format)
    assert format == "json" or len(line.splitlines()) == 1
    assert line.endswith("\n")
    assert "\n" not in line[:-1]


def test_there_is_no_access_log_above_level_info(configured):
    configured("json", "warning")
    assert access_log() is None


def test_there_is_no_access_log_before_logging_is_configured():
    assert access_log() is None


def test_other_loggers_write_the_same_form(configured):
    stream = configured("json", "info")
    logging.getLogger("modelport.engine").warning("worker %s ended", "qwen")
    logging.getLogger("modelport.engine").debug("not shown")
    logging.getLogger("uvicorn.error").info("not shown either")
    logging.getLogger("uvicorn.error").error("shown")
    logging.getLogger("uvicorn.access").info("never shown")
    lines = [json.loads(line) for line in written(stream)]
    assert [(line["level"], line["logger"], line["message"]) for line in lines] == [
        ("warning", "modelport.engine", "worker qwen ended"),
        ("error", "uvicorn.error", "shown"),
    ]


def test_an_exception_is_one_line_too(configured):
    stream = configured("text", "info")
    try:
        raise ValueError("bad\nthing")
    except ValueError:
        logging.getLogger("modelport").exception("it broke")
    (line,) = written(stream)
    assert "it broke" in line
    assert r"ValueError: bad\nthing" in line


def test_a_line_that_cannot_be_worded_does_not_end_the_log(configured):
    stream = configured("json", "info")
    logging.getLogger("modelport").warning("a path %s", "\udcff")
    logging.getLogger("modelport").warning("the next")
    assert "the next" in written(stream)[1]


class StuckStream(io.StringIO):
    """Takes nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.is_free = threading.Event()
        self.is_written = threading.Event()
        """Somebody waits, or has waited."""

    def write(self, text: str) -> int:
        self.is_written.set()
        self.is_free.wait()
        return super().write(text)


def test_a_reader_that_is_stuck_costs_lines_and_no_call_waits():
    stream = StuckStream()
    writer = LogWriter(stream)
    access = AccessLog(writer, "json")
    for _ in range(2 * QUEUE_LINES):
        access.write(record())
    assert writer.dropped > 0
    stream.is_free.set()
    writer.stop()
    lines = stream.getvalue().splitlines()
    told = [json.loads(line) for line in lines if "were dropped" in line]
    assert sum(line["lines"] for line in told) == writer.dropped
    assert len(lines) - len(told) == 2 * QUEUE_LINES - writer.dropped


@pytest.fixture
def waits(monkeypatch):
    """How long log writers have waited for more lines: they do not really wait."""
    seconds: list[float] = []
    monkeypatch.setattr("modelport.telemetry.logging.time", SimpleNamespace(sleep=seconds.append, time=time.time))
    return seconds


def test_lines_of_calls_wait_for_others_and_not_where_enough_are_there(waits):
    stream = StuckStream()
    writer = LogWriter(stream)
    access = AccessLog(writer, "json")
    access.write(record())
    stream.is_written.wait()
    for _ in range(5 * BATCH_LINES + 9):
        access.write(record())
    stream.is_free.set()
    writer.stop()
    assert len(stream.getvalue().splitlines()) == 1 + 5 * BATCH_LINES + 9
    assert waits == [GATHER_SECONDS, GATHER_SECONDS]  # for the first line, and for the last nine


def test_a_line_that_is_of_no_call_waits_for_none(waits):
    stream = io.StringIO()
    writer = LogWriter(stream)
    writer.put({"time": "t", "level": "error", "event": "log"}, "json")
    writer.stop()
    assert (len(stream.getvalue().splitlines()), waits) == (1, [])


def test_a_reader_that_has_gone_away_ends_nothing():
    stream = io.StringIO()
    writer = LogWriter(stream)
    stream.close()
    AccessLog(writer, "json").write(record())
    writer.stop()


@pytest.mark.parametrize(
    "text",
    [
        "api-key: s3cr3tvalue",
        '{"api_key": "s3cr3tvalue"}',
        "{'api-key': 's3cr3tvalue', 'x': 1}",
        "Authorization: Bearer s3cr3tvalue",
        "headers (b'authorization', b'Bearer s3cr3tvalue')",
        "Ocp-Apim-Subscription-Key=s3cr3tvalue",
        "password=s3cr3tvalue&x=1",
        "sent bearer s3cr3tvalue upstream",
        "key sk-s3cr3tvalue-1234567890 refused",
        f"key {AZURE_KEY}s3cr3tvalue refused",
        "old key 0123456789abcdef0123456789abcdef s3cr3t".replace(" s3cr3t", ""),
        "token eyJhbGciOiJS.eyJzdWIiOiJzM2NyM3Q.c2ln refused",
    ],
)
def test_what_looks_like_a_key_is_taken_out(text):
    shown = redacted(text)
    assert MASK in shown
    for secret in ("s3cr3tvalue", "0123456789abcdef", "eyJ"):
        assert secret not in shown


@pytest.mark.parametrize(
    "text",
    [
        "worker qwen2.5-0.5b-instruct ended with 137",
        "call 0b9c2c52-2a3c-4a3e-9b9a-0d4f1f1f7c11 took 3 s",
        "Meta-Llama-3.1-405B-Instruct is ready, tokens=12",
        "cannot open /models/my-model.gguf: No such file or directory",
    ],
)
def test_ordinary_words_stay(text):
    assert redacted(text) == text


def test_a_key_shown_as_a_model_s_name_is_not_logged():
    line = rendered(access_fields(record(requested_model=AZURE_KEY, client_request_id="Bearer abcdefgh12345")), "json")
    assert AZURE_KEY not in line
    assert "abcdefgh12345" not in line


def test_what_a_caller_names_is_cut_short():
    assert access_fields(record(requested_model="model " * 100))["requested_model"] == ("model " * 100)[:128]


def test_no_field_of_an_access_line_can_hold_a_text():
    assert set(access_fields(record())).isdisjoint({"prompt", "messages", "content", "text", "input", "output"})


@given(st.text(max_size=4))
def test_what_could_be_taken_for_something_else_is_quoted(text):
    speaks = bool(text) and text.isascii() and text.isprintable() and not set(text) & set(" \"'=\\")
    assert worded(text) == (text if speaks else ascii(text))


# --- for people -----------------------------------------------------------------------------------------------------


def test_a_call_on_a_terminal_is_one_short_line() -> None:
    line = rendered(access_fields(record()), "terminal")
    assert line.partition(" ")[2] == "200 chat_completions gpt 10+5 tokens 1.50 s\n"
    assert len(line) < 80


def test_a_refused_call_on_a_terminal_says_why() -> None:
    refused = record(deployment=None, status=404, ending=Ending.REFUSED, error_code="unknown_model", usage=TokenUsage())
    line = rendered(access_fields(refused), "terminal")
    assert line.partition(" ")[2] == "404 chat_completions Gpt 1.50 s unknown_model\n"


@given(st.text(max_size=300))
def test_no_caller_moves_the_cursor_of_a_terminal(text: str) -> None:
    fields = access_fields(record(deployment=None, requested_model=text, error_code=text, ending=Ending.REFUSED))
    line = rendered(fields, "terminal")
    assert line.isascii()
    assert line[:-1].isprintable()


def test_a_log_line_on_a_terminal_names_its_level_only_where_it_matters() -> None:
    fields = {"time": "2026-11-28T12:00:00.000Z", "level": "info", "event": "log", "logger": "l", "message": "It runs."}
    assert rendered(fields, "terminal").partition(" ")[2] == "It runs.\n"
    assert rendered({**fields, "level": "warning"}, "terminal").partition(" ")[2] == "warning: It runs.\n"


@pytest.mark.parametrize("is_terminal", [True, False])
def test_auto_is_for_people_where_there_is_a_terminal(
    is_terminal: bool, configured: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", SimpleNamespace(isatty=lambda: is_terminal))
    stream = configured("auto", "info")
    logging.getLogger("modelport.engine").warning("a worker ended")
    (line,) = written(stream)
    assert line.startswith("{") is not is_terminal
