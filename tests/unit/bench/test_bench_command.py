"""`modelport bench` as a process, against a real server with a scripted model."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import typer
from tests.served import KEY, Served, serve

from modelport.cli.bench import Surface, bounds, parsed, path, payload, request
from modelport.cli.output import ExitCode

CONFIG = """
deployments:
  rehearsal:
    model: {format: Custom, name: rehearsal}
    provider: {type: scripted, replies: [{text: "One two three four five."}]}
    limits: {tokens_per_minute: null, requests_per_minute: null}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(CONFIG, tmp_path_factory.mktemp("bench") / "data") as served:
        served.ready()
        yield served


def bench(endpoint: str, *arguments: str, key: str = KEY) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "modelport", "bench", "--endpoint", endpoint, "--key", key, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("surface", ["v1", "models", "azure"])
@pytest.mark.parametrize("streamed", [False, True])
def test_every_surface_can_be_measured(server: Served, surface: str, streamed: bool) -> None:
    arguments = ["--surface", surface, "--model", "rehearsal", "--requests", "12", "--connections", "3", "--json"]
    done = bench(server.url, *arguments, *(["--stream"] if streamed else []))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["requests"], found["good"], found["failed"], found["problems"]) == (12, 12, 0, {})
    assert found["requests_per_second"] > 0
    assert found["output_tokens"] > 12
    assert found["latency_ms"]["p50"] <= found["latency_ms"]["p99"] <= found["latency_ms"]["max"]
    assert (found["first_ms"] is not None) is streamed
    assert (found["between_tokens_ms"] is not None) is streamed


def test_the_first_request_does_not_count(server: Served) -> None:
    before = len(server.journal())
    assert bench(server.url, "--requests", "5", "--connections", "2").returncode == 0
    assert len(server.journal()) == before + 6


def test_the_table_names_rates_and_times(server: Served) -> None:
    done = bench(server.url, "--requests", "4", "--stream")
    assert "4 of 4 requests answered" in done.stdout
    assert "requests/s" in done.stdout
    for heading in ("milliseconds", "p50", "p99", "first token", "between tokens", "whole answer"):
        assert heading in done.stdout
    assert KEY not in done.stdout + done.stderr


@pytest.mark.parametrize("name", ["plot.html", "plot.svg"])
def test_a_plot_is_one_file_that_loads_nothing(server: Served, tmp_path: Path, name: str) -> None:
    assert bench(server.url, "--requests", "4", "--stream", "--plot", str(tmp_path / name)).returncode == 0
    drawn = (tmp_path / name).read_text()
    assert "<svg" in drawn
    assert "first token" in drawn
    for loading in ("<script", "src=", "href=", "url(", "@import"):
        assert loading not in drawn
    assert KEY not in drawn


def test_a_wrong_key_ends_the_command_before_anything_is_measured(server: Served) -> None:
    done = bench(server.url, key="wrong")
    assert done.returncode == ExitCode.NOT_AUTHORISED
    assert "401" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_model_ends_the_command(server: Served) -> None:
    assert bench(server.url, "--model", "absent").returncode == ExitCode.NOT_FOUND


def test_an_address_where_nobody_listens_ends_the_command() -> None:
    done = bench("http://127.0.0.1:1")
    assert done.returncode == ExitCode.SERVER_UNREACHABLE
    assert "no connection" in done.stderr


@pytest.mark.parametrize("endpoint", ["localhost:8080", "ftp://x", "http://", "http://u:secret@host", "http://h:0"])
def test_what_is_no_address_is_refused_without_repeating_a_password(
    endpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended:
        parsed(endpoint)
    assert ended.value.exit_code == ExitCode.USAGE
    assert "secret" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("endpoint", "surface", "expected"),
    [
        ("http://h", Surface.V1, "/v1/chat/completions"),
        ("http://h/v1/", Surface.V1, "/v1/chat/completions"),
        ("https://h/openai/v1", Surface.V1, "/openai/v1/chat/completions"),
        ("https://h", Surface.MODELS, "/models/chat/completions?api-version=2024-05-01-preview"),
        ("https://h/models", Surface.MODELS, "/models/chat/completions?api-version=2024-05-01-preview"),
        ("https://h?api-version=1", Surface.MODELS, "/models/chat/completions?api-version=1"),
        ("https://h", Surface.AZURE, "/openai/deployments/my%20model/chat/completions?api-version=2024-10-21"),
        ("https://h/openai", Surface.AZURE, "/openai/deployments/my%20model/chat/completions?api-version=2024-10-21"),
    ],
)
def test_each_surface_has_its_path(endpoint: str, surface: Surface, expected: str) -> None:
    assert path(urlsplit(endpoint), surface, "my model") == expected


def test_the_request_is_one_head_and_the_body() -> None:
    sent = request(urlsplit("https://h:8443/v1"), "k", Surface.V1, "m", b'{"a": 1}')
    head, _, body = sent.partition(b"\r\n\r\n")
    assert body == b'{"a": 1}'
    assert head.split(b"\r\n")[:3] == [
        b"POST /v1/chat/completions HTTP/1.1",
        b"Host: h:8443",
        b"Authorization: Bearer k",
    ]


@pytest.mark.parametrize("key", ["a b", "a\r\nx: y", "ключ", "\x00"])
def test_a_key_cannot_bring_a_header_of_its_own(key: str) -> None:
    with pytest.raises(typer.Exit):
        request(urlsplit("http://h"), key, Surface.V1, None, b"{}")


def test_a_model_is_in_the_body_or_in_the_path() -> None:
    assert json.loads(payload({}, Surface.V1, "m", stream=False)) == {"model": "m"}
    assert json.loads(payload({}, Surface.AZURE, "m", stream=False)) == {}
    assert json.loads(payload({}, Surface.MODELS, None, stream=True)) == {"stream": True}


def test_a_run_is_bounded_by_what_is_said_or_by_both_defaults() -> None:
    both = bounds(None, None)
    assert (both.requests, both.seconds) == (100, 30.0)
    assert bounds(7, None).requests == 7
    assert bounds(None, 2.5).seconds == 2.5
