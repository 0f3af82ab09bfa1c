"""Canaries: keys and prompts are sent every way there is, and then looked for wherever the server writes."""

from __future__ import annotations

import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from served import Served, eventually, until

OPERATOR, CALLER, UPSTREAM, WRONG = (
    "canary-operator-91c",
    "canary-caller-72d",
    "canary-upstream-53e",
    "canary-wrong-34f",
)
PROMPT = "canary-prompt-15a"
SECRETS = (OPERATOR, CALLER, UPSTREAM, WRONG)
PATHS = [base + "/chat/completions" for base in ("/models", "/deployments/script", "/openai/deployments/script", "/v1")]


@pytest.fixture(scope="module", params=["json", "text"])
def served(request: pytest.FixtureRequest, serve_module: Callable[..., Served]) -> Served:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    model = {"format": "Custom", "name": "script", "version": "1"}
    script: dict[str, Any] = {
        "type": "scripted",
        "replies": [
            {"match": {"contains": "fail"}, "fault": {"status": 500, "message": f"{UPSTREAM} {PROMPT}"}},
            {"match": {"contains": "break"}, "text": "one two", "fault_after_chunks": 1},
            {"match": {"contains": "hang"}, "text": "one two", "hang_after_chunks": 1},
        ],
    }
    served = serve_module(
        {
            "telemetry": {"log": request.param, "log_level": "debug"},
            "providers": {
                "far": {
                    "type": "openai_compatible",
                    "base_url": f"http://127.0.0.1:{port}/v1",
                    "api_key": "env:UPSTREAM_KEY",
                }
            },
            "deployments": {
                "script": {"model": model, "provider": script, "default": True},
                "llama": {"model": {**model, "name": "Meta-Llama-3-8B-Instruct"}, "provider": script},
                "far": {"model": model, "provider": "far"},
            },
            "keys": {"caller": {"key1": "env:CALLER_KEY"}},
        },
        under=(),  # the command line of a fork would show nothing
        MODELPORT_API_KEY=OPERATOR,
        CALLER_KEY=CALLER,
        UPSTREAM_KEY=UPSTREAM,
    )
    speak(served)
    return served


def asked(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "script", "messages": [{"role": "user", "content": f"{text} {PROMPT}"}], **fields}


def speak(served: Served) -> None:
    """Everything that a caller may do right or wrong, with a canary in it."""
    tool = {"type": "function", "function": {"name": PROMPT, "description": PROMPT, "parameters": {"title": PROMPT}}}
    bodies: list[Any] = [
        asked("hello"),
        asked("hello", stream=True),
        asked("fail"),
        asked("break", stream=True),
        asked("hello", temperature=PROMPT),
        asked("hello", temperature=9),
        asked("hello", tools=[tool]),
        asked("hello", model="llama", tools=[tool]),
        asked("hello", model="llama", response_format={"type": "json_object"}),
        asked("hello", model="far"),
        asked("hello", secret_extra=PROMPT),
        asked("hello", n=PROMPT),
        {"model": "script", "messages": [{"role": PROMPT, "content": PROMPT}]},
        {"model": "script", "messages": PROMPT},
        f'{{"messages": "{PROMPT}'.encode(),
        PROMPT.encode() * 100,
        b"\xff\xfe" + PROMPT.encode(),
    ]
    for path in PATHS:
        for body in bodies:
            for key in (OPERATOR, CALLER, WRONG):
                headers = {"authorization": f"Bearer {key}", "extra-parameters": "pass-through"}
                served.call("POST", path, body, key=key, headers=headers)
        served.call("POST", path, asked("hello"), key=CALLER, headers={"extra-parameters": PROMPT})
        served.call("POST", f"{path}?api-version={PROMPT}", asked("hello"), key=CALLER)
        with served.connect() as connection:
            connection.sendall(served.request(path, asked("hang", stream=True)))
            until(connection, b"one")
    for place in ("/v1/embeddings", "/models/embeddings", "/v1/completions", "/models/images/embeddings", "/score"):
        for body in ({"input": [PROMPT]}, {"prompt": PROMPT}, {"input": [{"image": PROMPT}]}, {"input": {PROMPT: 1}}):
            served.call("POST", place, body, key=CALLER)
    eventually(lambda: served.metric("modelport_journal_open_calls") == 0, "every call has ended")


def test_logs_hold_no_secret_and_no_prompt(served: Served) -> None:
    logged = served.stderr()
    assert "completed" in logged
    for canary in (*SECRETS, PROMPT):
        assert canary not in logged
    assert "Traceback" not in logged
    assert "unhandled" not in logged


def test_the_data_directory_holds_no_secret_and_no_prompt(served: Served) -> None:
    looked_at = 0
    for path in served.data_dir.rglob("*"):
        if path.is_file():
            looked_at += 1
            data = path.read_bytes()
            assert not [canary for canary in (*SECRETS, PROMPT) if canary.encode() in data], path
    assert looked_at
    assert served.journal()


@pytest.mark.parametrize(
    ("path", "accept"),
    [("/metrics", "*/*"), ("/health", "*/*"), ("/health/ready", "*/*"), ("/", "text/html"), ("/v1/models", "*/*")],
)
def test_pages_hold_no_secret_and_no_prompt(served: Served, path: str, accept: str) -> None:
    for key in (None, WRONG, CALLER, OPERATOR):
        answer = served.call("GET", path, headers={"accept": accept}, key=key)
        assert answer.status in (200, 401)
        for canary in (*SECRETS, PROMPT):
            assert canary.encode() not in answer.body
            assert canary not in str(answer.headers)


@pytest.mark.parametrize("path", PATHS)
def test_refusals_hold_no_secret_and_nobody_elses_prompt(served: Served, path: str) -> None:
    own = {"model": "script", "messages": [{"role": "user", "content": "mine"}]}
    wrongs: list[tuple[Any, str | None]] = [
        (own, None),
        (own, WRONG),
        ({**own, "temperature": 9}, CALLER),
        ({**own, "messages": [{"role": "user", "content": "fail"}]}, CALLER),
        ({**own, "model": "far"}, CALLER),
        (b"{", CALLER),
    ]
    for body, key in wrongs:
        answer = served.call("POST", path, body, key=key)
        for canary in (*SECRETS, PROMPT):
            assert canary.encode() not in answer.body
            assert canary not in str(answer.headers)


def test_an_upstreams_own_trouble_is_not_told(served: Served) -> None:
    answer = served.call("POST", PATHS[0], asked("fail"), key=CALLER)
    assert answer.status >= 500
    assert UPSTREAM.encode() not in answer.body


def test_a_process_list_shows_no_secret(served: Served) -> None:
    command = Path(f"/proc/{served.process.pid}/cmdline").read_bytes()
    assert not [secret for secret in SECRETS if secret.encode() in command]


def test_a_key_made_at_the_first_start_is_not_written_where_logs_go(serve: Callable[..., Any], data_dir: Path) -> None:
    model = {"format": "Custom", "name": "script", "version": "1"}
    config = {"deployments": {"script": {"model": model, "provider": {"type": "scripted"}}}}
    with serve(config, MODELPORT_API_KEY="") as served:
        files = [path for path in data_dir.rglob("*") if path.is_file() and "key" in path.name]
        assert len(files) == 2  # the operator's, and the one that stored secrets are encrypted with
        assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)
        assert stat.S_IMODE(data_dir.stat().st_mode) & 0o077 == 0
        (file,) = [file for file in files if "secret" not in file.name]
        key = file.read_text().strip()
        (secret,) = [found.read_bytes().hex() for found in files if found != file]
        assert len(key) >= 32
        assert served.call("GET", "/v1/models", key=key).status == 200
        served.terminate()
        assert served.process.stdout is not None
        printed = served.first_line + served.process.stdout.read().decode()
        assert "keys show" in printed
        assert key not in printed
        assert key not in served.stderr()
        assert secret not in printed + served.stderr()
