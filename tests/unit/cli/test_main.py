"""The command line as a whole: what it imports, lists and says of a wrong word."""

from __future__ import annotations

import shlex
import subprocess
import sys
from typing import Any

import pytest
from typer.testing import CliRunner

from modelport import __version__
from modelport.cli.main import COMMANDS, app, load

HEAVY = ("aiohttp", "alembic", "cryptography", "modelport.app", "modelport.config", "sqlalchemy", "uvicorn")


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("arguments", [["--version"], ["version"], ["--help"], ["-h"]])
def test_what_runs_no_command_imports_none(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from modelport.cli.main import app\n"
        "try:\n    app(sys.argv[1:])\n"
        f"finally:\n    print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    output = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True).stdout
    assert output.endswith("[]\n")


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
