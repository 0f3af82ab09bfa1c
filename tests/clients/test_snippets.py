"""The documentation's own samples, unchanged but for endpoint and key."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import Any

import pytest

from .deployments import EMBEDDED_LLAMA, LANGUAGES, RIEMANN, SCRIPTED_LLAMA
from .printed import SNIPPETS, run_python
from .serving import Server

LLAMA_INFO = "Model name: Meta-Llama-3.1-405B-Instruct\nModel type: chat-completions\nModel provider name: Meta\n"
LLAMAS = [SCRIPTED_LLAMA, EMBEDDED_LLAMA]


@pytest.mark.check(1)
def test_the_endpoint_sample(server: Server) -> None:
    assert run_python("endpoint", endpoint=server.models, key=server.key) == RIEMANN + "\n"


@pytest.mark.check(1)
def test_the_endpoint_sample_over_https(secure: Server) -> None:
    printed = run_python("endpoint", endpoint=secure.models, key=secure.key, ca_file=secure.ca_file)
    assert printed == RIEMANN + "\n"


@pytest.mark.check(56)
def test_the_sample_of_an_extra(server: Server) -> None:
    printed = run_python("api-client", "api-extras", endpoint=server.root_of("Mistral-large"), key=server.key)
    assert printed == RIEMANN + "\n"


def test_the_sample_of_content_safety_prints_the_answer(server: Server) -> None:
    printed = run_python("api-client", "api-safety", endpoint=server.root_of(SCRIPTED_LLAMA), key=server.key)
    assert printed == LANGUAGES + "\n"


@pytest.mark.check(26, 27, 68, 74, 81, 96)
@pytest.mark.parametrize("deployment", LLAMAS)
def test_the_samples_of_the_llama_family(server: Server, deployment: str) -> None:
    names = ["client", "info", "chat", "stream", "extras", "safety"]
    printed = run_python(*(f"llama-{name}" for name in names), endpoint=server.root_of(deployment), key=server.key)
    assert printed.startswith(LLAMA_INFO + "Response: ")
    assert "\nModel: Meta-Llama-3.1-405B-Instruct\nUsage:\n" in printed
    counts = [int(n) for n in re.search(r"\tPrompt tokens: (\d+)\n\tTotal tokens: (\d+)\n\tCompletion tokens: (\d+)",
                                        printed).groups()]  # fmt: skip # type: ignore[union-attr]
    assert counts[1] == counts[0] + counts[2]
    if deployment == SCRIPTED_LLAMA:
        assert printed.count(LANGUAGES) == 3


def curl(name: str, root: str, key: str) -> str:
    """Send a printed HTTP request with curl, the headers and the body as they stand."""
    head, _, body = (SNIPPETS / f"{name}.http.txt").read_text(encoding="utf-8").partition("\n\n")
    request_line, *headers = head.strip().replace("<TOKEN>", key).split("\n")
    method, path, _ = request_line.split(" ")
    command = ["curl", "--silent", "--show-error", "--fail-with-body", "--no-buffer", "-X", method, root + path]
    for header in headers:
        if not header.startswith("Host:"):
            command += ["-H", header]
    if body:
        command += ["--data-binary", body]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


needs_curl = pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")


@needs_curl
@pytest.mark.check(96)
def test_the_printed_info_request(server: Server) -> None:
    assert json.loads(curl("info", server.url, server.key)) == {
        "model_name": "Meta-Llama-3.1-405B-Instruct",
        "model_type": "chat-completions",
        "model_provider_name": "Meta",
    }


@needs_curl
@pytest.mark.check(26, 27, 30)
@pytest.mark.parametrize("deployment", LLAMAS)
@pytest.mark.parametrize("name", ["chat", "parameters", "safety"])
def test_the_printed_chat_requests(server: Server, deployment: str, name: str) -> None:
    answer = json.loads(curl(name, server.root_of(deployment), server.key))
    assert set(answer) == {"id", "object", "created", "model", "choices", "usage"}
    assert set(answer["choices"][0]) == {"index", "message", "finish_reason", "logprobs"}
    assert answer["choices"][0]["message"]["tool_calls"] is None
    assert answer["choices"][0]["message"]["content"]
    assert answer["model"] == "Meta-Llama-3.1-405B-Instruct"


@needs_curl
@pytest.mark.check(68)
@pytest.mark.parametrize("deployment", LLAMAS)
def test_the_printed_extras_request(server: Server, deployment: str) -> None:
    answer = json.loads(curl("extras", server.root_of(deployment), server.key))
    if deployment == EMBEDDED_LLAMA:
        assert answer["choices"][0]["logprobs"]["content"]


@needs_curl
@pytest.mark.check(71, 72, 74, 75)
@pytest.mark.parametrize("deployment", LLAMAS)
def test_the_printed_stream_request(server: Server, deployment: str) -> None:
    printed = curl("stream", server.root_of(deployment), server.key)
    *events, done, last = printed.split("\n\n")
    assert (done, last) == ("data: [DONE]", "")
    first: dict[str, Any] = json.loads(events[0].removeprefix("data: "))
    assert set(first) == {"id", "object", "created", "model", "choices"}
    assert first["choices"] == [
        {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None, "logprobs": None}
    ]
    final = json.loads(events[-1].removeprefix("data: "))
    # What the embedded model says is not ours to promise: it may as well fill its context.
    reason = final["choices"][0].pop("finish_reason")
    assert reason == "stop" or (deployment == EMBEDDED_LLAMA and reason == "length")
    assert final["choices"] == [{"index": 0, "delta": {"content": ""}, "logprobs": None}]
    assert set(final) == {*first, "usage"}
