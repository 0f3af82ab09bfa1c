"""Engine or provider: which target is asked, in which order, and when to stop. Clockless and without I/O."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from modelport.core.catalog import Target
from modelport.core.errors import ModelportError, Unavailable, UpstreamTimedOut
from modelport.core.limit_errors import RateLimited
from modelport.core.ports.dispatch import GiveUp, Send, Step, TargetFailed

# Another target may do better after these; anything else is the caller's own or everybody's.
RETRYABLE = (Unavailable, UpstreamTimedOut, RateLimited)


def ordered(targets: Sequence[Target], random: Random) -> list[Target]:
    """By priority; within one, drawn by weight."""
    keyed = [(target.priority, -(random.random() ** (1.0 / max(target.weight, 1))), target) for target in targets]
    return [target for _, _, target in sorted(keyed, key=lambda entry: entry[:2])]


class InOrder:
    """Each target once; the next only if the one before failed as another may not, and before its first event."""

    def __init__(self, targets: Sequence[Target], random: Random) -> None:
        self._left = ordered(targets, random) if len(targets) > 1 else list(targets)

    def next(self, outcome: TargetFailed | None, now: float) -> Step:
        """core.ports.dispatch.Dispatch"""
        if outcome is not None and not (isinstance(outcome.error, RETRYABLE) and self._left):
            return GiveUp(outcome.error)
        if not self._left:
            return GiveUp(no_target())
        return Send(self._left.pop(0))


def no_target() -> ModelportError:
    """A deployment without a target cannot be configured; this is the last net."""
    return Unavailable("No target can answer for this deployment.", code="NoCapacity")
