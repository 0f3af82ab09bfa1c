"""What a call's record keeps of its content filter: categories and severities, never the text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from modelport.core.events import Annotation

WORST_LAST: Final = ("low", "medium", "high")


class FoundCategories:
    """The categories that were found in one call, each with its worst severity."""

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: dict[str, tuple[str, bool]] = {}

    def note(self, annotation: Annotation) -> None:
        """Adds what an annotation says."""
        self.add("prompt" if annotation.choice is None else "completion", annotation.results)

    def add(self, side: str, results: Mapping[str, Any]) -> None:
        """Adds `content_filter_results` of a prompt or a completion."""
        for category, severity, is_filtered in found_in(results):
            name = f"{side}.{category}"
            known, was_filtered = self._found.get(name, ("", False))
            worse = max(known, severity, key=lambda level: WORST_LAST.index(level) if level in WORST_LAST else -1)
            self._found[name] = worse, is_filtered or was_filtered

    def __str__(self) -> str:
        """`prompt.violence=medium! prompt.jailbreak`, in which `!` marks what was filtered."""
        return " ".join(
            f"{name}{'=' if severity else ''}{severity}{'!' if is_filtered else ''}"
            for name, (severity, is_filtered) in self._found.items()
        )


def found_in(results: Mapping[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """Category, severity (empty where it has none), and whether it was filtered; nothing of what is safe."""
    for category, result in results.items():
        if not isinstance(result, Mapping):
            continue
        is_filtered = result.get("filtered") is True
        severity = result.get("severity", "")
        if category == "error" or is_filtered or result.get("detected") or severity not in ("", "safe"):
            yield category, severity, is_filtered
