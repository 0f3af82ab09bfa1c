"""What is wrong with a configuration, in words that an operator can act on. Knows neither YAML nor pydantic."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

Path = tuple[str | int, ...]
"""The place of a value in the settings tree: keys, and indexes of lists."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong. `source` is a file, a variable of the environment or a flag."""

    source: str
    line: int | None
    key: str
    what: str

    def __str__(self) -> str:
        place = self.source if self.line is None else f"{self.source}:{self.line}"
        return ": ".join(part for part in (place, self.key, self.what) if part)


class ConfigError(Exception):
    """The configuration cannot be used; `faults` is never empty, in the order of the file."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


def dotted(path: Path) -> str:
    """A path as people write it: `deployments.Mistral-large.targets[0].weight`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + printable(part)
    return text


def printable(text: str, limit: int = 80) -> str:
    """Text that is safe on a terminal and in a log line: no control characters, bounded length."""
    shown = text if text.isprintable() and text else repr(text)
    return shown if len(shown) <= limit else shown[:limit] + "…"
