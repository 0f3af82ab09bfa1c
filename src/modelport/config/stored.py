"""The control plane's objects, laid over the data of the file: from there on both are validated in the same way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from modelport.config.faults import Path

STORED: Final = "control plane"
"""What a fault in a stored object names as its source."""
SECTIONS: Final = (
    *("providers", "models", "deployments", "projects", "keys", "policies", "role_assignments"),
    *("content_filters", "blocklists"),
)
"""Sections that stored objects are laid into. `models` is a list, the others are mappings by name."""


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """One object: `section` and `name` say where it belongs; secrets in `body` are of the type Secret."""

    section: str
    name: str
    body: Mapping[str, Any]


def lay_stored(data: dict[str, Any], entries: Iterable[StoredEntry]) -> dict[Path, StoredEntry]:
    """Adds the entries, copying what they are added to; where each of them stands. What the file has under the same
    name stays."""
    places: dict[Path, StoredEntry] = {}
    copied: dict[str, Any] = {}
    taken: dict[str, set[str]] = {}
    for entry in entries:
        section = entry.section
        if section not in copied:
            copied[section] = data[section] = _copy(section, data.get(section))
            known = copied[section]
            taken[section] = {str(name).lower() for name in known} if isinstance(known, dict) else set()
        into = copied[section]
        if isinstance(into, list):
            places[section, len(into)] = entry
            into.append(dict(entry.body))
        elif isinstance(into, dict) and entry.name.lower() not in taken[section]:
            taken[section].add(entry.name.lower())
            places[section, entry.name] = entry
            into[entry.name] = dict(entry.body)
    return places


def _copy(section: str, value: Any) -> Any:
    if value is None:
        return [] if section == "models" else {}
    return list(value) if isinstance(value, list) else dict(value) if isinstance(value, Mapping) else value
