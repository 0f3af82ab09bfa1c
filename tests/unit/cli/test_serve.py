"""`modelport serve` as a process: what it prints, and how it ends when it cannot start."""

from __future__ import annotations

import http.client
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests import warm_start
from typer.testing import CliRunner

from modelport.cli.main import app
from modelport.cli.output import ExitCode
from served import KEY, Served, eventually, lend_database, until

MODEL = {"format": "Custom", "name": "script", "version": "1"}
SCRIPTED: dict[str, Any] = {"deployments": {"script": {"model": MODEL, "provider": {"type": "scripted"}}}}
Start = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def start(tmp_path: Path, data_dir: Path) -> Start:
    """Runs `modelport serve` to its end; for starts that fail."""

    def run(config: Any = SCRIPTED, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        file = tmp_path / "modelport.yaml"
        if isinstance(config, bytes):
            file.write_bytes(config)
        elif config is not None:
            file.write_text(config if isinstance(config, str) else yaml.safe_dump(config))
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MODELPORT_")}
        environ = {**inherited, "MODELPORT_DATA_DIR": str(data_dir), "MODELPORT_API_KEY": KEY, **environment}
        return warm_start.run(["serve", "--config", str(file), "--port", "0", *arguments], environ)

    return run


def refused(ended: subprocess.CompletedProcess[str], code: ExitCode, *words: str) -> None:
    """One line, the words in it, nothing of Python's, and the code that says why."""
    assert ended.returncode == code, ended.stderr
    assert ended.stdout == ""
    lines = ended.stderr.strip().splitlines()
    assert lines[0].startswith("modelport: ")
    assert "Traceback" not in ended.stderr
    assert KEY not in ended.stderr
    for word in words:
        assert word in ended.stderr


def test_a_port_in_use(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = start(SCRIPTED, "--port", port)
    refused(ended, ExitCode.PORT_IN_USE, f"127.0.0.1:{port}", "in use", "--port")


def test_an_address_that_is_not_ours(start: Start) -> None:
    refused(start(SCRIPTED, "--host", "192.0.2.1"), ExitCode.PORT_IN_USE, "192.0.2.1")


def test_a_host_that_is_no_address(start: Start) -> None:
    ended = start(SCRIPTED, "--host", "no such host")
    assert ended.returncode in (ExitCode.PORT_IN_USE, ExitCode.CONFIG_INVALID)
    assert "Traceback" not in ended.stderr


def test_a_configuration_that_is_not_there(start: Start) -> None:
    refused(start(None), ExitCode.CONFIG_INVALID, "modelport.yaml")


@pytest.mark.parametrize(
    "text",
    [
        b"deployments: [",
        b"\xff\xfe\x00",
        b"just a word",
        b"- a\n- list",
        b"a: &x [*x]",
        b"deployments: {a: 1}\n",
        b"\0",
    ],
)
def test_a_configuration_that_cannot_be_read(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "modelport.yaml"
    file.write_bytes(text)
    ended = CliRunner().invoke(app, ["serve", "--config", str(file)])
    assert ended.exit_code == ExitCode.CONFIG_INVALID
    assert ended.stderr.startswith(f"modelport: {file}")
    assert ended.stdout == ""


def test_a_configuration_with_faults_names_line_and_key(start: Start) -> None:
    text = yaml.safe_dump({**SCRIPTED, "servr": {}}, sort_keys=False)
    line = text.splitlines().index("servr: {}") + 1
    refused(start(text), ExitCode.CONFIG_INVALID, f"modelport.yaml:{line}: servr", "server")


def test_a_configuration_that_is_a_folder(start: Start, tmp_path: Path) -> None:
    ended = start(None, "--config", str(tmp_path))
    refused(ended, ExitCode.CONFIG_INVALID, str(tmp_path))


def test_a_script_that_cannot_be_read(start: Start, tmp_path: Path) -> None:
    script = tmp_path / "replies.yaml"
    script.write_text("replies: [{txt: Hello}]")
    provider = {"type": "scripted", "script": str(script)}
    ended = start({"deployments": {"script": {"model": MODEL, "provider": provider}}})
    refused(ended, ExitCode.CONFIG_INVALID, "txt")


def test_a_profile_that_says_something_impossible(start: Start) -> None:
    deployment = {"model": MODEL, "provider": {"type": "scripted"}, "profile": {"tols": "supported"}}
    refused(start({"deployments": {"script": deployment}}), ExitCode.CONFIG_INVALID, "script", "tols")


def test_weights_that_are_not_here(start: Start) -> None:
    deployment = {"model": {"format": "Alibaba", "name": "qwen2.5-coder-1.5b", "version": "1"}}
    ended = start({"deployments": {"coder": deployment}})
    refused(ended, ExitCode.WEIGHTS_MISSING, "`modelport models pull qwen2.5-coder-1.5b && modelport serve --model")


def test_a_model_by_flag_that_is_not_here(start: Start) -> None:
    ended = start("{}", "--model", "qwen2.5-coder-1.5b")
    commands = "`modelport models pull qwen2.5-coder-1.5b && modelport serve --model qwen2.5-coder-1.5b`"
    refused(ended, ExitCode.WEIGHTS_MISSING, commands)


def test_a_model_by_flag_that_nobody_knows(start: Start) -> None:
    refused(start("{}", "--model", "qwen9"), ExitCode.CONFIG_INVALID, "--model", "'qwen9'", "`modelport models list`")


def test_a_model_by_flag_beside_another_default(start: Start) -> None:
    deployment = {"model": MODEL, "provider": {"type": "scripted"}, "default": True}
    ended = start({"deployments": {"script": deployment}}, "--model", "smollm2-135m-instruct")
    refused(ended, ExitCode.CONFIG_INVALID, "--model", "'script' is the default already")


def test_weights_of_ones_own_that_are_not_there(start: Start, tmp_path: Path) -> None:
    provider = {"type": "llama_cpp", "weights": str(tmp_path / "none.gguf")}
    ended = start({"deployments": {"mine": {"model": MODEL, "provider": provider}}})
    refused(ended, ExitCode.WEIGHTS_MISSING, "mine", "none.gguf")


def test_no_configuration_and_no_weights_names_the_command_that_gets_them(start: Start) -> None:
    ended = start("{}")
    refused(ended, ExitCode.WEIGHTS_MISSING, "`modelport models pull default`")


def test_everybody_on_an_address_that_others_reach(start: Start) -> None:
    open_to_all = {**SCRIPTED, "auth": {"anonymous": True}}
    refused(start(open_to_all, "--host", "0.0.0.0"), ExitCode.UNSAFE_LISTEN, "0.0.0.0", "anonymous")


def test_a_generated_key_on_an_address_that_others_reach(start: Start) -> None:
    ended = start(SCRIPTED, "--host", "0.0.0.0", MODELPORT_API_KEY="")
    refused(ended, ExitCode.UNSAFE_LISTEN, "0.0.0.0", "MODELPORT_API_KEY")


def test_a_data_directory_that_cannot_be_used(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    refused(start(SCRIPTED, "--data-dir", str(file / "below")), ExitCode.DATA_DIR_UNUSABLE, str(file))


def test_a_journal_that_cannot_be_written(start: Start, data_dir: Path) -> None:
    (data_dir / "journal").write_text("no folder")
    refused(start(SCRIPTED), ExitCode.DATA_DIR_UNUSABLE, str(data_dir / "journal"))


def test_a_content_filter_that_does_not_exist(start: Start) -> None:
    server = {"default_content_filter": "Microsoft.Defaults"}
    refused(start({**SCRIPTED, "server": server}), ExitCode.CONFIG_INVALID, "did you mean 'Microsoft.Default'?")


def test_a_filter_that_is_not_installed(start: Start) -> None:
    config = {**SCRIPTED, "content_filters": {"far": {"filters": ["azure_content_safety"]}}}
    config["server"] = {"default_content_filter": "far"}
    refused(start(config), ExitCode.CONFIG_INVALID, "server.default_content_filter: the filter 'azure_content_safety'")


def test_an_option_that_is_none() -> None:
    ended = CliRunner().invoke(app, ["serve", "--prot", "1"])
    assert ended.exit_code == ExitCode.USAGE
    assert "--port" in ended.stderr


# --- a start that works --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(serve_module: Callable[..., Served]) -> Served:
    return serve_module({**SCRIPTED, "auth": {"keys": ["env:MODELPORT_API_KEY"]}})


def printed(served: Served) -> str:
    """What it has told on standard output so far, up to the last call to paste."""
    assert served.process.stdout is not None
    lines = [served.first_line]
    while lines.count("EOF\n") < 2:
        lines.append(served.process.stdout.readline().decode())
    return "".join(lines)


def test_the_start_tells_where_it_listens_what_is_deployed_and_calls_that_work_as_pasted(served: Served) -> None:
    told = printed(served)
    assert re.match(r"modelport \d+\.\d+\.\d+ listens on http://127\.0\.0\.1:\d+\n", told)
    assert re.search(r"^  script +script +ready", told, re.MULTILINE)
    assert KEY not in told
    assert "read -rs MODELPORT_API_KEY && export MODELPORT_API_KEY" in told
    run_as_pasted(told, {"MODELPORT_API_KEY": KEY})
    without = subprocess.run(["sh", "-c", curl_of(told)], capture_output=True, text=True, env=bare(), timeout=60)
    assert (without.returncode, without.stdout) != (0, "")
    assert "MODELPORT_API_KEY" in without.stderr


@pytest.mark.parametrize("given", ["file", "variable", "generated"])
def test_the_calls_work_in_a_shell_that_has_nothing_of_the_servers_environment(
    serve: Any, data_dir: Path, given: str
) -> None:
    kept = data_dir.parent / "kept key"
    kept.write_text("kept in a file\n")
    kept.chmod(0o600)
    upstream = {"type": "openai_compatible", "base_url": "http://127.0.0.1:9/v1", "api_key": "env:OF_THE_SERVER"}
    keys = {"file": ["file:kept key"], "variable": ["env:HOUSE_KEY"], "generated": []}[given]
    config = {**SCRIPTED, "providers": {"up": upstream}, "auth": {"keys": keys}}
    variables = {"MODELPORT_API_KEY": "", "OF_THE_SERVER": "u", "HOUSE_KEY": "in a variable"}
    with serve(config, **variables) as served:
        told = printed(served)
        set_first = {"HOUSE_KEY": "in a variable"} if given == "variable" else {}
        assert ("HOUSE_KEY" in told) == (given == "variable")
        run_as_pasted(told, set_first)


def curl_of(told: str) -> str:
    found = re.search(r"^curl .*\\\n.*$", told, re.MULTILINE)
    assert found is not None
    return found[0]


def bare(**variables: str) -> dict[str, str]:
    """A shell's environment in which the programs of this one are found, and nothing else."""
    beside = str(Path(sys.executable).parent)
    return {"HOME": os.environ.get("HOME", "/"), "PATH": f"{beside}:{os.environ['PATH']}", **variables}


def run_as_pasted(told: str, variables: dict[str, str]) -> None:
    """Runs the calls, in a directory that is not the server's."""
    snippets = re.findall(r"^MODELPORT_API_KEY=.*?^EOF$", told, re.MULTILINE | re.DOTALL)
    assert len(snippets) == 2
    for snippet in [curl_of(told), *snippets]:
        done = subprocess.run(
            ["sh", "-c", snippet], capture_output=True, text=True, env=bare(**variables), timeout=60, cwd="/"
        )
        assert done.returncode == 0, done.stderr
        assert "Name three colours." in done.stdout


def test_an_h2c_upgrade_is_answered_as_http_1_1(served: Served) -> None:
    body = b'{"messages":[{"role":"user","content":"Hi"}]}'
    head = served.head("POST", "/models/chat/completions", len(body))
    upgrade = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n"
    with served.connect() as connection:
        connection.sendall(head[:-2] + upgrade + body)
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert response.status == 200
        assert b"Hi" in response.read()


def test_two_servers_can_share_a_data_directory(serve: Any) -> None:
    with serve(SCRIPTED) as one, serve(SCRIPTED) as other:
        assert one.address != other.address
        assert one.chat().status == other.chat().status == 200
        assert len(one.journal()) == 2
        eventually(lambda: one.stderr().count("completed") == 2, "the access lines of both")
        said = f"warning: another modelport (process {one.process.pid}) serves from {one.data_dir}"
        assert one.stderr().count(said) == 1


def test_the_end_is_told_and_what_it_waits_for(serve: Any) -> None:
    slow = {"type": "scripted", "replies": [{"text": "late", "delay_seconds": 3}]}
    body = {"messages": [{"role": "user", "content": "Hi"}]}
    with (
        serve({"deployments": {"script": {"model": MODEL, "provider": slow}}}) as served,
        served.connect() as connection,
    ):
        printed(served)
        connection.sendall(served.request("/models/chat/completions", body))
        running = {"operation": "chat_completions"}
        eventually(lambda: served.metric("modelport_calls_in_flight", **running) == 1, "the call runs")
        served.terminate()
        eventually(lambda: "stopping: 1 running calls" in served.stderr(), "what it waits for")
        assert b"late" in until(connection, b"late")
        assert served.process.stdout is not None
        assert served.process.stdout.read().endswith(b"modelport has stopped\n")


def test_the_tiny_default_is_called_what_it_is(weights: Path, data_dir: Path, serve: Any) -> None:
    (data_dir / "models").symlink_to(weights / "models")
    with serve("{}") as served:
        printed(served)
        assert served.process.stdout is not None
        told = [served.process.stdout.readline().decode() for _ in range(4)]
    assert "tiny test model" in told[1]
    assert told[2] == "#   modelport models pull qwen2.5-coder-0.5b && modelport serve --model qwen2.5-coder-0.5b\n"


@pytest.mark.parametrize("by", ["flags", "environment"])
def test_flags_and_environment_say_the_same(serve: Any, data_dir: Path, free_port: int, by: str) -> None:
    file = data_dir.parent / "own.yaml"
    file.write_text(yaml.safe_dump(SCRIPTED))
    lend_database(data_dir)  # or its end would wait for the migrations
    port, nothing = str(free_port), ("--default-content-filter", "Microsoft.Nill")
    given = (
        (
            ["--port", port, "--data-dir", str(data_dir), "--config", str(file), "--log-level", "error", *nothing],
            {},
        )
        if by == "flags"
        else (
            [],
            {
                "MODELPORT_PORT": port,
                "MODELPORT_DATA_DIR": str(data_dir),
                "MODELPORT_CONFIG": str(file),
                "MODELPORT_LOG_LEVEL": "error",
                "MODELPORT_DEFAULT_CONTENT_FILTER": "Microsoft.Nill",
            },
        )
    )
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MODELPORT_")}
    command = [sys.executable, "-m", "modelport", "serve", *given[0]]
    with subprocess.Popen(
        command, env={**inherited, **given[1]}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().endswith(f"http://127.0.0.1:{port}\n")
            assert (data_dir / "journal").is_dir()
        finally:
            process.terminate()
            _, stderr = process.communicate()
    assert (process.returncode, stderr) == (0, "")


def test_help_names_every_option_and_its_variable() -> None:
    done = CliRunner().invoke(app, ["serve", "--help"])
    told = " ".join(done.stdout.split())
    for name in (
        "config",
        "host",
        "port",
        "data-dir",
        "tls-self-signed",
        "tls-cert",
        "tls-key",
        "log-level",
        "default-content-filter",
    ):
        assert f"--{name}" in told
        assert f"[env: MODELPORT_{name.upper().replace('-', '_')}]" in told
