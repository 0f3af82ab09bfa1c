"""What an import gives: a configuration, and what of the source it does not have."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Imported:
    """`configuration` is in the words of the configuration file. Each note is a place of the source and a sentence."""

    configuration: dict[str, Any] = field(default_factory=lambda: {"providers": {}, "deployments": {}})
    notes: list[tuple[str, str]] = field(default_factory=list)

    def note(self, place: str, what: str) -> None:
        """Something that has no counterpart, or is not what it was."""
        if (place, what) not in self.notes:
            self.notes.append((place, what))


class NotImportable(Exception):
    """The file is no source of this kind; the text says why."""


def variable_for(name: str) -> str:
    """The environment variable that holds the key of something called this."""
    return f"{re.sub(r'[^A-Za-z0-9]+', '_', name).strip('_').upper() or 'UPSTREAM'}_KEY"
