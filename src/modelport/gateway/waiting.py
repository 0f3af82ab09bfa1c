"""The queue of calls that wait for room: bounded, fair between callers, running answers before new calls and
interactive calls before batch ones.

Callers share by weight: each call's turn comes when its caller has had as much as everybody else (start-time fair
queueing, in tokens). Nobody overtakes the first one that waits for the same limit, so that small calls do not starve a
large one. Whoever's time is up is refused with the time that is honest then.
"""

from __future__ import annotations

import asyncio
from bisect import insort
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final

from msgspec import Struct

from modelport.core.clock import Clock
from modelport.core.errors import InternalError
from modelport.core.ports.quota import Quota, QuotaRefusal
from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.core.queueing import queued_too_long

WAITING_CALLS: Final = 1024
WAITING_CALLS_OF_ONE_CALLER: Final = 256
LOOK_SECONDS: Final = 0.25
"""How often room is looked for that nobody tells of: what time frees, or another process."""

RUNNING, INTERACTIVE, BATCH = range(3)
"""Who goes first: an answer that is under way, then calls that somebody waits for, then those that nobody does."""


class Denied(Struct, frozen=True):
    """No room at `subject`."""

    subject: str
    refusal: QuotaRefusal


class Turn(Struct, frozen=True):
    """Whose turn it is, and what it costs."""

    caller: str
    weight: int = 1
    rank: int = INTERACTIVE
    cost: int = 1


class Waiter:
    """One call in the queue. `attempt` takes what it waits for or says Denied; `undo` gives it back."""

    __slots__ = ("attempt", "number", "outcome", "start", "subjects", "turn", "undo", "until")

    def __init__(
        self,
        attempt: Callable[[], Any],
        undo: Callable[[Any], None],
        subjects: tuple[str, ...],
        turn: Turn,
        until: float,
        outcome: asyncio.Future[Any],
    ) -> None:
        self.attempt = attempt
        self.undo = undo
        self.subjects = subjects
        self.turn = turn
        self.until = until
        self.outcome = outcome
        self.start = 0.0
        self.number = 0

    def key(self) -> tuple[int, float, int]:
        """Where it stands."""
        return self.turn.rank, self.start, self.number


class FairQueue:
    """One per process. Costs nothing while nobody waits."""

    def __init__(self, quota: Quota, clock: Clock) -> None:
        self._quota = quota
        self._clock = clock
        self.waiters: list[Waiter] = []
        """For others to see whether there are any."""
        self._subjects: dict[str, int] = {}
        self._callers: dict[str, int] = {}
        self._finishes: dict[str, float] = {}
        self._virtual = 0.0
        self._number = 0
        self._stirred = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self.waiters)

    def is_waited_for(self, subjects: Iterable[str]) -> bool:
        """Whether somebody waits for room at one of these."""
        return bool(self.waiters) and any(subject in self._subjects for subject in subjects)

    def has_place(self, caller: str) -> bool:
        """Whether one more call of this caller may wait."""
        return len(self.waiters) < WAITING_CALLS and self._callers.get(caller, 0) < WAITING_CALLS_OF_ONE_CALLER

    async def wait(
        self,
        attempt: Callable[[], Any],
        undo: Callable[[Any], None],
        subjects: tuple[str, ...],
        turn: Turn,
        until: float,
    ) -> Any:
        """What `attempt` gives when its turn has come, or the Denied of `until` (a moment of the monotonic clock)."""
        waiter = Waiter(attempt, undo, subjects, turn, until, asyncio.get_running_loop().create_future())
        self._enter(waiter)
        try:
            return await waiter.outcome
        except asyncio.CancelledError:
            if waiter.outcome.done() and not waiter.outcome.cancelled():
                undo(waiter.outcome.result())  # it came at the moment that the caller went
            self._leave(waiter)
            self._stirred.set()
            raise

    def _enter(self, waiter: Waiter) -> None:
        caller = waiter.turn.caller
        self._number += 1
        waiter.number = self._number
        waiter.start = max(self._virtual, self._finishes.get(caller, 0.0))
        self._finishes[caller] = waiter.start + waiter.turn.cost / waiter.turn.weight
        self._callers[caller] = self._callers.get(caller, 0) + 1
        for subject in waiter.subjects:
            self._subjects[subject] = self._subjects.get(subject, 0) + 1
        insort(self.waiters, waiter, key=Waiter.key)
        self._stirred.set()
        if self._serving is None or self._serving.done():
            self._quota.when_freed(self._stirred.set)
            self._serving = asyncio.create_task(self._serve(), name="waiting calls")

    def _leave(self, waiter: Waiter) -> None:
        if waiter not in self.waiters:
            return
        self.waiters.remove(waiter)
        one_less(self._callers, waiter.turn.caller)
        for subject in waiter.subjects:
            one_less(self._subjects, subject)
        if not self.waiters:
            self._finishes.clear()
            self._virtual = 0.0

    async def _serve(self) -> None:
        """Serves until nobody waits."""
        try:
            while self.waiters:
                self._stirred.clear()
                await self._round()
                if self.waiters:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(self._pause_seconds()):
                            await self._stirred.wait()
        except Exception:  # noqa: BLE001  the end of a task: whoever waits must hear of it
            for waiter in tuple(self.waiters):
                self._leave(waiter)
                hand_over(waiter, Refusal(InternalError()))
        finally:
            self._quota.when_freed(None)

    async def _round(self) -> None:
        """Lets everybody try once, in order, but those behind somebody who waits for the same room."""
        denied: dict[str, Denied] = {}
        for waiter in tuple(self.waiters):
            if waiter.outcome.done():
                self._leave(waiter)
                continue
            outcome: Any = next((denied[subject] for subject in waiter.subjects if subject in denied), None)
            if outcome is None:
                outcome = waiter.attempt()
                if isinstance(outcome, NeedsWaiting):
                    outcome = await outcome.resume()
            if isinstance(outcome, Denied):
                denied.setdefault(outcome.subject, outcome)
                if self._clock.monotonic() < waiter.until:
                    continue
            else:
                self._virtual = max(self._virtual, waiter.start)
            self._leave(waiter)
            hand_over(waiter, outcome)

    def _pause_seconds(self) -> float:
        nearest = min(waiter.until for waiter in self.waiters) - self._clock.monotonic()
        return min(LOOK_SECONDS, max(0.001, nearest))


def hand_over(waiter: Waiter, outcome: Any) -> None:
    """Gives it to whoever waits, or back if nobody does any more."""
    if not waiter.outcome.done():
        waiter.outcome.set_result(outcome)
    else:
        waiter.undo(outcome)


def one_less(counts: dict[str, int], name: str) -> None:
    """Counts down; a zero is forgotten."""
    if counts[name] == 1:
        del counts[name]
    else:
        counts[name] -= 1


async def until_ready(waiting: NeedsWaiting[None], queue_seconds: float) -> Refusal | None:
    """Waits for a target whose model loads, no longer than its deployment lets a call wait."""
    try:
        async with asyncio.timeout(queue_seconds):
            return await waiting.resume()
    except TimeoutError:
        return Refusal(queued_too_long(queue_seconds))
