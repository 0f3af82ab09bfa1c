"""What the gateway needs of whoever chooses targets."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from modelport.core.catalog import Target
from modelport.core.errors import ModelportError


class Send(Struct, frozen=True):
    """Ask this target now."""

    target: Target


class Wait(Struct, frozen=True):
    """Ask again at this moment of the monotonic clock."""

    until: float


class GiveUp(Struct, frozen=True):
    """No target is left to try."""

    error: ModelportError


class TargetFailed(Struct, frozen=True):
    """What came of a Send, before its first event."""

    target: Target
    error: ModelportError


Step = Send | Wait | GiveUp


class Dispatch(Protocol):
    """A clockless state machine: which target is asked, in which order, and when to stop trying."""

    def next(self, outcome: TargetFailed | None, now: float) -> Step:
        """The next step; `outcome` is None at the start. `now` is the monotonic clock's."""
        ...
