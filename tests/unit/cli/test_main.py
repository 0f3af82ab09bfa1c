"""The command line as a whole: what it imports, lists and says of a wrong word."""

from __future__ import annotations

import gc
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from modelport import __version__
from modelport.cli.main import COMMANDS, app, load


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result.output


SERVERS = ("aiohttp", "alembic", "asyncio", "cryptography", "numpy", "rich", "sqlalchemy", "uvicorn", "uvloop")
SECTIONS = ("modelport.app", "modelport.config.load", "modelport.config.section", "yaml")
"""The whole configuration: building its classes takes longer than a command that only needs an address and a key."""


def imported(names: tuple[str, ...], *arguments: str) -> str:
    """Which of these modules the command imports, in a process of its own without a server."""
    code = (
        "import sys\n"
        "from modelport.cli.main import app\n"
        "try:\n    app(sys.argv[1:])\n"
        f"finally:\n    print([name for name in {names!r} if name in sys.modules])\n"
    )
    environment = {"PATH": os.environ["PATH"], "MODELPORT_DATA_DIR": "/nowhere"}
    command = [sys.executable, "-c", code, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL)
    assert "Traceback" not in ended.stderr, ended.stderr
    return ended.stdout.splitlines()[-1]


@pytest.mark.parametrize("arguments", [["--version"], ["version"], ["--help"], ["-h"]])
def test_what_runs_no_command_imports_none(arguments: list[str]) -> None:
    assert imported((*SERVERS, "modelport.app", "modelport.config"), *arguments) == "[]"


@pytest.mark.parametrize(
    "arguments",
    [
        ["keys", "show"],
        ["models", "list"],
        ["models", "verify"],
        ["chat"],
        ["usage", "--endpoint", "http://127.0.0.1:9"],
        ["audit", "--endpoint", "http://127.0.0.1:9"],
        ["deployment", "list"],
        ["deployment", "create", "gpt-4o", "--model-name", "gpt-4o"],
        ["keys", "new", "team"],
        ["provider", "delete", "house", "--yes"],
    ],
    ids=" ".join,
)
def test_a_command_that_needs_an_address_and_a_key_builds_no_configuration(arguments: list[str]) -> None:
    assert imported((*SERVERS, *SECTIONS), *arguments) == "[]"


def test_a_file_is_read_without_the_whole_configuration(tmp_path: Path) -> None:
    file = tmp_path / "modelport.yaml"
    file.write_text("server: {port: 4711, limits: {json_depth: 5}}\nauth: {keys: [env:ABSENT]}\ndeployments: {}\n")
    assert imported(SECTIONS, "keys", "show", "--config", str(file)) == "['yaml']"


@pytest.mark.parametrize("arguments", [["check", "--without-secrets"], ["prices", "show"]], ids=" ".join)
def test_reading_the_configuration_imports_nothing_that_serves(arguments: list[str]) -> None:
    assert imported((*SERVERS, "modelport.config.prices"), *arguments) == "[]"


def test_a_report_from_the_database_does_without_metrics() -> None:
    assert imported(("prometheus_client",), "usage") == "[]"


def test_the_collector_runs_rarely_in_a_command_and_as_usual_in_a_server(tmp_path: Path) -> None:
    code = (
        "import gc\nfrom modelport.cli.main import main\ntry:\n    main()\nfinally:\n    print(gc.get_threshold()[0])\n"
    )
    usual = gc.get_threshold()[0]
    for arguments, is_usual in ((["version"], False), (["serve", "--config", str(tmp_path / "absent")], True)):
        ended = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
        assert (int(ended.stdout.splitlines()[-1]) == usual) is is_usual


def test_an_installed_plugin_of_pydantic_sees_no_settings(tmp_path: Path) -> None:
    metadata = tmp_path / "watcher-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: watcher\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[pydantic]\nwatcher = watcher:plugin\n")
    (tmp_path / "watcher.py").write_text("print('the plug-in was loaded')\nplugin = None\n")
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path), "MODELPORT_DATA_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "modelport", "check", "--without-secrets"]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert "plug-in" not in ended.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_listed_with_its_own_help(name: str) -> None:
    assert load(name).get_short_help_str(1000) == COMMANDS[name]
    assert COMMANDS[name] in " ".join(run("--help").split())


def test_the_version_by_three_names() -> None:
    assert run("version") == run("--version") == f"{__version__}\n"


def test_a_wrong_word_is_corrected() -> None:
    result = CliRunner().invoke(app, ["modles"])
    assert result.exit_code == 2
    assert "'models'" in result.output


def leaves() -> list[tuple[tuple[str, ...], Any]]:
    """Every command that does something."""
    found = []
    for name in COMMANDS:
        command = load(name)
        inner = getattr(command, "commands", None)
        found += [
            ((name, *below), leaf)
            for below, leaf in ([((key,), inner[key]) for key in inner] if inner else [((), command)])
        ]
    return found


@pytest.mark.parametrize(
    ("name", "command"), leaves(), ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_every_command_has_an_example_with_its_own_options(name: tuple[str, ...], command: Any) -> None:
    first, _, example = command.help.partition("Example: modelport ")
    assert first.split("\n\n")[0].endswith(".")
    words = shlex.split(example)
    assert tuple(words[: len(name)]) == name
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known
