"""Writes the audit. Refusals are bounded: repeated ones of one actor are counted, not written one by one."""

from __future__ import annotations

import logging
from typing import Final

from msgspec import Struct, structs

from modelport.control.conditions import away
from modelport.control.plane_ports import Store
from modelport.core.clock import Clock
from modelport.core.ports.control import UNAUTHENTICATED, Action, Actor, AuditDraft, ControlStoreUnavailable

WINDOW_SECONDS: Final = 600.0
ENTRIES: Final = 100
"""Refusals of one actor in a window that have entries of their own; one entry has the number of all after them."""
UNAUTHENTICATED_ENTRIES: Final = 10
"""The same of all callers without a valid credential: they are one actor."""
ALL_ENTRIES: Final = 500
"""The same of all actors together."""
ACTORS: Final = 64
"""Followed at once; all others share one window."""
OTHERS: Final = ("", None)

_logger = logging.getLogger("modelport.control")

Who = tuple[str, str | None]


class Window(Struct):
    """What one actor was refused since `started`, in unix seconds. `last`: of those that are only counted."""

    started: float
    entries: int = 0
    counted: int = 0
    last: AuditDraft | None = None


class AuditTrail:
    """At most ALL_ENTRIES refusals and ACTORS + 1 numbers of them are written in a window, however many there are."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._windows: dict[Who, Window] = {}
        self._all = Window(clock.now())

    def draft(self, actor: Actor, action: Action, kind: str, name: str) -> AuditDraft:
        """What an entry begins with."""
        return AuditDraft(
            time_us=int(self._clock.now() * 1_000_000),
            actor=actor.name,
            key_id=actor.key_id,
            source=actor.source,
            action=action,
            kind=kind,
            name=name,
        )

    async def write(self, entry: AuditDraft) -> None:
        """One entry that must be there. Raises Unavailable."""
        try:
            await self._store.note(entry)
        except ControlStoreUnavailable as error:
            raise away() from error

    async def try_to_write(self, entry: AuditDraft) -> None:
        """One entry, if the store is there."""
        try:
            await self._store.note(entry)
        except ControlStoreUnavailable as error:
            _logger.warning("an entry of the audit could not be written: %s", error)

    async def refuse(self, refused: AuditDraft) -> None:
        """Writes or counts a refusal."""
        await self.write_counted()
        who: Who = (refused.actor, refused.key_id)
        if who not in self._windows and len(self._windows) >= ACTORS:
            who = OTHERS
        window = self._windows.setdefault(who, Window(self._clock.now()))
        entries = UNAUTHENTICATED_ENTRIES if refused.actor == UNAUTHENTICATED else ENTRIES
        if window.entries >= entries or self._all.entries >= ALL_ENTRIES:
            window.counted += 1
            window.last = refused
            return
        window.entries += 1
        self._all.entries += 1
        await self.try_to_write(refused)

    async def write_counted(self, *, is_last: bool = False) -> None:
        """Closes the windows that are over, or all of them: an entry with the number of refusals that have none of
        their own, beside what the last one was about."""
        now = self._clock.now()
        if now - self._all.started >= WINDOW_SECONDS:
            self._all = Window(now)
        for who, window in list(self._windows.items()):
            if now - window.started >= WINDOW_SECONDS or is_last:
                del self._windows[who]
                if window.last is not None:
                    after = {"further_refusals": window.counted}
                    await self.try_to_write(structs.replace(window.last, after=after))
