"""What the vocabulary knows and this version does not do yet. A feature that lands deletes its row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from modelport.config.faults import Path
from modelport.config.section import shown


@dataclass(frozen=True, slots=True)
class NotLanded:
    """Values at `place` other than the neutral ones are refused. `*` stands for any key or index."""

    place: str
    neutral: tuple[Any, ...]
    feature: str
    remedy: str
    is_secret: bool = False


NOT_LANDED: Final = (NotLanded("telemetry.otlp_endpoint", (), "trace export is", "remove it"),)


def refusals(data: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """The places in raw data whose value needs a feature that has not landed, and what to say. `null` is neutral."""
    for row in NOT_LANDED:
        for path, value in _found(data, tuple(row.place.split(".")), ()):
            if value is None or any(_same(value, neutral) for neutral in row.neutral):
                continue
            said = "" if row.is_secret else f"{shown(value)}: "
            yield path, f"{said}{row.feature} not available in this version; {row.remedy}"


def _found(value: Any, place: tuple[str, ...], path: Path) -> Iterator[tuple[Path, Any]]:
    if not place:
        yield path, value
    elif isinstance(value, Mapping):
        for key in value if place[0] == "*" else [place[0]] if place[0] in value else []:
            yield from _found(value[key], place[1:], (*path, key))


def _same(value: Any, neutral: Any) -> bool:
    if isinstance(neutral, int):
        return str(value) in (str(neutral), f"{neutral}.0")
    return type(value) is type(neutral) and bool(value == neutral)
