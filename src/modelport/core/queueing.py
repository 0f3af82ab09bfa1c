"""The end of a wait for a target that has not begun."""

from __future__ import annotations

from typing import Final

from modelport.core.errors import Unavailable

RETRY_SECONDS: Final = 10


def queued_too_long(seconds: float) -> Unavailable:
    """The target has not begun: its model was still loading, or all its slots were taken."""
    text = f"The model did not begin within {seconds:g} s: the call waited in its queue. Please try again later."
    return Unavailable(text, code="NoCapacity", retry_after=RETRY_SECONDS)
