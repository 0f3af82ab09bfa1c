"""`modelport keys show` and `modelport chat`, against a server that answers from a script."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from modelport.cli.main import app
from modelport.cli.output import ExitCode
from served import KEY, Served

MODEL = {"format": "Custom", "name": "script", "version": "1"}
CONFIG: dict[str, Any] = {
    "deployments": {
        "script": {
            "model": MODEL,
            "provider": {
                "type": "scripted",
                "replies": [
                    {"match": {"contains": "break"}, "text": "one two three", "fault_after_chunks": 1},
                    {"match": {"contains": "poem"}, "chunks": ["Roses ", "are ", "rot."]},
                    {
                        "match": {"contains": "slowly"},
                        "chunks": ["One ", "two "] * 50,
                        "delay_between_chunks_seconds": 1,
                    },
                ],
            },
            "default": True,
        },
        "other": {"model": MODEL, "provider": {"type": "scripted", "replies": [{"text": "the other"}]}},
    }
}


def command(*arguments: str, typed: str = "", **environment: str) -> Result:
    """The command in this process; its variables are the ones given and no other."""
    inherited: dict[str, str | None] = {name: None for name in os.environ if name.startswith("MODELPORT_")}
    ended = CliRunner().invoke(app, arguments, input=typed, env={**inherited, **environment})
    assert isinstance(ended.exception, SystemExit | None)
    return ended


# --- keys ----------------------------------------------------------------------------------------------------------


def test_there_is_no_key_before_the_first_start(data_dir: Path) -> None:
    ended = command("keys", "show", "--data-dir", str(data_dir))
    assert (ended.exit_code, ended.stdout) == (ExitCode.NOT_FOUND, "")
    assert "modelport serve" in ended.stderr


def test_the_key_made_at_the_first_start_is_shown_and_stays(serve: Any, data_dir: Path) -> None:
    keys = []
    for _ in range(2):
        with serve(CONFIG, MODELPORT_API_KEY="") as served:
            ended = command("keys", "show", "--data-dir", str(data_dir))
            assert (ended.exit_code, ended.stderr) == (0, "")
            key = ended.stdout.removesuffix("\n")
            assert served.call("GET", "/v1/models", key=key).status == 200
            keys.append(key)
    assert keys[0] == keys[1]
    (file,) = [path for path in data_dir.iterdir() if path.is_file() and path.read_bytes().strip() == keys[0].encode()]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_key_that_was_set_wins(data_dir: Path) -> None:
    shown = command("keys", "show", MODELPORT_API_KEY="set-from-outside", MODELPORT_DATA_DIR=str(data_dir))
    assert shown.stdout == "set-from-outside\n"


def test_a_configured_key_is_the_first_of_them(tmp_path: Path, data_dir: Path) -> None:
    file = tmp_path / "modelport.yaml"
    file.write_text(yaml.safe_dump({**CONFIG, "auth": {"keys": ["env:FIRST", "env:SECOND"]}}))
    arguments = ("keys", "show", "--config", str(file), "--data-dir", str(data_dir))
    assert command(*arguments, FIRST="first-key", SECOND="second-key").stdout == "first-key\n"
    assert command(*arguments, SECOND="second-key").stdout == "second-key\n"
    assert command(*arguments, SECOND="second-key", MODELPORT_API_KEY="mine").stdout == "mine\n"
    missing = command(*arguments)
    assert (missing.exit_code, missing.stdout) == (ExitCode.NOT_FOUND, "")
    assert "env:FIRST, env:SECOND" in missing.stderr


def test_a_key_in_a_file_is_found_from_a_shell_without_the_servers_other_secrets(
    tmp_path: Path, data_dir: Path
) -> None:
    key = tmp_path / "key"
    key.write_text("kept in a file\n")
    key.chmod(0o600)
    house = {"type": "openai_compatible", "base_url": "http://127.0.0.1:9/v1", "api_key": "env:ABSENT_HERE"}
    file = tmp_path / "modelport.yaml"
    written = {**CONFIG, "auth": {"keys": ["env:ALSO_ABSENT", "file:key"]}, "providers": {"house": house}}
    file.write_text(yaml.safe_dump(written))
    shown = command("keys", "show", "--config", str(file), "--data-dir", str(data_dir))
    assert (shown.exit_code, shown.stdout) == (0, "kept in a file\n")


# --- chat ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(serve_module: Callable[..., Served]) -> Served:
    return serve_module(CONFIG)


def chat(served: Served, *arguments: str, typed: str = "", key: str = KEY) -> Result:
    return command("chat", *arguments, typed=typed, MODELPORT_ENDPOINT=served.url, MODELPORT_API_KEY=key)


def test_one_message_is_answered_and_the_command_ends(served: Served) -> None:
    ended = chat(served, "-m", "a poem, please")
    assert (ended.exit_code, ended.stdout, ended.stderr) == (0, "Roses are rot.\n", "")


def test_a_deployment_can_be_named(served: Served) -> None:
    assert chat(served, "OTHER", "-m", "Hi").stdout == "the other\n"


def test_a_conversation_is_read_line_by_line(served: Served) -> None:
    ended = chat(served, "--system", "Be kind.", typed="a poem\n\nsomething else\n")
    assert ended.exit_code == 0
    assert ended.stdout.splitlines() == ["Roses are rot.", "Hello! You said: something else"]


def test_commands_are_obeyed_and_not_said(served: Served) -> None:
    lines = [
        "/help",
        "/system",
        "/system Be brief.",
        "/system",
        "a poem",
        "/clear",
        "/hepl",
        "//etc is a path",
        "/exit",
        "x",
    ]
    ended = chat(served, typed="\n".join(lines))
    assert ended.exit_code == 0
    told = ended.stdout.splitlines()
    assert any(line.startswith("/clear") for line in told)
    assert told[told.index("There is no system message.") :] == [
        "There is no system message.",
        "The system message is set.",
        "Be brief.",
        "Roses are rot.",
        "The conversation is forgotten.",
        "/hepl is no command; /help lists them.",
        "Hello! You said: /etc is a path",
    ]


def test_an_answer_is_bounded(served: Served) -> None:
    ended = chat(served, "--max-tokens", "2", "-m", "a poem")
    assert ended.exit_code == 0
    assert len(ended.stdout) < len("Roses are rot.\n")
    assert "--max-tokens" in ended.stderr


def listen_to_ctrl_c() -> None:
    """Also where these tests are a background job, which ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Terminal:
    """`modelport chat` on a terminal of its own."""

    def __init__(self, served: Served, data_dir: Path) -> None:
        self.here, there = pty.openpty()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MODELPORT_")}
        variables = {
            "MODELPORT_ENDPOINT": served.url,
            "MODELPORT_API_KEY": KEY,
            "MODELPORT_DATA_DIR": str(data_dir),
            "TERM": "dumb",
        }
        command = [sys.executable, "-m", "modelport", "chat"]
        self.process = subprocess.Popen(
            command,
            stdin=there,
            stdout=there,
            stderr=there,
            env={**inherited, **variables},
            preexec_fn=listen_to_ctrl_c,
        )
        os.close(there)
        self.seen = ""

    def until(self, words: str) -> str:
        """What has been printed since the last time, up to these words."""
        while words not in self.seen:
            ready, _, _ = select.select([self.here], [], [], 60)
            assert ready, f"{words!r} never came: {self.seen}"
            self.seen += os.read(self.here, 65536).decode()
        told, _, self.seen = self.seen.partition(words)
        return told + words

    def type(self, line: str) -> None:
        os.write(self.here, f"{line}\n".encode())


def test_ctrl_c_stops_an_answer_and_not_the_program(served: Served, tmp_path: Path) -> None:
    data_dir = tmp_path / "of the client"
    data_dir.mkdir()
    terminal = Terminal(served, data_dir)
    try:
        assert "/help" in terminal.until("> ")
        terminal.type("a poem")
        assert re.search(r"Roses are rot\.\s+\[\d+ tokens, [\d.]+ tokens/s\]", terminal.until("tokens/s]"))
        terminal.until("> ")
        terminal.type("now slowly")
        terminal.until("One ")
        terminal.process.send_signal(signal.SIGINT)
        terminal.until("[stopped]")
        terminal.until("> ")
        terminal.type("break it")
        terminal.until("modelport: ")
        terminal.until("> ")
        terminal.process.send_signal(signal.SIGINT)
        # A signal between the prompt and the wait for a key is noticed with the next one.
        while not select.select([terminal.here], [], [], 5)[0]:
            terminal.process.send_signal(signal.SIGINT)
        terminal.until("> ")
        terminal.type("/exit")
        assert terminal.process.wait(60) == 0
    finally:
        terminal.process.kill()
        terminal.process.wait()
        os.close(terminal.here)
    history = data_dir / "chat-history"
    assert "a poem" in history.read_text()
    assert stat.S_IMODE(history.stat().st_mode) == 0o600


def test_an_unknown_deployment_is_the_servers_own_words(served: Served) -> None:
    ended = chat(served, "nowhere", "-m", "Hi")
    assert ended.exit_code == ExitCode.REQUEST_REFUSED
    assert "does not exist" in ended.stderr


def test_a_wrong_key_is_named(served: Served) -> None:
    ended = chat(served, "-m", "Hi", key="a-wrong-key")
    assert ended.exit_code == ExitCode.NOT_AUTHORISED
    assert "a-wrong-key" not in ended.stderr


def test_an_answer_that_breaks_off_is_no_success(served: Served) -> None:
    ended = chat(served, "-m", "break it")
    assert ended.exit_code == ExitCode.REQUEST_REFUSED
    assert ended.stdout.startswith("one")
    assert ended.stderr.startswith("modelport: ")


def test_no_server_is_one_line(free_port: int, data_dir: Path) -> None:
    ended = command(
        "chat", "-m", "Hi", MODELPORT_ENDPOINT=f"http://127.0.0.1:{free_port}", MODELPORT_DATA_DIR=str(data_dir)
    )
    assert ended.exit_code == ExitCode.SERVER_UNREACHABLE
    assert f"127.0.0.1:{free_port}" in ended.stderr
    assert "modelport serve" in ended.stderr


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["chat", "--help"], ["models", "--help"]])
def test_help_and_version_need_nothing(arguments: list[str]) -> None:
    ended = CliRunner().invoke(app, arguments)
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert ended.stdout


def test_no_command_shows_what_there_is() -> None:
    assert "serve" in CliRunner().invoke(app, []).output
    assert CliRunner().invoke(app, ["srve"]).exit_code == ExitCode.USAGE
