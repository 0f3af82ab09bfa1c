"""How commands answer: an exit code with a meaning, a table that reads without colour, or JSON."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Any, NoReturn

import typer

from modelport.cli.tables import GAP, folded, laid_out


def application(**settings: Any) -> typer.Typer:
    """The application of a sub-command. Without rich's markup, which would leave "[env: …]" out of a help text."""
    return typer.Typer(add_completion=False, rich_markup_mode=None, **settings)


class ExitCode(IntEnum):
    """Why a command ended. Scripts rely on the numbers: a new meaning gets a new one."""

    OK = 0
    UNEXPECTED = 1
    """A fault of ours."""
    USAGE = 2
    """Unknown options or arguments (typer's own)."""
    CONFIG_INVALID = 3
    PORT_IN_USE = 4
    """Or any other reason for which the address cannot be listened on."""
    EXTRA_MISSING = 5
    """A package of an extra is not installed."""
    WEIGHTS_MISSING = 6
    UNSAFE_LISTEN = 7
    """Refused: the address is reachable from outside and callers are not told apart."""
    SERVER_UNREACHABLE = 8
    NOT_AUTHORISED = 9
    NOT_FOUND = 10
    """The named deployment, model or key does not exist."""
    DATA_DIR_UNUSABLE = 11
    DOWNLOAD_FAILED = 12
    REQUEST_REFUSED = 13
    """The server answered, and refused."""
    UNBALANCED = 14
    """The journal or the ledger is damaged, or they do not agree."""
    DECLINED = 15
    """A question before a change was answered with no."""
    DISALLOWED = 16
    """Deployments would break a policy that was tested."""
    INTERRUPTED = 130
    """Ctrl-C in a command that had not finished (128 + SIGINT)."""


def fail(code: ExitCode, message: str, remedy: str | None = None) -> NoReturn:
    """Ends the command: one line on standard error that says what is wrong and what to do, and no traceback."""
    sys.stderr.write(f"modelport: {message}{f' ({remedy})' if remedy else ''}\n")
    raise typer.Exit(code)


def confirm(question: str, yes: bool) -> None:
    """Asks on the terminal, unless `yes`; ends the command where the answer is no or cannot be given."""
    if yes:
        return
    if not sys.stdin.isatty():
        fail(ExitCode.USAGE, f"{question} There is no terminal to ask on", "--yes answers")
    sys.stderr.write(f"{question} [y/N] ")  # typer's own writes a part to standard output
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        fail(ExitCode.DECLINED, "nothing was changed")


def write_line(text: str = "") -> None:
    """A line of the command's result, on standard output, as it is."""
    sys.stdout.write(f"{text}\n")


def write_error_line(text: str) -> None:
    """A line about the command's result, on standard error, as it is."""
    sys.stderr.write(f"{text}\n")


def write_json(value: Any) -> None:
    """The result for programs: one JSON document on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Names and values below each other. On a terminal long values go on in the next line; none is cut."""
    found = list(fields)
    width = max((len(name) for name, _ in found), default=0)
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for name, value in found:
        for number, line in enumerate(folded(value, None if columns is None else columns - width - GAP)):
            write_line(f"{'' if number else name:{width}}{' ' * GAP}{line}".rstrip())


def write_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], totals: Iterable[Sequence[object]] = ()
) -> None:
    """Rows under headings. On a terminal it fits; piped, nothing is folded or cut, so that programs can read it."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in laid_out(columns, rows, totals, width):
        write_line(line)
