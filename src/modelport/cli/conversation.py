"""The conversation that `modelport chat` holds: turns, commands, and what a person on a terminal sees besides."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import typer

HISTORY_LINES = 1000
HELP = """\
/system TEXT   set the system message; without TEXT, show it
/clear         forget the conversation, but not the system message
/help          show this
/exit          end, like Ctrl-D
Ctrl-C stops an answer. A line that begins with // is sent with one / less."""


class Answer(Protocol):
    """One answer as it comes. `finish_reason` and `tokens` are None until the server has said them."""

    finish_reason: str | None
    tokens: int | None

    def __iter__(self) -> Iterator[str]:
        """The pieces of its text. Ends the command (typer.Exit) on every failure, after a line that says why."""
        ...

    def close(self) -> None:
        """Hangs up, so that the server stops the work."""
        ...


class Conversation:
    """Turns with one deployment. `ask` sends the messages."""

    def __init__(self, ask: Callable[[list[dict[str, Any]]], Answer], system: str | None, *, interactive: bool) -> None:
        self._ask = ask
        self._system = system
        self._turns: list[dict[str, Any]] = []
        self._interactive = interactive

    def say(self, text: str) -> None:
        """One turn. On a terminal, an answer that fails or is stopped does not end the conversation."""
        self._turns.append({"role": "user", "content": text})
        try:
            said = self._answered()
        except typer.Exit:
            self._turns.pop()
            if not self._interactive:
                raise
        else:
            self._turns.append({"role": "assistant", "content": said})

    def _answered(self) -> str:
        system = [{"role": "system", "content": self._system}] if self._system else []
        answer = self._ask([*system, *self._turns])
        said, began = "", 0.0
        try:
            for piece in answer:
                began = began or time.monotonic()
                said += piece
                write(piece)
        except KeyboardInterrupt:
            if not self._interactive:
                raise
            write("\n[stopped]\n")
            return said
        except typer.Exit:
            write("\n" if said and self._interactive else "")
            raise
        finally:
            answer.close()
        write("\n")
        if self._interactive:
            write(f"{ending(answer, time.monotonic() - began)}\n")
        elif answer.finish_reason == "length":
            sys.stderr.write("modelport: the answer is cut at its limit (--max-tokens)\n")
        return said

    def obey(self, line: str) -> bool | None:
        """Carries out a command; True: the conversation is over, None: the line is no command."""
        name, _, rest = line.strip().partition(" ")
        match name:
            case "/exit" | "/quit":
                return True
            case "/help":
                write(f"{HELP}\n")
            case "/clear":
                self._turns.clear()
                write("The conversation is forgotten.\n")
            case "/system" if rest.strip():
                self._system = rest.strip()
                write("The system message is set.\n")
            case "/system":
                write(f"{self._system or 'There is no system message.'}\n")
            case _ if name.startswith("/") and name[1:].isalpha() and not rest:
                write(f"{name} is no command; /help lists them.\n")
            case _:
                return None
        return False


def ending(answer: Answer, seconds: float) -> str:
    """What a person sees below an answer: its length, its speed, and whether it is cut."""
    parts = []
    if answer.tokens is not None:
        parts.append(f"{answer.tokens} tokens")
        if answer.tokens > 1 and seconds > 0:
            parts.append(f"{answer.tokens / seconds:.1f} tokens/s")
    if answer.finish_reason == "length":
        parts.append("cut at its limit: --max-tokens allows more")
    elif answer.finish_reason not in (None, "stop"):
        parts.append(f"ended by {answer.finish_reason}")
    return f"[{', '.join(parts)}]" if parts else ""


def typed(history: Path | None) -> Iterator[str]:
    """The lines that a person types, until the end of input. Ctrl-C forgets the line. `history`: where lines are kept
    for the next time; None: this is no terminal."""
    if history is not None:
        remember_in(history)
    while True:
        try:
            line = input("> " if history is not None else "")
        except EOFError:
            write("\n" if history is not None else "")
            return
        except KeyboardInterrupt:
            if history is None:
                raise
            write("\n(/exit or Ctrl-D ends)\n")
            continue
        if line.strip():
            yield line


def remember_in(history: Path) -> None:
    """Arrow keys find earlier lines, also those of earlier conversations. Only the owner can read the file."""
    try:
        import readline
    except ImportError:
        return
    with suppress(OSError):
        readline.read_history_file(history)
    readline.set_history_length(HISTORY_LINES)

    def write_back() -> None:
        with suppress(OSError):
            history.touch(mode=0o600)
            readline.write_history_file(history)

    import atexit

    atexit.register(write_back)


def write(text: str) -> None:
    """At once: an answer is read while it comes."""
    sys.stdout.write(text)
    sys.stdout.flush()
