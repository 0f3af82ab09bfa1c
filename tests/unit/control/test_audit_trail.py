"""Refusals in the audit: each actor's first ones, then their number, whatever a flood of them looks like."""

from __future__ import annotations

from typing import Any, cast

from modelport.control.audit import (
    ACTORS,
    ALL_ENTRIES,
    ENTRIES,
    UNAUTHENTICATED_ENTRIES,
    WINDOW_SECONDS,
    AuditTrail,
)
from modelport.core.ports.control import UNAUTHENTICATED, Actor, AuditDraft, ControlStoreUnavailable


class At:
    """core.clock.Clock"""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


class Notes:
    """The part of a store that takes entries."""

    def __init__(self) -> None:
        self.entries: list[AuditDraft] = []
        self.is_away = False

    async def note(self, entry: AuditDraft) -> None:
        if self.is_away:
            raise ControlStoreUnavailable("away")
        self.entries.append(entry)

    @property
    def refusals(self) -> int:
        """How many refusals the entries are about."""
        return sum((entry.after or {}).get("further_refusals", 1) for entry in self.entries)


def trail() -> tuple[AuditTrail, Notes, At]:
    notes, clock = Notes(), At()
    return AuditTrail(cast(Any, notes), clock), notes, clock


async def refuse(audit: AuditTrail, actor: str, times: int = 1) -> None:
    for number in range(times):
        await audit.refuse(audit.draft(Actor(actor, f"{actor}/key1"), "delete", "keys", f"k{number}"))


async def test_what_comes_rarely_is_written_one_by_one() -> None:
    audit, notes, clock = trail()
    for _ in range(3):
        await refuse(audit, "a", ENTRIES)
        clock.time += WINDOW_SECONDS
    assert [entry.after for entry in notes.entries] == [None] * 3 * ENTRIES


async def test_a_flood_is_one_entry_more_in_each_window() -> None:
    audit, notes, clock = trail()
    for _ in range(2):
        await refuse(audit, "a", 1000)
        await refuse(audit, "b")
        clock.time += WINDOW_SECONDS
        await audit.write_counted()
    assert len(notes.entries) == 2 * (ENTRIES + 2)
    assert notes.refusals == 2 * 1001
    last = notes.entries[-1]
    assert (last.actor, last.name, last.after) == ("a", "k999", {"further_refusals": 1000 - ENTRIES})


async def test_many_actors_are_bounded_and_all_their_refusals_are_counted() -> None:
    audit, notes, _ = trail()
    for number in range(10 * ACTORS):
        await refuse(audit, f"actor-{number}", 2)
    assert len(notes.entries) == 2 * ACTORS + ENTRIES
    assert len(notes.entries) <= ALL_ENTRIES
    await audit.write_counted(is_last=True)
    assert notes.refusals == 20 * ACTORS
    await audit.write_counted(is_last=True)
    assert notes.refusals == 20 * ACTORS


async def test_all_actors_together_are_bounded() -> None:
    audit, notes, clock = trail()
    for _ in range(2):
        notes.entries.clear()
        for number in range(ACTORS):
            await refuse(audit, f"actor-{number}", ENTRIES)
        assert len(notes.entries) == ALL_ENTRIES
        clock.time += WINDOW_SECONDS
        await audit.write_counted()
        assert notes.refusals == ACTORS * ENTRIES


async def test_callers_without_a_credential_have_few_entries() -> None:
    audit, notes, _ = trail()
    for number in range(100):
        who = Actor(UNAUTHENTICATED, None, f"192.0.2.{number}")
        await audit.refuse(audit.draft(who, "delete", "keys", "a"))
    assert len(notes.entries) == UNAUTHENTICATED_ENTRIES


async def test_a_store_that_is_away_stops_no_refusal() -> None:
    audit, notes, _ = trail()
    notes.is_away = True
    await refuse(audit, "a", 2 * ENTRIES)
    assert notes.entries == []
