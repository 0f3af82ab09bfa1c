"""How much is kept of a text that a caller or an upstream has chosen: records and errors show its beginning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

EXCERPT_CHARACTERS: Final = 256
"""Longer than any name of a model, deployment or parameter that is in use."""

NAMES_SHOWN: Final = 64
"""Of the names that a caller has sent, an error lists so many."""

MOST_NAMES: Final = 20
"""How many deployments an error lists."""


def excerpt(text: str) -> str:
    """The text, or its beginning and an ellipsis where it is too long."""
    return text if len(text) <= EXCERPT_CHARACTERS else text[:EXCERPT_CHARACTERS] + "…"


def optional_excerpt(text: str | None) -> str | None:
    """The same; None stays None."""
    return None if text is None else excerpt(text)


def enumerated(names: Sequence[str]) -> str:
    """The first names, so many that the list stays short, and how many follow."""
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
