"""Where a model's reasoning goes: into the content between `<think>` marks, or into a field of its own."""

from __future__ import annotations

from typing import Literal

ReasoningPlace = Literal["inline", "field"]

_FIRST_FIELD_VERSION = "2025-04-01"


def reasoning_place(api_version: str | None) -> ReasoningPlace:
    """By `api-version`: a dated one before 2025-04-01, or none, is too old to know the field."""
    if api_version is None:
        return "inline"
    if not api_version[:4].isdigit():
        return "field"
    return "field" if api_version[:10] >= _FIRST_FIELD_VERSION else "inline"


OPEN_THINKING = "<think>\n"
CLOSE_THINKING = "\n</think>\n\n"


def with_thinking(reasoning: str | None, content: str | None) -> str | None:
    """The content with the reasoning in front of it, as a stream's deltas would add up."""
    if not reasoning:
        return content
    return f"{OPEN_THINKING}{reasoning}{CLOSE_THINKING}{content or ''}"
